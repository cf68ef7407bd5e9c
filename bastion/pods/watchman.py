"""Looks after the pods of running sessions and says what became of one; used by pods.kube."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from enum import Enum, auto
from typing import TYPE_CHECKING

from bastion.errors import BastionError
from bastion.pods import fate, kinds
from bastion.pods.connecting import unavailable
from bastion.pods.execs import is_node_away, node_away
from bastion.pods.listwatch import Freshness
from bastion.pods.lookup import Direct

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bastion.model import Target
    from bastion.podfacts import PodFacts
    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog
    from bastion.ports import Tell

LOOK_AROUND_S = 5.0
"""How often a session is looked after, beside what the catalogue tells."""

ASK_EACH = 3
"""In which of these rounds a pod is asked for while the catalogue is out of date."""

NODE_WITHIN_S = 8.0
"""How long a node may take to start something small before it counts as silent."""

SILENT_TWICE = 2
MOST_RARELY = 60
"""How many chances to knock, LOOK_AROUND_S apart, are let pass at most."""

LOOK_AGAIN_S = 0.5
"""A node tells the API server of a container's end a moment after the stream has ended."""


class Knocked(Enum):
    """What became of a knock at a node: any answer (also a refusal), the word that it is away, or nothing."""

    ANSWERED = auto()
    NODE_AWAY = auto()
    SILENT = auto()


class _Knocks:
    """When to knock at a node, and what to make of it: one that is only slow must not cost anybody their session."""

    def __init__(self) -> None:
        self._silent = 0
        self._passed = 0  # chances to knock since the last answer
        self._rarely = 0  # how many of them to let pass

    def are_due(self, *, in_doubt: bool) -> bool:
        """Whether to knock now: at once and after silence, ever more rarely while the node answers and is in doubt."""
        if not in_doubt:
            self._silent = self._passed = self._rarely = 0
            return False
        if self._silent:
            return True
        self._passed += 1
        return self._passed > self._rarely

    def heard(self, knocked: Knocked, target: Target) -> str:
        """What follows from a knock: the sentence for a lost node, or "" while it may be well."""
        self._silent = self._silent + 1 if knocked is Knocked.SILENT else 0
        if knocked is Knocked.ANSWERED:
            self._passed, self._rarely = 0, min(self._rarely * 2 + 4, MOST_RARELY)
        lost = knocked is Knocked.NODE_AWAY or self._silent >= SILENT_TWICE
        return node_away(target) if lost else ""


class Watchman:
    """What pods are, and what becomes of them."""

    def __init__(self, api: Api, catalog: Catalog, knock: Callable[[Target], Awaitable[object]]) -> None:
        """`knock` has a pod's node do something small; raises BastionError as `Execs.run`."""
        self._api = api
        self._catalog = catalog
        self._knock = knock

    async def look(self, target: Target, tell: Tell | None = None) -> PodFacts | None:
        """The pod as the API server has it now, None if it is gone. Raises BastionError (CLUSTER_*)."""
        return await Direct(self._api, tell).pod(target.namespace, target.pod)

    async def end_of(self, begun: PodFacts, target: Target, is_in_doubt: Callable[[], bool]) -> str:
        """Return once the container, its pod or its node is no more: what became of it.

        is_in_doubt: whether the stream gives reason to ask after the node.
        The catalogue rings the bell, the API server's own word counts: a catalogue may lag behind what was asked.
        """
        bell = asyncio.Event()
        latest: list[PodFacts | None] = [begun]

        def seen(pod: PodFacts | None) -> None:
            latest[0] = pod
            bell.set()

        leave = self._catalog.follow(target.namespace, target.pod, seen)
        knocks = _Knocks()
        try:
            for again in itertools.count():
                bell.clear()
                became = ""
                behind = not self._keeps_up(target) and again % ASK_EACH == 0
                if behind or fate.fate(begun, latest[0], target.container):
                    became = await self._asked(begun, target)
                while not became and knocks.are_due(in_doubt=is_in_doubt() or fate.is_doubtful(latest[0])):
                    became = knocks.heard(await self._knocked(target), target)
                if became:
                    return became
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AROUND_S):
                        await bell.wait()
            raise AssertionError
        finally:
            leave()

    async def node_lost(self, target: Target) -> str:
        """What to say if the API server cannot reach the pod's node; "" if it can, or if nobody can tell."""
        return node_away(target) if await self._knocked(target) is Knocked.NODE_AWAY else ""

    async def _knocked(self, target: Target) -> Knocked:
        """Whether the node does something small when it is asked."""
        try:
            async with asyncio.timeout(NODE_WITHIN_S):
                await self._knock(target)
        except BastionError as error:
            return Knocked.NODE_AWAY if is_node_away(error.detail) else Knocked.ANSWERED
        except TimeoutError:
            return Knocked.SILENT
        return Knocked.ANSWERED

    async def why_ended(self, begun: PodFacts, target: Target, within_s: float) -> str:
        """What explains that a stream ended, as soon as the cluster knows it; "" if nothing does within that time.

        Raises BastionError (CLUSTER_UNAVAILABLE) if the API server does not answer meanwhile.
        """
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    now = await self.look(target)
            except TimeoutError as error:
                raise unavailable(f"no answer within {within_s:.0f} s") from error
            became = fate.explanation(begun, now, target.container)
            if became or asyncio.get_running_loop().time() + LOOK_AGAIN_S > deadline:
                return became
            await asyncio.sleep(LOOK_AGAIN_S)

    def _keeps_up(self, target: Target) -> bool:
        return self._catalog.freshness(kinds.POD, target.namespace) is Freshness.FRESH

    async def _asked(self, begun: PodFacts, target: Target) -> str:
        try:
            return fate.fate(begun, await self.look(target), target.container)
        except BastionError:
            return ""  # nobody knows: the session goes on for as long as its stream does
