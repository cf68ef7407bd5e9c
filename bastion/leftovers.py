"""What a session leaves behind: processes in its pod, and rows that have to wait; used by session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion import trip
from bastion.errors import BastionError, Code
from bastion.model import Outcome
from bastion.trip import Stamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from bastion.metrics import Metrics
    from bastion.model import Reaped, SessionRecord
    from bastion.ports import AuditLog, Clock, Pods

REAP_WITHIN_S = 40.0
REAP_AGAIN_S = (2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""Pauses before what a session left is looked for again, where the API server did not answer; eight minutes in all."""

RETRY_END_S = 2.0
TRIES = 15
"""How often a row is tried to be written that may be given up, each after RETRY_END_S."""


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

    async def reap(self, session: SessionRecord, outcome: Outcome, *, lingering: bool = False) -> None:
        """End what the session left in the pod, and say so in the record.

        Where it cannot be looked for, that is said, and it is looked for again when the cluster may be back.
        """
        for pause in (0.0, *REAP_AGAIN_S):
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(REAP_WITHIN_S):
                    reaped = await self.pods.reap(session.target, session.id, lingering=lingering)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is told: what is left is never passed over
                if _nothing_can_be_left(error, outcome):
                    return
                if not pause:
                    self.metrics.not_reaped()
                    await self.tell(session, "session.not_reaped", Outcome.FAILED, str(error) or type(error).__name__)
                if not _may_pass(error):
                    return
            else:
                self.metrics.reaped(reaped)
                if reaped.ended or reaped.left or reaped.unseen or pause:
                    whole = not reaped.unseen and (lingering or not reaped.left)
                    done = Outcome.SUCCESS if whole else Outcome.FAILED
                    await self.tell(session, "session.reaped", done, _found(reaped, lingering=lingering))
                return

    async def tell(self, session: SessionRecord, kind: str, outcome: Outcome, reason: str) -> None:
        """Write down what happened to a session, however long that takes."""
        event = trip.told(session, kind, outcome, reason, self._stamp())
        await self.insist(lambda: self.audit.event(event), "event")

    def _stamp(self) -> Stamp:
        return Stamp(id=self.new_id(), at=self.clock.now(), monotonic_s=self.clock.monotonic())


def _found(reaped: Reaped, *, lingering: bool) -> str:
    """What became of a session's processes, for its event."""
    said = f"processes ended: {reaped.ended}"
    if reaped.left:
        said += f", {'left on purpose' if lingering else 'still there'}: {reaped.left}"
    if reaped.unseen:
        said += f", another user's, which could be neither looked into nor ended: {reaped.unseen}"
    return said


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
