"""A log that is followed does not just end: what became of its container, pod or connection is asked; used by looking.

To whoever reads it, a container that ended, a pod that was deleted and a connection that was lost are all the same:
nothing more comes. The pod's own status says which it was (core/v1 PodStatus).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.errors import BastionError
from bastion.events import Exited
from bastion.model import Outcome
from bastion.pods import fate
from bastion.pods.connecting import unavailable
from bastion.pods.stream import broken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bastion.events import ClientEvent, PodEvent
    from bastion.podfacts import ContainerFacts, PodFacts
    from bastion.ports import ExecStream

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

LOOK_AGAIN_S = 0.5
"""A node tells the API server of a container's end a moment after the log has ended."""

CUT = "the log broke off"
COMPLETED = "Completed"
"""The reason of a container that ended with 0 (core/v1 ContainerStateTerminated)."""


class Followed:
    """A log to which more is yet to come."""

    protocol = ""

    def __init__(
        self, log: ExecStream, begun: PodFacts, container: str, look: Callable[[], Awaitable[PodFacts | None]]
    ) -> None:
        """`begun`: the pod once the log was open. `look`: the pod now, None if it is gone; raises BastionError."""
        self._log = log
        self._begun = begun
        self._container = container
        self._look = look

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
        unanswered = 0
        while True:
            await asyncio.sleep(ASK_AGAIN_S if unanswered else ASK_EVERY_S)
            try:
                became = fate.fate(self._begun, await self._asked(ANSWER_WITHIN_S), self._container)
            except BastionError as error:
                unanswered += 1
                if unanswered == UNANSWERED:
                    return f"{CUT}; {error.user_message}"
                continue
            unanswered = 0
            if became:
                await asyncio.sleep(GRACE_S)
                return became

    async def _explained(self, end: Exited) -> Exited:
        """The end with its cause, as soon as the cluster knows it."""
        run = self._begun.container(self._container)
        if run is None or not run.running:
            return end  # it was over when the log was opened: the log is as whole as it came
        said = end.message or CUT
        deadline = asyncio.get_running_loop().time() + WHY_WITHIN_S
        while True:
            try:
                now = await self._asked(ANSWER_WITHIN_S)
            except BastionError as error:
                return broken(f"{said}; {error.user_message}")
            if end.outcome is Outcome.EXITED and _is_done(run, now):
                return end
            became = self._explanation(now)
            if became:
                return broken(became)
            if asyncio.get_running_loop().time() + LOOK_AGAIN_S > deadline:
                return broken(f"{said}, though pod {self._begun.name} is well")
            await asyncio.sleep(LOOK_AGAIN_S)

    def _explanation(self, now: PodFacts | None) -> str:
        """What became of the pod; of one that is being deleted, its containers end for that."""
        deleted = now is not None and now.uid == self._begun.uid and now.deleting
        return fate.fate(self._begun, None if deleted else now, self._container)

    async def _asked(self, within_s: float) -> PodFacts | None:
        """The pod now. Raises BastionError (CLUSTER_*), also if there is no answer in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._look()
        except TimeoutError as error:
            raise unavailable(f"no answer within {within_s:.0f} s") from error


def _is_done(run: ContainerFacts, now: PodFacts | None) -> bool:
    """Whether that run ended by itself, and well, in a pod that stays."""
    then = None if now is None or now.deleting or now.reason else now.container(run.name)
    if then is None or not run.container_id:
        return False
    return any(
        ended is not None and ended.container_id == run.container_id and ended.reason == COMPLETED
        for ended in (then.ended, then.last_ended)
    )
