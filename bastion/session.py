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
from typing import TYPE_CHECKING, Any

from bastion import lifecycle, login, policy, trip
from bastion.errors import BastionError, Code
from bastion.model import RESERVED_SUBJECTS, Action, ConsoleLogin, Deny, ExecRequest, KubeIdentity, Outcome
from bastion.relay import relay
from bastion.taps import Taps
from bastion.trip import Admitted, Count, Refusal, Stamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from structlog.typing import FilteringBoundLogger

    from bastion.events import Exited, HungUp
    from bastion.model import SessionRecord
    from bastion.policy import Policy
    from bastion.ports import AuditLog, Client, Clock, Pods, Recorder, Recording
    from bastion.refusals import Refusals
    from bastion.trip import Asked, Begun, Visitor

_UNRECORDED = "the record of this session could not be kept, so the session was ended; try again later"

REAP_WITHIN_S = 40.0
REAP_AGAIN_S = (2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""Pauses before what a session left is looked for again, where the API server did not answer; eight minutes in all."""

CLOSE_WITHIN_S = 10.0
RETRY_END_S = 2.0
TRIES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A session whose rows are committed, and the person at its other end."""

    begun: Begun
    request: ExecRequest
    admitted: Admitted
    client: Client

    @property
    def session(self) -> SessionRecord:
        """The session's row."""
        return self.begun.session


@dataclass(frozen=True, slots=True, kw_only=True)
class Trips:
    """Everything a trip needs; one of these for a whole server.

    later: runs work that outlives a trip and is waited for at the server's end.
    """

    pods: Pods
    audit: AuditLog
    refusals: Refusals
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

    async def clean_up(self, session: SessionRecord) -> None:
        """End what a session left that an earlier life of this bastion did not close."""
        await self._reap(session, Outcome.BROKEN)

    async def refuse(self, visitor: Visitor, refusal: Refusal) -> None:
        """Write down that a person was refused."""
        await self.refusals.write(trip.refused(visitor, refusal, self._stamp()))

    async def _run(self, visitor: Visitor, asked: Asked, client: Client) -> int:
        try:
            admitted = await self._admit(visitor, asked.action)
        except BastionError as error:
            await self.refuse(visitor, trip.refusal_of(asked.action, error))
            raise
        if isinstance(admitted, Deny):
            await self.refuse(visitor, Refusal(action=asked.action, rule=admitted.rule, reason=admitted.reason))
            client.notice(f"denied: {admitted.reason}")
            return lifecycle.DENIED
        if client.is_gone:
            return lifecycle.BROKEN  # before anything began
        begun = trip.begun(visitor, asked, admitted, self._stamp(), self.new_id())
        await self._begin(begun, visitor)
        session = begun.session
        if asked.pty is not None and admitted.resolved.chosen_from:
            client.notice(f"{session.target.pod} of {admitted.resolved.chosen_from}")
        request = ExecRequest(command=asked.command, pty=asked.pty, env=asked.env, marker=session.id)
        return await self._work(Work(begun=begun, request=request, admitted=admitted, client=client))

    async def _begin(self, begun: Begun, visitor: Visitor) -> None:
        """Write down that a session begins, or see to it that it is closed if it turns out to be written after all."""
        try:
            await self.audit.start_session(begun.session, begun.command)
        except BastionError as error:
            rows = trip.ended(
                begun, lifecycle.ending(error), Count(), complete=True, monotonic_s=self.clock.monotonic()
            )
            work = self._insist(lambda: self.audit.end_session(*rows), "refused session", tries=TRIES)
            self.later(work, f"end-{begun.session.id}")
            # Later too: the person need not wait until that cannot be written either.
            refusal = trip.refusal_of(begun.session.action, error)
            self.later(self.refuse(visitor, refusal), f"refusal-{begun.session.id}")
            raise

    async def _admit(self, visitor: Visitor, action: Action) -> Admitted | Deny:
        """Decide: by namespace first, so that nobody learns what is in one they have no rule for."""
        if visitor.person.subject in RESERVED_SUBJECTS:
            return Deny(rule="reserved-subject", reason=f"nobody may be called {visitor.person.subject}")
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
        return Admitted(
            resolved=resolved,
            allow=decision,
            identity=identity,
            reviewed=reviewed,
            policy_digest=self.policy.digest,
        )

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
        going = asyncio.create_task(self._exec(work, taps, count), name="session-exec")
        gone = asyncio.create_task(work.client.hung_up(), name="session-gone")
        try:
            await asyncio.wait({going, gone}, return_when=asyncio.FIRST_COMPLETED)
            end = going.result() if going.done() else gone.result()  # the pod's own end comes first
        except BastionError as error:
            return error
        except Exception:
            self.log.exception("session.bug", session=work.session.id)
            return BastionError(
                Code.STREAM_BROKEN, "something went wrong inside the bastion; its operators can see what"
            )
        finally:
            for task in (going, gone):
                task.cancel()
            await asyncio.gather(going, gone, return_exceptions=True)
        taps.take(end)
        return end

    async def _exec(self, work: Work, taps: Taps, count: Count) -> Exited:
        async with self.pods.exec(work.session.target, work.request, work.admitted.identity) as stream:
            return await relay(work.client, stream, taps, count)

    async def _close_recording(self, recording: Recording, verdict: lifecycle.Ending) -> tuple[lifecycle.Ending, bool]:
        """Make the transcript durable; a transcript that is not makes the session UNRECORDED."""
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await recording.close()
        except (BastionError, TimeoutError) as error:
            self.log.error("recording.lost", error=str(error))
            lost = BastionError(Code.RECORD_UNAVAILABLE, _UNRECORDED)
            return lifecycle.ending(lost), False
        return verdict, verdict.outcome is not Outcome.UNRECORDED

    async def _write_end(self, work: Work, verdict: lifecycle.Ending, count: Count, *, complete: bool) -> None:
        """Write down how a session ended. Raises RECORD_UNAVAILABLE where the person is yet to be told."""
        session, now = work.session, self.clock.monotonic()
        rows = trip.ended(work.begun, verdict, count, complete=complete, monotonic_s=now)
        try:
            await self.audit.end_session(*rows)
        except BastionError as error:
            told = verdict if verdict.outcome is Outcome.UNRECORDED else lifecycle.ending(error)
            late = trip.ended(work.begun, told, count, complete=complete, monotonic_s=now)
            self.later(self._insist(lambda: self.audit.end_session(*late), "end"), f"end-{session.id}")
            if told is not verdict:
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
            seconds=round(now - work.begun.monotonic_s, 3),
            bytes_in=count.bytes_in,
            bytes_out=count.bytes_out,
            complete=complete,
        )

    async def _insist(self, write: Callable[[], Awaitable[None]], what: str, *, tries: int | None = None) -> None:
        """Write what must be written once it can be; what stays open at the end is closed by the next start."""
        tried = 0
        while tries is None or tried < tries:
            tried += 1
            try:
                return await write()
            except BastionError as error:
                if tried % TRIES == 1:  # the first, and two in a minute
                    self.log.warning("record.waits", what=what, tried=tried, error=str(error))
                if error.code is Code.CONFLICT:  # there is another of it, and will be
                    return None
            await asyncio.sleep(RETRY_END_S)
        return None

    async def _reap(self, session: SessionRecord, outcome: Outcome) -> None:
        """End what the session left in the pod, and say so in the record.

        Where it cannot be looked for, that is said, and it is looked for again when the cluster may be back.
        """
        for pause in (0.0, *REAP_AGAIN_S):
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(REAP_WITHIN_S):
                    reaped = await self.pods.reap(session.target, session.id)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is told: what is left is never passed over
                if _nothing_can_be_left(error, outcome):
                    return
                if not pause:
                    await self._tell(session, "session.not_reaped", Outcome.FAILED, str(error) or type(error).__name__)
                if not _may_pass(error):
                    return
            else:
                if reaped.ended or reaped.left or pause:
                    done = Outcome.FAILED if reaped.left else Outcome.SUCCESS
                    said = f"processes ended: {reaped.ended}" + (f", still there: {reaped.left}" if reaped.left else "")
                    await self._tell(session, "session.reaped", done, said)
                return

    async def _tell(self, session: SessionRecord, kind: str, outcome: Outcome, reason: str) -> None:
        """Write down what happened to a session, however long that takes."""
        event = trip.told(session, kind, outcome, reason, self._stamp())
        await self._insist(lambda: self.audit.event(event), "event")

    def _stamp(self) -> Stamp:
        return Stamp(id=self.new_id(), at=self.clock.now(), monotonic_s=self.clock.monotonic())


def _nothing_can_be_left(error: BaseException, outcome: Outcome) -> bool:
    """Whether not having looked is no news: the pod is gone, or a program that ran without a shell ended by itself."""
    code = error.code if isinstance(error, BastionError) else None
    return code in {Code.TARGET_MISSING, Code.TARGET_NOT_RUNNING} or (
        code is Code.NO_SHELL and outcome in {Outcome.EXITED, Outcome.NOT_STARTED}
    )


def _may_pass(error: Exception) -> bool:
    """Whether it was the way to the pod that failed, which may be there again."""
    return isinstance(error, TimeoutError) or (
        isinstance(error, BastionError) and error.code in {Code.CLUSTER_UNAVAILABLE, Code.STREAM_BROKEN}
    )
