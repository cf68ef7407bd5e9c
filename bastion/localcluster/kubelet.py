"""Runs the pods that the store holds and writes their states back; run by __main__, asked by subresources and objects.

It follows the store as a kubelet follows the API server: a pod that appears is started at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, podspec, statuses, store
from bastion.localcluster.containers import Container

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from bastion.localcluster.happenings import Happenings
    from bastion.localcluster.logs import Log
    from bastion.localcluster.mains import Main
    from bastion.localcluster.runtime import ContainerName, Runtime
    from bastion.localcluster.store import Object, Store


class Kubelet:
    """The one node."""

    def __init__(self, *, store: Store, runtime: Runtime, happenings: Happenings, now: Callable[[], datetime]) -> None:
        self._store = store
        self._runtime = runtime
        self._happenings = happenings
        self._now = now
        self._containers: dict[tuple[str, str], Container] = {}  # by the pod's uid and the container's name

    async def run(self) -> None:
        """Follow the store for ever."""
        while True:
            self.sync()
            await self._store.wait_changed(self._store.version)

    def sync(self) -> None:
        """Start what is not started."""
        for pod in self._store.list(kinds.POD):
            uid = pod["metadata"]["uid"]
            new = [(spec, ephemeral) for spec, ephemeral in _specs(pod) if (uid, spec["name"]) not in self._containers]
            if new and not self._of(uid):
                self._happenings.scheduled(pod)
            for spec, ephemeral in new:
                container = Container(
                    pod=pod,
                    spec=spec,
                    ephemeral=ephemeral,
                    runtime=self._runtime,
                    now=self._now,
                    tell=self._tell,
                    changed=self._publish,
                )
                self._containers[uid, spec["name"]] = container
                container.start()
            if new:
                self._publish(self._containers[uid, new[0][0]["name"]])

    async def close(self) -> None:
        """Start nothing again. The processes are the runtime's to end."""
        await asyncio.gather(*(container.abandon() for container in self._containers.values()))

    async def delete(self, pod: Object) -> Object:
        """Take a pod out of the store, and end everything in it; returns its last state."""
        namespace, name = store.key_of(pod)
        containers = self._of(pod["metadata"]["uid"])
        for container in containers:
            del self._containers[container.pod_uid, container.name.container]
            if container.main is not None:
                self._tell(container.name, "Killing", f"Stopping container {container.name.container}")
        last = self._store.delete(kinds.POD, pod)
        ends = [asyncio.ensure_future(container.end()) for container in containers]
        await asyncio.sleep(0)  # so that none is started again
        await self._runtime.kill(namespace, name)
        await asyncio.gather(*ends)
        self._runtime.forget(namespace, name)
        return last

    async def crash(self, namespace: str, pod: str, container: str) -> None:
        """Kill a container's main process, and wait until what follows has followed. Raises KeyError."""
        found = self._store.get(kinds.POD, namespace, pod)
        crashed = found and self._containers.get((found["metadata"]["uid"], container))
        if not crashed or crashed.main is None:
            raise KeyError(f"{namespace}/{pod} {container}")
        os.kill(crashed.main.pid, signal.SIGKILL)
        await crashed.turn()

    def main(self, pod: Object, container: str) -> Main:
        """The main process of a container. Raises ApiError: 500 if it does not run."""
        found = self._containers.get((pod["metadata"]["uid"], container))
        if found is None or found.main is None:
            raise statuses.internal_error(f'container not found ("{container}")')
        return found.main

    def log(self, pod: Object, container: str, *, previous: bool) -> Log:
        """What a container said, in this run or in the one before. Raises ApiError: 400 if there is none."""
        name = pod["metadata"]["name"]
        found = self._containers.get((pod["metadata"]["uid"], container))
        log = (found.previous if previous else found.log) if found else None
        if log is not None:
            return log
        if previous:
            raise statuses.bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        waiting = found.state.state.get("waiting", {}) if found else {}
        reason = waiting.get("reason", "ContainerCreating")
        raise statuses.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')

    def local_port(self, pod: Object, port: int) -> int | None:
        """The port of this machine on which a pod's port is served; None if nothing of the pod listens there."""
        containers = self._of(pod["metadata"]["uid"])
        return next((one.ports[port] for one in containers if port in one.ports), None)

    def _publish(self, container: Container) -> None:
        pod = self._store.get(kinds.POD, container.name.namespace, container.name.pod)
        if pod is not None and pod["metadata"]["uid"] == container.pod_uid:
            states = [one.state for one in self._of(container.pod_uid)]
            self._store.replace(kinds.POD, {**pod, "status": podspec.status(pod, states)})

    def _tell(self, name: ContainerName, reason: str, message: str, *, warning: bool = False) -> None:
        pod = self._store.get(kinds.POD, name.namespace, name.pod)
        if pod is not None:
            self._happenings.kubelet(pod, reason, message, container=name.container, warning=warning)

    def _of(self, uid: str) -> list[Container]:
        return [one for one in self._containers.values() if one.pod_uid == uid]


def _specs(pod: Object) -> Iterator[tuple[Object, bool]]:
    """Each container's spec, and whether it is an ephemeral one."""
    for spec in pod["spec"]["containers"]:
        yield spec, False
    for spec in pod["spec"].get("ephemeralContainers", ()):
        yield spec, True
