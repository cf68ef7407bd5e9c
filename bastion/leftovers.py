"""What a session leaves behind: processes in its pod, and rows that have to wait; used by session and app."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from bastion import trip
from bastion.errors import BastionError, Code
from bastion.model import Outcome
from bastion.trip import Stamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from bastion.metrics import Metrics
    from bastion.model import Reaped, Target
    from bastion.ports import AuditLog, Clock, Pods
    from bastion.records import SessionRecord
    from bastion.store.orphans import Left

REAP_WITHIN_S = 40.0
REAP_AGAIN_S = (2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""Pauses before what a session left is looked for again, where the API server did not answer; eight minutes in all."""

SETTLED = timedelta(seconds=sum(REAP_AGAIN_S) + (1 + len(REAP_AGAIN_S)) * REAP_WITHIN_S)
"""So long after a session's end nothing that it left is looked for any more, as every try takes its time."""

APART_S = 0.02
"""How far apart a new life begins to look into containers, so that the API server is not asked for all at once."""

ENDED_FIRST = "the bastion ended before it had looked for what the session left; it looks again when it starts"

RETRY_END_S = 2.0
TRIES = 15
"""How often a row is tried to be written that may be given up, each after RETRY_END_S."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sought:
    """What a session may have left: how it ended, where it ran, and whether what was left on purpose may go on."""

    session: SessionRecord
    outcome: Outcome
    where: Target
    lingering: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Does it; one of these for a whole server."""

    pods: Pods
    audit: AuditLog
    clock: Clock
    new_id: Callable[[], str]
    log: FilteringBoundLogger
    metrics: Metrics

    async def insist(self, write: Callable[[], Awaitable[None]], what: str, *, tries: int | None = None) -> None:
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

    async def reap(self, session: SessionRecord, outcome: Outcome, *, where: Target, lingering: bool = False) -> None:
        """End what the session left in the pod, and say so in the record.

        where: the container that its process ran in: the session's target, or a debug container beside it.
        Where it cannot be looked for, that is said, and it is looked for again when the cluster may be back.
        What is not known when this is cancelled is said to be so: the next start looks again.
        """
        sought = _Sought(session=session, outcome=outcome, where=where, lingering=lingering)
        await self._reap(sought, is_told=False, after_s=0.0)

    async def reap_again(self, left: Left, *, lingering: bool, after_s: float) -> None:
        """The same for a session of an earlier life, after some seconds; what is told already is not told again."""
        sought = _Sought(session=left.session, outcome=left.outcome, where=left.where, lingering=lingering)
        await self._reap(sought, is_told=left.is_told, after_s=after_s)

    async def _reap(self, sought: _Sought, *, is_told: bool, after_s: float) -> None:
        """is_told: the record says that what the session left could not be looked for."""
        session = sought.session
        try:
            for pause in (after_s, *REAP_AGAIN_S):
                await asyncio.sleep(pause)
                found = await self._look(sought)
                was_told, is_told = is_told, True
                if not isinstance(found, Exception):
                    return await self._tell_found(session, found, lingering=sought.lingering, was_told=was_told)
                if _is_no_news(found, sought.outcome):
                    return None
                if not was_told:
                    self.metrics.not_reaped()
                    await self.tell(session, "session.not_reaped", Outcome.FAILED, str(found) or type(found).__name__)
                if not _may_pass(found):
                    return None
        except asyncio.CancelledError:
            if not is_told:
                await self._tell_unknown(session)
            raise

    async def _look(self, sought: _Sought) -> Reaped | Exception:
        try:
            async with asyncio.timeout(REAP_WITHIN_S):
                return await self.pods.reap(sought.where, sought.session.id, lingering=sought.lingering)
        except TimeoutError:
            return BastionError(Code.STREAM_BROKEN, f"what the session left was not known after {REAP_WITHIN_S:.0f} s")
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told: what is left is never passed over
            return error

    async def _tell_found(self, session: SessionRecord, reaped: Reaped, *, lingering: bool, was_told: bool) -> None:
        self.metrics.reaped(reaped)
        if reaped.ended or reaped.left or reaped.unseen or was_told:
            whole = not reaped.unseen and (lingering or not reaped.left)
            done = Outcome.SUCCESS if whole else Outcome.FAILED
            await self.tell(session, "session.reaped", done, _found(reaped, lingering=lingering))

    async def _tell_unknown(self, session: SessionRecord) -> None:
        """Write down at the bastion's end that it did not get to look. Once: the record may be away for longer."""
        self.metrics.not_reaped()
        event = trip.told(session, "session.not_reaped", Outcome.FAILED, ENDED_FIRST, self._stamp())
        try:
            await self.audit.event(event)
        except BastionError as error:
            self.log.warning("reap.unknown", session=session.id, error=str(error))

    async def tell(self, session: SessionRecord, kind: str, outcome: Outcome, reason: str) -> None:
        """Write down what happened to a session, however long that takes."""
        event = trip.told(session, kind, outcome, reason, self._stamp())
        await self.insist(lambda: self.audit.event(event), "event")

    def _stamp(self) -> Stamp:
        return Stamp(id=self.new_id(), at=self.clock.now(), monotonic_s=self.clock.monotonic())


def in_turn(left: Sequence[Left], now: datetime) -> Iterator[tuple[float, Left]]:
    """What is to be looked for again after a start, and after how many seconds: one container after the other.

    Of the sessions that had ended, those that were not SETTLED at the last sign of life, which is the newest end: that
    life may have gone on, and then a few are looked for in vain. An end in the future is of a clock that was wrong.
    """
    last = max((one.ended_at for one in left if one.ended_at <= now + SETTLED), default=now)
    turns: dict[tuple[str, str], int] = {}
    for one in left:
        if one.was_open or one.ended_at >= last - SETTLED:
            yield APART_S * turns.setdefault((one.where.pod_uid, one.where.container), len(turns)), one


def _found(reaped: Reaped, *, lingering: bool) -> str:
    """What became of a session's processes, for its event."""
    said = f"processes ended: {reaped.ended}"
    if reaped.left:
        said += f", {'left on purpose' if lingering else 'still there'}: {reaped.left}"
    if reaped.unseen:
        said += f", another user's, which could be neither looked into nor ended: {reaped.unseen}"
    return said


def _is_no_news(error: BaseException, outcome: Outcome) -> bool:
    """Whether nothing is told: the pod or container is gone, or a program that ran without a shell ended by itself.

    That something was found, or nothing, is never told then. A pod that was deleted by force may still run on a node
    that is lost; mostly the node was found to be away before, and then what was told of that stands.
    """
    code = error.code if isinstance(error, BastionError) else None
    return code in {Code.TARGET_MISSING, Code.TARGET_NOT_RUNNING} or (
        code is Code.NO_SHELL and outcome in {Outcome.EXITED, Outcome.NOT_STARTED}
    )


def _may_pass(error: Exception) -> bool:
    """Whether it was the way to the pod that failed, which may be there again."""
    return isinstance(error, BastionError) and error.code in {Code.CLUSTER_UNAVAILABLE, Code.STREAM_BROKEN}
