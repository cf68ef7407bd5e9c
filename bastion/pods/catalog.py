"""What is known of the cluster's pods and workloads, kept up by list and watch; asked by pods and the console.

It answers at once, from memory. Who asks must look at how fresh it is: where the API server is away, or the cluster
does not let the bastion list, what is known may be old or nothing at all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from bastion.podfacts import PodFacts, WorkloadFacts, pod_facts, workload_facts
from bastion.pods import kinds
from bastion.pods.choice import newest_first
from bastion.pods.listwatch import Freshness, ListWatch, Means, Objects
from bastion.pods.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from bastion.pods.api import Api
    from bastion.ports import Clock

    Seen = Callable[[PodFacts | None], None]

EVERYWHERE = ""
"""The scope of a watch on all namespaces."""

LISTS_AT_ONCE = 3
"""More would only need more memory, and more of the API server at once."""


class Catalog:
    """Pods, Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs of some namespaces, or of all."""

    def __init__(
        self,
        api: Api,
        namespaces: tuple[str, ...],
        *,
        clock: Clock,
        chance: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        """`namespaces`: () is the whole cluster. `chance` gives a number from 0 to below 1."""
        self._scopes = namespaces
        self._followers: defaultdict[tuple[str, str], list[Seen]] = defaultdict(list)
        self._change = asyncio.Event()
        self._pods = Shelf[PodFacts](self._pod_changed)
        self._workloads = {
            kind: Shelf[WorkloadFacts](self._workload_changed) for kind in (kinds.REPLICA_SET, *kinds.WORKLOADS)
        }
        self._watches: dict[tuple[str, str], ListWatch[PodFacts] | ListWatch[WorkloadFacts]] = {}
        means = Means(api=api, clock=clock, chance=chance, log=log, lists=asyncio.Semaphore(LISTS_AT_ONCE))
        for scope in namespaces or (EVERYWHERE,):
            pods = Objects(kind=kinds.POD, read=pod_facts, shelf=self._pods)
            self._watches[kinds.POD, scope] = ListWatch(pods, scope, means=means, freshened=self._changed)
            for kind, shelf in self._workloads.items():
                workloads = Objects(kind=kind, read=partial(workload_facts, kind), shelf=shelf)
                self._watches[kind, scope] = ListWatch(workloads, scope, means=means, freshened=self._changed)

    async def run(self) -> None:
        """Keep up with the cluster until cancelled."""
        async with asyncio.TaskGroup() as group:
            for (kind, scope), watch in self._watches.items():
                group.create_task(watch.run(), name=f"catalog-{kind}-{scope or 'all'}")

    # --- how far it can be relied on ---------------------------------------------

    def covers(self, namespace: str) -> bool:
        """Whether the namespace is one of those that the bastion looks after."""
        return not self._scopes or namespace in self._scopes

    def freshness(self, kind: str, namespace: str) -> Freshness:
        """How far what is known of a kind ("pod", "deploy", "rs" and so on) in a namespace can be relied on."""
        watch = self._watches.get((kind, namespace if self._scopes else EVERYWHERE))
        return Freshness.UNKNOWN if watch is None else watch.freshness

    @property
    def is_ready(self) -> bool:
        """Whether everything has been listed once, but for what the cluster does not let the bastion list."""
        return all(watch.is_settled for watch in self._watches.values())

    @property
    def is_fresh(self) -> bool:
        """Whether all of it is kept up with."""
        return all(watch.freshness is Freshness.FRESH for watch in self._watches.values())

    @property
    def stale_s(self) -> float:
        """For how many seconds some of it has been out of date; 0 while none is."""
        return max(watch.stale_s for watch in self._watches.values())

    # --- what is known -----------------------------------------------------------

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        """The pod of that name."""
        return self._pods.get(namespace, name)

    def pods(self, namespace: str | None = None) -> list[PodFacts]:
        """Every pod of a namespace, or of all; in no order."""
        return self._pods.all(namespace)

    def workload(self, kind: str, namespace: str, name: str) -> WorkloadFacts | None:
        """The workload of that kind ("deploy", "sts", "ds", "job", "rs") and name."""
        return self._workloads[kind].get(namespace, name)

    def generations(self, workload: WorkloadFacts) -> tuple[tuple[PodFacts, ...], ...]:
        """A workload's pods; those of a Deployment by ReplicaSet, the newest first."""
        if workload.kind != "deploy":
            return (tuple(self._pods.owned_by(workload.uid)),)
        sets = newest_first(self._workloads[kinds.REPLICA_SET].owned_by(workload.uid))
        return tuple(tuple(self._pods.owned_by(one.uid)) for one in sets)

    def pods_of(self, workload: WorkloadFacts) -> list[PodFacts]:
        """All pods of a workload."""
        return [pod for generation in self.generations(workload) for pod in generation]

    @property
    def namespaces(self) -> list[str]:
        """Namespaces in which there are pods, by name."""
        return sorted(self._pods.namespaces)

    # --- what changes ------------------------------------------------------------

    def follow(self, namespace: str, name: str, seen: Seen) -> Callable[[], None]:
        """Have `seen` called now and at each change of the pod of that name, with None while there is none.

        It must not raise. Returns what ends it. While `freshness("pod", namespace)` is not FRESH changes are missed;
        what was missed is told later, as far as the last of it.
        """
        followers = self._followers[namespace, name]
        followers.append(seen)

        def end() -> None:
            followers.remove(seen)
            if not followers:
                self._followers.pop((namespace, name), None)

        seen(self.pod(namespace, name))
        return end

    async def wait_changed(self) -> None:
        """Return at the next change of anything that is known, or of how fresh it is."""
        await self._change.wait()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _workload_changed(self, _namespace: str, _name: str, _now: WorkloadFacts | None) -> None:
        self._changed()

    def _pod_changed(self, namespace: str, name: str, now: PodFacts | None) -> None:
        for seen in tuple(self._followers.get((namespace, name), ())):
            seen(now)
        self._changed()
