"""Keeps as many pods as a Deployment or ReplicaSet asks for; run by __main__.

One ReplicaSet for each Deployment, and no rollout: a changed template counts for new pods alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.store import Object, Store

PAUSE_S = 0.3
"""Between a change and what follows from it: long enough that the gap can be seen, as in a real cluster."""


class Controllers:
    """The controller of Deployments and that of ReplicaSets. new_suffix: five characters for a pod's name."""

    def __init__(self, store: Store, kubelet: Kubelet, new_suffix: Callable[[], str]) -> None:
        self._store = store
        self._kubelet = kubelet
        self._new_suffix = new_suffix

    async def run(self) -> None:
        """Follow the store for ever."""
        while True:
            version = self._store.version
            for surplus in self.sync():
                await self._kubelet.delete(surplus)
            await self._store.wait_changed(version)
            await asyncio.sleep(PAUSE_S)

    def sync(self) -> list[Object]:
        """Make and count what there has to be; returns the pods that are too many."""
        for replica_set in self._left_behind(kinds.REPLICA_SET, kinds.DEPLOYMENT):
            self._store.delete(kinds.REPLICA_SET, replica_set)
        surplus = self._left_behind(kinds.POD, kinds.REPLICA_SET)
        for replica_set in self._store.list(kinds.REPLICA_SET):
            surplus += self._see_to_replica_set(replica_set)
        for deployment in self._store.list(kinds.DEPLOYMENT):
            self._see_to_deployment(deployment)
        return surplus

    def _see_to_deployment(self, deployment: Object) -> None:
        """Its ReplicaSet exists and has its number of replicas; it has its ReplicaSet's counts."""
        owned = self._owned(kinds.REPLICA_SET, deployment)
        if not owned:
            template_hash = workloads.template_hash(deployment["spec"]["template"])
            self._store.create(kinds.REPLICA_SET, workloads.replica_set(deployment, template_hash))
            return
        wanted = deployment["spec"].get("replicas", 1)
        if owned[0]["spec"]["replicas"] != wanted:
            changed = {**owned[0], "spec": {**owned[0]["spec"], "replicas": wanted}}
            owned[0] = self._store.replace(kinds.REPLICA_SET, changed)
        self._update(kinds.DEPLOYMENT, deployment, workloads.deployment_status(owned[0]))

    def _see_to_replica_set(self, replica_set: Object) -> list[Object]:
        """It has as many pods as it wants, and counts them; returns those that are too many."""
        pods = self._owned(kinds.POD, replica_set)
        wanted = replica_set["spec"].get("replicas", 1)
        for _ in range(wanted - len(pods)):
            pods.append(self._store.create(kinds.POD, workloads.pod_of(replica_set, self._new_suffix())))
        self._update(kinds.REPLICA_SET, replica_set, workloads.replica_set_status(pods[:wanted]))
        return pods[wanted:]

    def _left_behind(self, kind: kinds.Kind, owners: kinds.Kind) -> list[Object]:
        """Objects whose owner of that kind is no more."""
        living = {one["metadata"]["uid"] for one in self._store.list(owners)}
        return [one for one in self._store.list(kind) if not workloads.owners_of(one, owners) <= living]

    def _update(self, kind: kinds.Kind, value: Object, status: Object) -> None:
        if value.get("status") != status:
            self._store.replace(kind, {**value, "status": status})

    def _owned(self, kind: kinds.Kind, owner: Object) -> list[Object]:
        namespace, uid = owner["metadata"]["namespace"], owner["metadata"]["uid"]
        owners = kinds.DEPLOYMENT if kind is kinds.REPLICA_SET else kinds.REPLICA_SET
        return [one for one in self._store.list(kind, namespace) if uid in workloads.owners_of(one, owners)]
