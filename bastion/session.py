"""One trip: from a request on an ssh channel to its end in the record; called by ssh, built by app.

    gate -> record -> pods.exec -> relay (taps, then the client) -> record -> leftovers

No byte reaches a pod before the decision, the session row and an exec's command
line are committed. Output is recorded before it is forwarded. Whatever ends the
trip, the record is closed, the person is told, and what the pod still runs for
it is ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bastion import lifecycle, trip
from bastion.besides import Besides
from bastion.errors import BastionError, Code
from bastion.leftovers import TRIES
from bastion.model import Deny, Outcome
from bastion.relay import relay
from bastion.taps import Taps
from bastion.trip import Asked, Count, Refusal, Stamp
from bastion.work import A_WHILE_S, Terms, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from structlog.typing import FilteringBoundLogger

    from bastion.events import Exited, HungUp
    from bastion.gate import Gate
    from bastion.leftovers import Leftovers
    from bastion.model import Resolved
    from bastion.ports import AuditLog, Client, Clock, ExecStream, Pods, Recorder, Recording
    from bastion.refusals import Refusals
    from bastion.trip import Begun, Visitor
    from bastion.work import LetIn, Look

_UNRECORDED = "the record of this session could not be kept, so the session was ended; try again later"

CLOSE_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trips:
    """Everything a trip needs; one of these for a whole server.

    later: runs work that outlives a trip and is waited for at the server's end.
    """

    gate: Gate
    pods: Pods
    audit: AuditLog
    refusals: Refusals
    recorder: Recorder
    leftovers: Leftovers
    clock: Clock
    new_id: Callable[[], str]
    log: FilteringBoundLogger
    later: Callable[[Coroutine[Any, Any, None], str], None]

    async def run(self, visitor: Visitor, asked: Asked, client: Client, let_in: LetIn) -> None:
        """Make one trip and end it with an exit status, whatever happens. Never raises.

        let_in: asks for the person anew; for what begins only after it was waited for.
        """
        await self.guarded(visitor, asked.action, client, self._trip(visitor, asked, client, let_in))

    async def guarded(self, visitor: Visitor, action: str, client: Client, work: Awaitable[int]) -> None:
        """Do something for a person and end their channel with the status it gives, whatever happens. Never raises.

        A BastionError becomes a line on stderr and a status; that it is in the record is the business of the work.
        """
        try:
            status = await work
        except BastionError as error:
            status = lifecycle.ending(error).status
            client.notice(error.user_message)
        except Exception:
            self.log.exception("trip.bug", person=visitor.person.subject, login=visitor.login, action=action)
            status = lifecycle.BROKEN
            client.notice("something went wrong inside the bastion; its operators find it in their log")
        client.exit(status)

    async def look(self, visitor: Visitor, look: Look, client: Client) -> int:
        """Show a person something about a target, as a session like any other; returns its status.

        Raises BastionError for what was refused, and is in the record.
        """
        asked = Asked(command=look.command, pty=look.pty, action=look.action)
        visitor = replace(visitor, login=str(look.where))

        async def known() -> Visitor:
            return visitor

        return await self._trip(visitor, asked, client, known, look)

    async def refuse(self, visitor: Visitor, refusal: Refusal) -> None:
        """Write down that a person was refused."""
        await self.refusals.write(trip.refused(visitor, refusal, self._stamp()))

    async def _trip(
        self, visitor: Visitor, asked: Asked, client: Client, let_in: LetIn, look: Look | None = None
    ) -> int:
        try:
            began = self.clock.monotonic()
            admitted = await self.gate.admit(visitor, asked.action, client, looks=look is not None)
        except BastionError as error:
            await self.refuse(visitor, trip.refusal_of(asked, error))
            raise
        if self.clock.monotonic() - began > A_WHILE_S:
            now = await let_in()
            if now is None:
                return lifecycle.DENIED
            if now.person != visitor.person:
                return await self._trip(replace(visitor, person=now.person), asked, client, let_in, look)
        if isinstance(admitted, Deny):
            refusal = Refusal(action=asked.action, rule=admitted.rule, reason=admitted.reason, command=asked.command)
            await self.refuse(visitor, refusal)
            client.notice(f"denied: {admitted.reason}")
            return lifecycle.DENIED
        if client.is_gone:
            return lifecycle.BROKEN  # before anything began
        begun = trip.begun(visitor, asked, admitted, self._stamp(), self.new_id())
        await self._begin(begun, visitor, asked)
        self._say_where(admitted.resolved, asked, client)
        allow, target = admitted.allow, admitted.resolved.target
        work = Work(
            begun=begun,
            asked=asked,
            admitted=admitted,
            visitor=visitor,
            client=client,
            recording=self.recorder.open(begun.session.id, allow.record, pty=asked.pty is not None),
            terms=Terms(where=target, lingering=allow.lingering),
            let_in=let_in,
            look=look,
        )
        return await self._work(work)

    @staticmethod
    def _say_where(resolved: Resolved, asked: Asked, client: Client) -> None:
        """What a person should know of where they are: which pod it is where it was a choice."""
        if resolved.stale and asked.pty is not None:
            client.notice("the list of pods is out of date (the API server was away), so it was asked directly")
        if resolved.chosen_from:
            client.notice(f"{resolved.target.pod} of {resolved.chosen_from}")

    async def _begin(self, begun: Begun, visitor: Visitor, asked: Asked) -> None:
        """Write down that a session begins, or see to it that it is closed if it turns out to be written after all."""
        try:
            await self.audit.start_session(begun.session, begun.command)
        except BastionError as error:
            rows = trip.ended(
                begun, lifecycle.ending(error), Count(), complete=True, monotonic_s=self.clock.monotonic()
            )
            work = self.leftovers.insist(lambda: self.audit.end_session(*rows), "refused session", tries=TRIES)
            self.later(work, f"end-{begun.session.id}")
            # Later too: the person need not wait until that cannot be written either.
            refusal = trip.refusal_of(asked, error)
            self.later(self.refuse(visitor, refusal), f"refusal-{begun.session.id}")
            raise

    async def _work(self, work: Work) -> int:
        """Do what a committed session is for, then close its record."""
        count = Count()
        verdict = lifecycle.ending(await self._outcome(work, Taps([work.recording], self.clock), count))
        verdict, complete = await self._close_recording(work.recording, verdict)
        if work.look is None:
            terms = work.terms
            reaping = self.leftovers.reap(work.session, verdict.outcome, where=terms.where, lingering=terms.lingering)
            self.later(reaping, f"reap-{work.session.id}")
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
        try:
            async with self._opened(work) as stream:
                return await relay(work.client, stream, taps, count)
        except BastionError as error:
            if error.code is not Code.NO_SHELL or work.look is not None or work.asked.command is not None:
                raise
        besides = Besides(gate=self.gate, pods=self.pods, audit=self.audit, clock=self.clock, stamp=self._stamp)
        identity = await besides.enter(work)
        async with self.pods.exec(work.terms.where, work.request, identity, work.client.waiting) as stream:
            return await relay(work.client, stream, taps, count)

    def _opened(self, work: Work) -> AbstractAsyncContextManager[ExecStream]:
        target = work.session.target
        if work.look is not None:
            return work.look.open(target, work.identity)
        return self.pods.exec(target, work.request, work.identity, work.client.waiting)

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
            self.later(self.leftovers.insist(lambda: self.audit.end_session(*late), "end"), f"end-{session.id}")
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

    def _stamp(self) -> Stamp:
        return Stamp(id=self.new_id(), at=self.clock.now(), monotonic_s=self.clock.monotonic())
