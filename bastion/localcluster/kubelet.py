"""Runs the pods that the store holds and writes their states back; run by __main__, asked by subresources and objects.

It follows the store as a kubelet follows the API server: a pod that appears is started at once, and one that is to be
deleted is ended.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, podspec, statuses, store
from bastion.localcluster.containers import Container
from bastion.localcluster.podruns import PodRun

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from bastion.localcluster.happenings import Happenings
    from bastion.localcluster.logs import Log
    from bastion.localcluster.mains import Main
    from bastion.localcluster.podspec import Role
    from bastion.localcluster.runtime import ContainerName, Runtime
    from bastion.localcluster.store import Object, Store

_EVICTED: Object = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}


class Kubelet:
    """The one node. `up`: it is there; without it everything stays as it is."""

    def __init__(self, *, store: Store, runtime: Runtime, happenings: Happenings, now: Callable[[], datetime]) -> None:
        self.up = True
        self._hangs = False
        self._back = asyncio.Event()
        self._missed: asyncio.TimerHandle | None = None  # when the cluster takes it for lost
        self._store = store
        self._runtime = runtime
        self._happenings = happenings
        self._now = now
        self._runs: dict[tuple[str, str], PodRun] = {}  # by the pod's namespace and name: one after the other
        self._endings: dict[str, asyncio.Task[None]] = {}  # by the pod's uid

    async def run(self) -> None:
        """Follow the store for ever."""
        while True:
            self.sync()
            await self._store.wait_changed(self._store.version)

    def sync(self) -> None:
        """Start what is not started, and end what is to be deleted or is no more."""
        if not self.up:
            return
        pods = {store.key_of(pod): pod for pod in self._store.list(kinds.POD)}
        for key, run in list(self._runs.items()):
            pod = pods.get(key)
            if pod is None or pod["metadata"]["uid"] != run.uid:
                self._remove(run, 0)
            elif podspec.is_deleting(pod):
                self._remove(run, pod["metadata"]["deletionGracePeriodSeconds"])
            elif run.extend(pod):
                self._publish(run)
        for key, pod in pods.items():
            if podspec.is_gated(pod):
                self._hold_back(pod)
            elif key not in self._runs:
                self._begin(pod)

    async def close(self) -> None:
        """Start nothing again. The processes are the runtime's to end."""
        self._forgive()
        self.up = False
        for ending in self._endings.values():
            ending.cancel()
        await asyncio.gather(*self._endings.values(), return_exceptions=True)
        await asyncio.gather(*(run.abandon() for run in self._runs.values()))

    def stop(self, unready_after_s: float, *, hangs: bool = False) -> None:
        """The node is gone; its pods are said to be not ready when it was not heard of for so long.

        hangs: it takes what it is asked, and answers nothing.
        """
        self._forgive()
        self.up, self._hangs = False, hangs
        self._back.clear()
        self._missed = asyncio.get_running_loop().call_later(unready_after_s, self._mark_unready)

    def resume(self) -> None:
        """The node is back, and says how everything is."""
        self._forgive()
        self.up = True
        self._back.set()
        for run in self._runs.values():
            self._publish(run)
        self.sync()

    async def wait_silence(self) -> None:
        """Until it is not so any more that the node takes what it is asked, and answers nothing."""
        while not self.up and self._hangs:
            await self._back.wait()

    async def delete(self, pod: Object, seconds: int | None = None) -> Object:
        """Let a pod end within so many seconds (None is what its spec says), and be gone then; returns its last state.

        A pod that runs nothing, or is given no time, is gone at once.
        """
        run = self._run_of(pod)
        grace: int = pod["spec"]["terminationGracePeriodSeconds"] if seconds is None else seconds
        if run is None or grace == 0 or podspec.is_finished(pod):
            last = self._store.delete(kinds.POD, pod)
            if run is not None and self.up:
                await asyncio.shield(self._remove(run, 0))
            return last
        if podspec.is_deleting(pod):
            run.hurry(grace)
            return pod
        ending = {
            "deletionTimestamp": store.timestamp(self._now() + timedelta(seconds=grace)),
            "deletionGracePeriodSeconds": grace,
        }
        return self._store.replace(kinds.POD, {**pod, "metadata": {**pod["metadata"], **ending}})

    async def evict(self, namespace: str, pod: str) -> None:
        """Kill everything in a pod, and start nothing of it again. Raises KeyError."""
        run = self._runs[namespace, pod]
        run.verdict = _EVICTED
        self._tell_of(run, "Evicted", _EVICTED["message"], warning=True)
        await asyncio.shield(self._ending(run, self._end(run, 0)))

    async def crash(self, namespace: str, pod: str, container: str, reason: str = "") -> None:
        """Kill a container, and wait until what follows has followed. Raises KeyError."""
        crashed = self._runs[namespace, pod].find(container)
        if crashed is None or crashed.main is None:
            raise KeyError(f"{namespace}/{pod} {container}")
        await crashed.kill(reason)

    def main(self, pod: Object, container: str) -> Main:
        """The main process of a container. Raises ApiError: 500 if it does not run."""
        found = self._container(pod, container)
        if found is None or found.main is None:
            raise statuses.internal_error(f'container not found ("{container}")')
        return found.main

    def log(self, pod: Object, container: str, *, previous: bool) -> Log:
        """What a container said, in this run or in the one before. Raises ApiError: 400 if there is none."""
        name = pod["metadata"]["name"]
        found = self._container(pod, container)
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
        run = self._run_of(pod)
        return next((one.ports[port] for one in run or () if port in one.ports), None)

    def _hold_back(self, pod: Object) -> None:
        if "conditions" not in pod["status"]:
            self._store.replace(kinds.POD, podspec.gated(pod, store.timestamp(self._now())))

    def _begin(self, pod: Object) -> None:
        if "nodeName" not in pod["spec"]:  # it had scheduling gates
            pod = self._store.replace(kinds.POD, podspec.scheduled(pod))
        self._happenings.scheduled(pod)
        run = PodRun(pod, make=self._make, changed=self._publish)
        self._runs[store.key_of(pod)] = run
        run.start()
        self._publish(run)

    def _make(self, pod: Object, spec: Object, role: Role) -> Container:
        return Container(
            pod=pod,
            spec=spec,
            role=role,
            runtime=self._runtime,
            now=self._now,
            tell=self._tell,
            changed=lambda container: self._publish(self._runs.get((container.name.namespace, container.name.pod))),
        )

    def _remove(self, run: PodRun, seconds: int) -> asyncio.Task[None]:
        """End a pod and forget it."""
        if run.uid in self._endings:
            if not seconds:
                run.hurry(0)
            return self._endings[run.uid]

        async def ended() -> None:
            await self._end(run, seconds)
            del self._runs[run.namespace, run.name]
            pod = self._store.get(kinds.POD, run.namespace, run.name)
            if pod is not None and pod["metadata"]["uid"] == run.uid:
                self._store.delete(kinds.POD, pod)
            self._runtime.forget(run.namespace, run.name)

        return self._ending(run, ended())

    def _ending(self, run: PodRun, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._endings[run.uid] = task
        task.add_done_callback(lambda _: self._ended(run.uid))
        return task

    def _ended(self, uid: str) -> None:
        del self._endings[uid]
        self.sync()  # another pod of its name may wait

    async def _end(self, run: PodRun, seconds: int) -> None:
        for container in run:
            if container.main is not None:
                self._tell(container.name, "Killing", f"Stopping container {container.name.container}")
        await run.end(seconds, lambda: self._runtime.kill(run.namespace, run.name))
        self._publish(run)

    def _publish(self, run: PodRun | None) -> None:
        pod = run and self._store.get(kinds.POD, run.namespace, run.name)
        if run and pod and self.up and pod["metadata"]["uid"] == run.uid:
            status = podspec.status(pod, run.states(), store.timestamp(self._now()))
            status |= run.verdict
            if pod["status"] != status:
                self._store.replace(kinds.POD, {**pod, "status": status})

    def _forgive(self) -> None:
        if self._missed is not None:
            self._missed.cancel()

    def _mark_unready(self) -> None:
        for pod in self._store.list(kinds.POD):
            self._store.replace(kinds.POD, podspec.unready(pod, store.timestamp(self._now())))

    def _tell(self, name: ContainerName, reason: str, message: str, *, warning: bool = False) -> None:
        pod = self._store.get(kinds.POD, name.namespace, name.pod)
        if pod is not None:
            self._happenings.kubelet(pod, reason, message, container=name.container, warning=warning)

    def _tell_of(self, run: PodRun, reason: str, message: str, *, warning: bool) -> None:
        pod = self._store.get(kinds.POD, run.namespace, run.name)
        if pod is not None:
            self._happenings.kubelet(pod, reason, message, warning=warning)

    def _run_of(self, pod: Object) -> PodRun | None:
        run = self._runs.get(store.key_of(pod))
        return run if run is not None and run.uid == pod["metadata"]["uid"] else None

    def _container(self, pod: Object, name: str) -> Container | None:
        run = self._run_of(pod)
        return None if run is None else run.find(name)
