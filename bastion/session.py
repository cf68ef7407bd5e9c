"""One trip: from a request on an ssh channel to its end in the record; called by ssh, built by app.

    login -> policy -> pods.resolve -> policy -> review -> record -> pods.exec -> taps -> client

No byte reaches a pod before the decision, the session row and an exec's command
line are committed. Output is recorded before it is forwarded. Whatever ends the
trip, the record is closed, the person is told, and what the pod still runs for
it is ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from bastion import lifecycle, login, policy
from bastion.errors import BastionError, Code
from bastion.model import (
    Action,
    Allow,
    AuditEvent,
    CommandEnd,
    CommandRecord,
    ConsoleLogin,
    Deny,
    ExecRequest,
    KubeIdentity,
    Outcome,
    SessionEnd,
    SessionRecord,
)
from bastion.relay import Count, relay
from bastion.taps import Taps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from structlog.typing import FilteringBoundLogger

    from bastion.events import Exited, HungUp
    from bastion.model import Credential, Person, Pty, Resolved, Source
    from bastion.policy import Policy
    from bastion.ports import AuditLog, Client, Clock, Pods, Recorder, Recording

REAP_WITHIN_S = 40.0
CLOSE_WITHIN_S = 10.0
RETRY_END_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who stands at the door: a person, proved on a recorded connection."""

    connection: str
    person: Person
    credential: Credential
    source: Source
    login: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for on a channel: a shell (command is None) or a command."""

    command: bytes | None
    pty: Pty | None
    env: tuple[tuple[str, str], ...] = ()
    refused_env: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        """The action a role must allow for this."""
        return Action.SHELL if self.command is None else Action.EXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A decision for, with everything that led to it."""

    resolved: Resolved
    allow: Allow
    identity: KubeIdentity
    reviewed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a person was refused, by which rule, in which words."""

    action: str
    rule: str
    reason: str
    outcome: Outcome = Outcome.DENIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A session whose row is committed, and the person at its other end."""

    session: SessionRecord
    command: CommandRecord | None
    request: ExecRequest
    admitted: Admitted
    client: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Trips:
    """Everything a trip needs; one of these for a whole server.

    later: runs work that outlives a trip and is waited for at the server's end.
    """

    pods: Pods
    audit: AuditLog
    recorder: Recorder
    policy: Policy
    clock: Clock
    new_id: Callable[[], str]
    log: FilteringBoundLogger
    later: Callable[[Coroutine[Any, Any, None], str], None]

    async def run(self, visitor: Visitor, asked: Asked, client: Client) -> None:
        """Make one trip and end it with an exit status, whatever happens. Never raises."""
        try:
            status = await self._run(visitor, asked, client)
        except BastionError as error:
            # refused, or failed before there was a session to end
            status = lifecycle.ending(error).status
            client.notice(error.user_message)
        except Exception:
            self.log.exception("trip.bug", person=visitor.person.subject, login=visitor.login)
            status = lifecycle.BROKEN
            client.notice("something went wrong inside the bastion; its operators find it in their log")
        client.exit(status)

    async def refuse(self, visitor: Visitor, refusal: Refusal) -> None:
        """Write down that a person was refused. Raises BastionError(RECORD_UNAVAILABLE)."""
        await self.audit.event(
            AuditEvent(
                id=self.new_id(),
                at=self.clock.now(),
                type="session.refused",
                outcome=refusal.outcome,
                actor=f"person:{visitor.person.subject}",
                person=visitor.person.subject,
                credential=visitor.credential.id,
                source=visitor.source.host,
                connection=visitor.connection,
                login=visitor.login,
                action=refusal.action,
                rule=refusal.rule,
                reason=refusal.reason,
                **_place(visitor.login),
            )
        )

    async def _run(self, visitor: Visitor, asked: Asked, client: Client) -> int:
        try:
            admitted = await self._admit(visitor, asked.action)
        except BastionError as error:
            if error.code is not Code.RECORD_UNAVAILABLE:
                await self.refuse(visitor, _refusal(asked.action, error))
            raise
        if isinstance(admitted, Deny):
            await self.refuse(visitor, Refusal(action=asked.action, rule=admitted.rule, reason=admitted.reason))
            client.notice(f"denied: {admitted.reason}")
            return lifecycle.DENIED
        session = self._session_record(visitor, asked, admitted)
        command = self._command_record(session, asked)
        await self.audit.start_session(session, command)
        if asked.pty is not None and admitted.resolved.chosen_from:
            client.notice(f"{session.target.pod} of {admitted.resolved.chosen_from}")
        request = ExecRequest(command=asked.command, pty=asked.pty, env=asked.env, marker=session.id)
        return await self._work(
            Work(session=session, command=command, request=request, admitted=admitted, client=client)
        )

    async def _admit(self, visitor: Visitor, action: Action) -> Admitted | Deny:
        """Decide: by namespace first, so that nobody learns what is in one they have no rule for."""
        where = login.parse(visitor.login)
        if isinstance(where, ConsoleLogin):
            raise BastionError(
                Code.LOGIN_INVALID,
                f"{where.name} names no pod; log in as POD.NAMESPACE@…, for example web.shop@…",
            )
        refused = policy.may_enter(visitor.person, where.namespace, action, self.policy)
        if refused is not None:
            return refused
        resolved = await self.pods.resolve(where)
        decision = policy.decide(visitor.person, resolved.target, action, self.policy)
        if isinstance(decision, Deny):
            return decision
        identity = KubeIdentity(user=f"bastion:{visitor.person.subject}", groups=decision.kubernetes_groups)
        reviewed = await self.pods.review(resolved.target, identity)
        return Admitted(resolved=resolved, allow=decision, identity=identity, reviewed=reviewed)

    async def _work(self, work: Work) -> int:
        """Do what a committed session is for, then close its record."""
        recording = self.recorder.open(work.session.id, work.admitted.allow.record, pty=work.request.pty is not None)
        count = Count()
        verdict = lifecycle.ending(await self._outcome(work, Taps([recording], self.clock), count))
        verdict, complete = await self._close_recording(recording, verdict)
        self.later(self._reap(work.session, verdict.outcome), f"reap-{work.session.id}")
        if verdict.reason:
            work.client.notice(verdict.reason)
        await self._write_end(work, verdict, count, complete=complete)
        return verdict.status

    async def _outcome(self, work: Work, taps: Taps, count: Count) -> Exited | HungUp | BastionError:
        """What ended the session: every failure is a value here, so that its record is always closed."""
        try:
            return await self._exec(work, taps, count)
        except BastionError as error:
            return error
        except Exception:
            self.log.exception("session.bug", session=work.session.id)
            return BastionError(
                Code.STREAM_BROKEN, "something went wrong inside the bastion; its operators can see what"
            )

    async def _exec(self, work: Work, taps: Taps, count: Count) -> Exited | HungUp:
        async with self.pods.exec(work.session.target, work.request, work.admitted.identity) as stream:
            end = await relay(work.client, stream, taps, count)
            taps.take(end)
            return end

    async def _close_recording(self, recording: Recording, verdict: lifecycle.Ending) -> tuple[lifecycle.Ending, bool]:
        """Make the transcript durable; a transcript that is not makes the session UNRECORDED."""
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await recording.close()
        except (BastionError, TimeoutError) as error:
            self.log.error("recording.lost", error=str(error))
            lost = BastionError(
                Code.RECORD_UNAVAILABLE, "the record of this session could not be kept, so the session was ended"
            )
            return lifecycle.ending(lost), False
        return verdict, verdict.outcome is not Outcome.UNRECORDED

    async def _write_end(self, work: Work, verdict: lifecycle.Ending, count: Count, *, complete: bool) -> None:
        session, command = work.session, work.command
        now = self.clock.now()
        end = SessionEnd(
            session=session.id,
            status=verdict.status,
            outcome=verdict.outcome,
            reason=verdict.reason,
            bytes_in=count.bytes_in,
            bytes_out=count.bytes_out,
            complete=complete,
            ended_at=now,
        )
        ended = CommandEnd(command=command.id, status=verdict.status, ended_at=now) if command else None
        try:
            await self.audit.end_session(end, ended)
        except BastionError:
            self.later(self._insist(lambda: self.audit.end_session(end, ended), "end"), f"end-{session.id}")
            if verdict.outcome is not Outcome.UNRECORDED:  # of which the person was told
                raise
        self.log.info(
            "session",
            session=session.id,
            person=session.person,
            source=session.source.host,
            target=str(session.target),
            action=session.action,
            role=session.role,
            outcome=verdict.outcome,
            status=verdict.status,
            reason=verdict.reason,
            seconds=round((now - session.started_at).total_seconds(), 3),
            bytes_in=count.bytes_in,
            bytes_out=count.bytes_out,
            complete=complete,
        )

    async def _insist(self, write: Callable[[], Awaitable[None]], what: str) -> None:
        """Write what must be written once it can be; what stays open at the end is closed by the next start."""
        while True:
            try:
                return await write()
            except BastionError as error:
                self.log.warning("record.waits", what=what, error=str(error))
            await asyncio.sleep(RETRY_END_S)

    async def _reap(self, session: SessionRecord, outcome: Outcome) -> None:
        """End what the session left in the pod, and say so in the record."""
        try:
            async with asyncio.timeout(REAP_WITHIN_S):
                reaped = await self.pods.reap(session.target, session.id)
        except (BastionError, TimeoutError) as error:
            if _nothing_can_be_left(error, outcome):
                return
            event = self._about(session, "session.not_reaped", Outcome.FAILED, str(error))
        else:
            if not reaped.ended and not reaped.left:
                return
            done = Outcome.FAILED if reaped.left else Outcome.SUCCESS
            said = f"ended {reaped.ended} processes" + (f", {reaped.left} would not end" if reaped.left else "")
            event = self._about(session, "session.reaped", done, said)
        await self._insist(lambda: self.audit.event(event), "event")

    def _session_record(self, visitor: Visitor, asked: Asked, admitted: Admitted) -> SessionRecord:
        return SessionRecord(
            id=self.new_id(),
            connection=visitor.connection,
            person=visitor.person.subject,
            credential=visitor.credential,
            source=visitor.source,
            login=visitor.login,
            action=asked.action,
            target=admitted.resolved.target,
            role=admitted.allow.role,
            rule=admitted.allow.rule,
            reason=admitted.reviewed,
            policy_digest=self.policy.digest,
            pty=asked.pty,
            refused_env=asked.refused_env,
            record_input=admitted.allow.record.input,
            started_at=self.clock.now(),
        )

    def _command_record(self, session: SessionRecord, asked: Asked) -> CommandRecord | None:
        if asked.command is None:
            return None
        return CommandRecord(
            id=self.new_id(),
            session=session.id,
            seq=0,
            kind="exec",
            source="request",
            text=asked.command,
            started_at=session.started_at,
        )

    def _about(self, session: SessionRecord, kind: str, outcome: Outcome, reason: str) -> AuditEvent:
        return AuditEvent(
            id=self.new_id(),
            at=self.clock.now(),
            type=kind,
            outcome=outcome,
            actor="system",
            person=session.person,
            session=session.id,
            namespace=session.target.namespace,
            pod=session.target.pod,
            container=session.target.container,
            reason=reason,
        )


def _refusal(action: str, error: BastionError) -> Refusal:
    outcome = Outcome.DENIED if error.code in lifecycle.REFUSALS else Outcome.FAILED
    return Refusal(action=action, rule=str(error.code), reason=error.user_message, outcome=outcome)


def _nothing_can_be_left(error: BaseException, outcome: Outcome) -> bool:
    """Whether not having looked is no news: the pod is gone, or a program that ran without a shell ended by itself."""
    code = error.code if isinstance(error, BastionError) else None
    return code in {Code.TARGET_MISSING, Code.TARGET_NOT_RUNNING} or (
        code is Code.NO_SHELL and outcome in {Outcome.EXITED, Outcome.NOT_STARTED}
    )


class _Place(TypedDict, total=False):
    namespace: str
    pod: str
    container: str


def _place(text: str) -> _Place:
    """Where a login leads, as far as it says, for events about a target that was not reached."""
    try:
        where = login.parse(text)
    except BastionError:
        return {}
    if isinstance(where, ConsoleLogin):
        return {}
    return {"namespace": where.namespace, "pod": where.name, "container": where.container}
