"""Keeps what is there as it is asked for: namespaces, and all that makes pods; run by __main__."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, namespaces, podspec, rollouts, workloads
from bastion.localcluster.podmakers import PodMakers

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.store import Object, Store

PAUSE_S = 0.3
"""Between a change and what follows from it: long enough that the gap can be seen, as in a real cluster."""


class Controllers:
    """All controllers in one. new_suffix: five characters for a pod's name."""

    def __init__(self, store: Store, kubelet: Kubelet, new_suffix: Callable[[], str]) -> None:
        self._store = store
        self._kubelet = kubelet
        self._makers = PodMakers(store, new_suffix)

    async def run(self) -> None:
        """Follow the store for ever."""
        while True:
            version = self._store.version
            for surplus in self.sync():
                await self._kubelet.delete(surplus)
            await self._store.wait_changed(version)
            await asyncio.sleep(PAUSE_S)

    def sync(self) -> list[Object]:
        """Make and count what there has to be; returns the pods that are to go."""
        surplus = {pod["metadata"]["uid"]: pod for pod in [*namespaces.see_to(self._store), *self._left_behind()]}
        pods, replica_sets = self._owned(kinds.POD), self._owned(kinds.REPLICA_SET)
        for kind in workloads.KINDS:
            for value in self._store.list(kind):
                uid = value["metadata"]["uid"]
                if kind is kinds.DEPLOYMENT:
                    rollouts.see_to(self._store, value, replica_sets.get(uid, []))
                else:
                    doomed = self._makers.see_to(kind, value, pods.get(uid, []))
                    surplus |= {pod["metadata"]["uid"]: pod for pod in doomed}
        return list(surplus.values())

    def _left_behind(self) -> list[Object]:
        """Take away the ReplicaSets whose owner is no more; returns the pods whose owner is no more."""
        living = {""} | {one["metadata"]["uid"] for kind in workloads.KINDS for one in self._store.list(kind)}
        for replica_set in self._store.list(kinds.REPLICA_SET):
            if workloads.owner_uid(replica_set) not in living:
                self._store.delete(kinds.REPLICA_SET, replica_set)
                living.discard(replica_set["metadata"]["uid"])
        pods = self._store.list(kinds.POD)
        return [one for one in pods if workloads.owner_uid(one) not in living and not podspec.is_deleting(one)]

    def _owned(self, kind: kinds.Kind) -> dict[str, list[Object]]:
        """The objects of a kind by the uid of their controller."""
        found: dict[str, list[Object]] = {}
        for one in self._store.list(kind):
            found.setdefault(workloads.owner_uid(one), []).append(one)
        return found
