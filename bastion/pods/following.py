"""A log that is followed does not just end: what became of its container, pod or connection is asked; used by looking.

To whoever reads it, a container that ended, a pod that was deleted and a connection that was lost are all the same:
nothing more comes. The pod's own status says which it was (core/v1 PodStatus).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from bastion.errors import BastionError
from bastion.events import Exited
from bastion.model import Outcome
from bastion.pods import fate
from bastion.pods.answers import unavailable
from bastion.pods.ends import broken
from bastion.pods.knocks import Knocked, Knocks
from bastion.pods.watchman import explained, knocked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bastion.events import ClientEvent, PodEvent
    from bastion.model import Target
    from bastion.podfacts import PodFacts
    from bastion.ports import ExecStream

Answer = TypeVar("Answer")

ASK_EVERY_S = 10.0
"""How often the pod is asked for while its log is silent."""

ASK_AGAIN_S = 5.0
"""The same after a question that had no answer."""

ANSWER_WITHIN_S = 5.0
"""How long the API server may take to answer."""

UNANSWERED = 2
"""So many questions in a row without an answer end the log: all in all within 30 s of the last answer."""

GRACE_S = 3.0
"""How long a log may take to end by itself once its container has ended: what it still says is wanted."""

WHY_WITHIN_S = 5.0
"""How long to wait, once the log has ended, until the cluster knows why."""

CUT = "the log broke off"


class Followed:
    """A log to which more is yet to come."""

    protocol = ""

    def __init__(
        self,
        log: ExecStream,
        begun: PodFacts,
        target: Target,
        *,
        look: Callable[[], Awaitable[PodFacts | None]],
        knock: Callable[[], Awaitable[None]],
    ) -> None:
        """`begun`: the pod once the log was open.

        look: the pod now, None if it is gone. knock: returns if a log could be opened now. Both raise BastionError.
        """
        self._log = log
        self._begun = begun
        self._target = target
        self._container = target.container
        self._look = look
        self._knock = knock

    async def next_event(self) -> PodEvent:
        """The next piece, or the end: 0 if the container ended by itself, and well, else 255 and the cause."""
        coming = asyncio.ensure_future(self._log.next_event())
        lost = asyncio.ensure_future(self._lost())
        try:
            await asyncio.wait({coming, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return broken(lost.result())
            event = coming.result()
        finally:
            for task in (coming, lost):
                task.cancel()
            await asyncio.gather(coming, lost, return_exceptions=True)
        return await self._explained(event) if isinstance(event, Exited) else event

    async def send(self, event: ClientEvent) -> None:
        """A log takes nothing."""

    async def _lost(self) -> str:
        """Return once a silent log is not merely quiet: what became of it."""
        unanswered, knocks = 0, Knocks()
        while True:
            await asyncio.sleep(ASK_AGAIN_S if unanswered else ASK_EVERY_S)
            try:
                now = await _in_time(self._look())
            except BastionError as error:
                unanswered += 1
                if unanswered == UNANSWERED:
                    return f"{CUT}; {error.user_message}"
                continue
            unanswered = 0
            if became := fate.fate(self._begun, now, self._container):
                await asyncio.sleep(GRACE_S)
                return became
            while knocks.are_due(unanswered=False, unready=fate.is_doubtful(now)):
                if became := knocks.heard(await knocked(self._knock), self._target):
                    return f"{CUT}; {became}"

    async def _explained(self, end: Exited) -> Exited:
        """The end with its cause, as soon as the cluster knows it."""
        run = self._begun.container(self._container)
        if run is None or not run.running:
            return end  # it was over when the log was opened: the log is as whole as it came
        try:
            became, now = await explained(self._look, self._begun, self._container, WHY_WITHIN_S)
            if end.outcome is Outcome.EXITED and fate.is_done(self._begun, now, self._container):
                return end
        except BastionError as error:
            return broken(f"{CUT}; {error.user_message}")
        if not became and await knocked(self._knock) is not Knocked.ANSWERED:
            return broken(f"{CUT}; {fate.node_away(self._target)}")
        return broken(became or f"{CUT}, {fate.well(self._begun.name, then='ask again')}")


async def _in_time(answer: Awaitable[Answer]) -> Answer:
    """What the API server answers. Raises BastionError (CLUSTER_UNAVAILABLE) if that takes too long."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await answer
    except TimeoutError as error:
        raise unavailable(f"no answer within {ANSWER_WITHIN_S:.0f} s") from error
