"""Looks after the pods of running sessions and says what became of one; used by pods.kube, pods.following."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from bastion.errors import BastionError
from bastion.model import Outcome
from bastion.pods import fate, kinds
from bastion.pods.answers import is_node_away, unavailable
from bastion.pods.ends import broken
from bastion.pods.knocks import Knocked, Knocks
from bastion.pods.listwatch import Freshness
from bastion.pods.lookup import Direct

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from bastion.events import Exited
    from bastion.model import Target
    from bastion.podfacts import PodFacts
    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog
    from bastion.pods.stream import WebSocketExec
    from bastion.ports import Tell

LOOK_AROUND_S = 5.0
"""How often a session is looked after, beside what the catalogue tells."""

ASK_EACH = 3
"""In which of these rounds a pod is asked for while the catalogue is out of date."""

NODE_WITHIN_S = 8.0
"""How long a node may take to start something small before it counts as silent."""

UNANSWERED_S = 5.0
"""What was typed and nothing came back for, for so long, is reason to ask after the pod's node."""

GRACE_S = 3.0
"""How long a stream may take to end by itself once its container has ended: what it still says is wanted."""

WHY_BROKEN_WITHIN_S = 3.0
"""How long a person whose stream broke waits to hear why: an API server that is lost too says nothing."""

WHY_KILLED_WITHIN_S = 5.0
"""The same for a process that was killed, which may have been its own doing; a node takes some seconds to tell."""

KILLED, TERMINATED = 128 + 9, 128 + 15
"""Exit codes that a process gets when its container is taken away.

A node kills at once for want of memory, and tells of it later. It terminates only what it was told to take away, so
the cluster knows before.
"""

LOOK_AGAIN_S = 0.5
"""A node tells the API server of a container's end a moment after the stream has ended."""


async def explained(
    look: Callable[[], Awaitable[PodFacts | None]],
    begun: PodFacts,
    container: str,
    within_s: float,
    *,
    may_run: bool = True,
) -> tuple[str, PodFacts | None]:
    """What explains that a stream ended, as soon as the cluster knows it, and the pod as it was then.

    look: the pod now, None if it is gone. "" if nothing explains it within that time.
    may_run: a container that is seen to run may have ended all the same, and the cluster be yet to know.
    Raises BastionError (CLUSTER_*), also if there is no answer in that time.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                now = await look()
        except TimeoutError as error:
            raise unavailable(f"no answer within {within_s:.0f} s") from error
        became = fate.explanation(begun, now, container)
        is_well = not may_run and fate.runs(now, container)
        if became or is_well or asyncio.get_running_loop().time() + LOOK_AGAIN_S > deadline:
            return became, now
        await asyncio.sleep(LOOK_AGAIN_S)


async def knocked(knock: Callable[[], Awaitable[object]]) -> Knocked:
    """Whether a node does something small. knock: asks it to; raises BastionError as `Execs.run`."""
    try:
        async with asyncio.timeout(NODE_WITHIN_S):
            await knock()
    except BastionError as error:
        return Knocked.NODE_AWAY if is_node_away(error.detail) else Knocked.ANSWERED
    except TimeoutError:
        return Knocked.SILENT
    return Knocked.ANSWERED


class Watchman:
    """What pods are, and what becomes of them."""

    def __init__(
        self,
        api: Api,
        catalog: Catalog,
        knock: Callable[[Target], Awaitable[object]],
        log: FilteringBoundLogger,
    ) -> None:
        """`knock` has a pod's node do something small; raises BastionError as `Execs.run`."""
        self._api = api
        self._catalog = catalog
        self._knock = knock
        self._log = log

    async def pinned(self, target: Target, tell: Tell | None = None) -> PodFacts:
        """The pod that a target was decided about, as the API server has it now.

        Raises BastionError: TARGET_MISSING if it is another by now, or is not any more what the policy looked at;
        CLUSTER_*.
        """
        return fate.unchanged(target, await self._look(target, tell))

    async def is_reachable(self, target: Target) -> bool:
        """Whether the API server answers soon, when it is asked for the pod."""
        try:
            async with asyncio.timeout(WHY_BROKEN_WITHIN_S):
                await self._look(target)
        except (BastionError, TimeoutError):
            return False
        return True

    async def end_with_pod(self, stream: WebSocketExec, begun: PodFacts, target: Target) -> None:
        """End a stream that its container did not take along: some freeze (kubernetes#129144)."""
        became = await self._end_of(begun, target, lambda: stream.unanswered_s > UNANSWERED_S)
        await asyncio.sleep(GRACE_S)
        stream.end(became)

    async def explained(self, begun: PodFacts, target: Target, end: Exited, idle_s: float) -> Exited:
        """The end as the person is to hear it: a container that was taken away looks like a kill, or a lost connection.

        idle_s: for how long nothing had passed.
        """
        killed = end.outcome is Outcome.EXITED and end.status in {KILLED, TERMINATED}
        if not killed and end.outcome is not Outcome.BROKEN:
            return end
        within_s = WHY_KILLED_WITHIN_S if killed else WHY_BROKEN_WITHIN_S
        may_run = not killed or end.status == KILLED
        try:
            became, _ = await explained(lambda: self._look(target), begun, target.container, within_s, may_run=may_run)
        except BastionError as error:
            return end if killed else broken(f"{end.message}; {error.user_message}")
        if became:
            return broken(became)
        return end if killed else broken(await self._why_broken(target, end, idle_s))

    async def _why_broken(self, target: Target, end: Exited, idle_s: float) -> str:
        """Why a stream broke although its container is well."""
        idle = fate.idle_cut(idle_s)
        if idle:
            return idle
        if await self._knocked(target) is not Knocked.ANSWERED:  # it is silent for the second time
            return fate.node_away(target)
        return f"{end.message}, {fate.well(target.pod, then='connect again')}"

    async def _end_of(self, begun: PodFacts, target: Target, is_in_doubt: Callable[[], bool]) -> str:
        """Return once the container, its pod or its node is no more: what became of it.

        A mistake in here must not end a session that is well: it is logged, and the pod goes on being asked for.
        """
        asks_only = False
        while True:
            try:
                became = await (self._asked(begun, target) if asks_only else self._heard_of(begun, target, is_in_doubt))
            except Exception:  # noqa: BLE001 - whatever it was, the stream is well
                self._log.exception("pod.watch", pod=target.pod, namespace=target.namespace)
                became = ""
            if became:
                return became
            asks_only = True
            await asyncio.sleep(LOOK_AROUND_S * ASK_EACH)

    async def _heard_of(self, begun: PodFacts, target: Target, is_in_doubt: Callable[[], bool]) -> str:
        """Return what became of it.

        is_in_doubt: whether the stream gives reason to ask after the node.
        The catalogue rings the bell, the API server's own word counts: a catalogue may lag behind what was asked.
        """
        bell = asyncio.Event()
        latest: list[PodFacts | None] = [begun]

        def seen(pod: PodFacts | None) -> None:
            latest[0] = pod
            bell.set()

        leave = self._catalog.follow(target.namespace, target.pod, seen)
        knocks = Knocks()
        try:
            for again in itertools.count():
                bell.clear()
                became = ""
                behind = not self._keeps_up(target) and again % ASK_EACH == 0
                if behind or fate.fate(begun, latest[0], target.container):
                    became = await self._asked(begun, target)
                while not became and knocks.are_due(unanswered=is_in_doubt(), unready=fate.is_doubtful(latest[0])):
                    became = knocks.heard(await self._knocked(target), target)
                if became:
                    return became
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AROUND_S):
                        await bell.wait()
            raise AssertionError
        finally:
            leave()

    async def _knocked(self, target: Target) -> Knocked:
        """Whether the node does something small when it is asked."""
        return await knocked(lambda: self._knock(target))

    def _keeps_up(self, target: Target) -> bool:
        return self._catalog.freshness(kinds.POD, target.namespace) is Freshness.FRESH

    async def _asked(self, begun: PodFacts, target: Target) -> str:
        """What became of the pod by the API server's own word; "" while nobody knows, or while it is well.

        Then the session goes on for as long as its stream does.
        """
        try:
            now = await self._look(target)
        except BastionError:
            return ""
        became = fate.fate(begun, now, target.container)
        return became and fate.explanation(begun, now, target.container)

    async def _look(self, target: Target, tell: Tell | None = None) -> PodFacts | None:
        """The pod as the API server has it now, None if it is gone. Raises BastionError (CLUSTER_*)."""
        return await Direct(self._api, tell).pod(target.namespace, target.pod)
