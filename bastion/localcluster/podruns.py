"""One pod on the node, from its first container's start to its last one's end; kept by kubelet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.localcluster import podspec
from bastion.localcluster.podspec import Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from bastion.localcluster.containers import Container
    from bastion.localcluster.podspec import ContainerState
    from bastion.localcluster.store import Object


class PodRun:
    """The containers of a pod: init containers one after the other, then the others at once.

    make: a container from its spec. changed: is called when an init container gives way to the next.
    verdict: what stands in the pod's status whatever its containers say ({} is nothing).
    """

    def __init__(
        self, pod: Object, *, make: Callable[[Object, Object, Role], Container], changed: Callable[[PodRun], None]
    ) -> None:
        self.uid: str = pod["metadata"]["uid"]
        self.namespace: str = pod["metadata"]["namespace"]
        self.name: str = pod["metadata"]["name"]
        self._ending = False
        self.verdict: Object = {}
        self._make = make
        self._changed = changed
        self._containers = {spec["name"]: make(pod, spec, role) for spec, role in podspec.specs(pod)}
        self._initializing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def __iter__(self) -> Iterator[Container]:
        return iter(self._containers.values())

    def find(self, name: str) -> Container | None:
        """The container of that name."""
        return self._containers.get(name)

    def states(self) -> list[ContainerState]:
        """Each container at this moment."""
        return [one.state for one in self]

    def start(self) -> None:
        """Start what comes first."""
        if self._of(Role.INIT):
            self._initializing = asyncio.ensure_future(self._initialize())
        else:
            self._start_mains()

    def extend(self, pod: Object) -> bool:
        """Start the ephemeral containers that are new in the pod's spec; whether there were any."""
        new = [spec for spec in pod["spec"].get(Role.EPHEMERAL, ()) if spec["name"] not in self._containers]
        if self._ending:
            return False
        for spec in new:
            self._containers[spec["name"]] = self._make(pod, spec, Role.EPHEMERAL)
            self._containers[spec["name"]].start()
        return bool(new)

    async def end(self, seconds: float, kill: Callable[[], Awaitable[None]]) -> None:
        """Ask each main process to end, wait so long, and kill what is left; returns when nothing of it lives."""
        self._ending = True
        await self._stop_initializing()
        ends = [asyncio.ensure_future(one.end()) for one in self]
        await asyncio.sleep(0)  # so that none is started again
        for container in self if seconds else ():
            container.terminate()
        self.hurry(seconds)
        hurried = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((asyncio.gather(*ends), hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        await kill()
        await asyncio.gather(*ends)

    def hurry(self, seconds: float) -> None:
        """Give what is ending no longer than that."""
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._hurry.set)
        else:
            self._hurry.set()

    async def abandon(self) -> None:
        """See to it no more, whatever its processes do."""
        await self._stop_initializing()
        await asyncio.gather(*(one.abandon() for one in self))

    def _of(self, role: Role) -> list[Container]:
        return [one for one in self if one.state.role is role]

    async def _initialize(self) -> None:
        for container in self._of(Role.INIT):
            container.start()
            self._changed(self)
            if not container.state.sidecar and not await container.finish():
                return
        self._start_mains()
        self._changed(self)

    def _start_mains(self) -> None:
        for container in [*self._of(Role.MAIN), *self._of(Role.EPHEMERAL)]:
            container.start()

    async def _stop_initializing(self) -> None:
        if self._initializing is not None:
            self._initializing.cancel()
            await asyncio.gather(self._initializing, return_exceptions=True)
