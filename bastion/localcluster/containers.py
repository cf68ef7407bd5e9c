"""One container of a pod, from its first start to its last end; kept by podruns.

A container is what its main process is: when that ends, everything else in the container is killed, and it is started
again if the pod's spec says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bastion.localcluster import podspec, procfs
from bastion.localcluster.images import IMAGES, NotExecutableError
from bastion.localcluster.mains import Main
from bastion.localcluster.podspec import ContainerState
from bastion.localcluster.runtime import ContainerName
from bastion.localcluster.store import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Protocol

    from bastion.localcluster.logs import Log
    from bastion.localcluster.podspec import Role
    from bastion.localcluster.runtime import Runtime
    from bastion.localcluster.store import Object

    class Tell(Protocol):
        """Records an event about a container."""

        def __call__(self, name: ContainerName, reason: str, message: str, *, warning: bool = False) -> None:
            """What happened."""


BACK_OFF_S, MOST_BACK_OFF_S = 10.0, 300.0
"""Waits before a second and later restart: doubled each time (Kubernetes documentation, "Pod Lifecycle")."""

_CANNOT_START = 128
_NEVER_STARTED = "1970-01-01T00:00:00Z"


class Container:
    """Starts a container's main process again and again, and knows its state.

    spec: of the container. tell: records an event. changed: is called after each change of `state`.
    """

    def __init__(  # noqa: PLR0913 - what the kubelet knows of it
        self,
        *,
        pod: Object,
        spec: Object,
        role: Role,
        runtime: Runtime,
        now: Callable[[], datetime],
        tell: Tell,
        changed: Callable[[Container], None],
    ) -> None:
        metadata = pod["metadata"]
        self.pod_uid: str = metadata["uid"]
        self.name = ContainerName(namespace=metadata["namespace"], pod=metadata["name"], container=spec["name"])
        self.state = ContainerState(
            name=spec["name"],
            image=spec["image"],
            state={
                "waiting": {"reason": "PodInitializing" if "initContainers" in pod["spec"] else "ContainerCreating"}
            },
            role=role,
            sidecar=podspec.is_sidecar(spec, role),
        )
        self.main: Main | None = None
        self.log: Log | None = None
        self.previous: Log | None = None
        self.ports: dict[int, int] = {}
        self._spec = spec
        self._policy = podspec.policy(pod, spec, role)
        self._killed_for = ""  # why its processes are being killed, as a status will say
        self._runtime = runtime
        self._now = now
        self._tell = tell
        self._changed = changed
        self._turned = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it for the first time, and see to it from now on."""
        self._start()
        self._task = asyncio.ensure_future(self._supervise())

    async def finish(self) -> bool:
        """Wait until it has ended for good; whether it succeeded."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        return self.state.exit_code == 0

    def terminate(self) -> None:
        """Ask its main process to end: the first of a container, which no TERM reaches that it does not handle."""
        if self.main is not None and procfs.handles(self.main.pid, signal.SIGTERM):
            os.kill(self.main.pid, signal.SIGTERM)

    async def kill(self, reason: str = "") -> None:
        """Kill it, and wait until what follows has followed. reason: for its status; "" says what is usual."""
        if self.main is None:
            return
        self._killed_for = reason
        turned = self._turned
        os.kill(self.main.pid, signal.SIGKILL)  # and with it goes everything else (_note_end)
        await turned.wait()

    async def end(self) -> None:
        """Do not start it again, and return once its end is noted; its processes are killed by somebody else."""
        self._policy = "Never"
        if self._task is not None:
            if self.main is None:  # it is not running: nothing will be noted
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def abandon(self) -> None:
        """See to it no more, whatever its processes do."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self) -> None:
        image = self._spec["image"]
        if image not in IMAGES:
            message = f'Container image "{image}" is not present with pull policy of Never'
            self._tell(self.name, "ErrImageNeverPull", message, warning=True)
            self._become({"waiting": {"reason": "ErrImageNeverPull", "message": message}})
            return
        identity = podspec.container_id(self.pod_uid, self.name.container, self.state.restarts)
        try:
            self.main = self._start_main()
        except NotExecutableError as error:
            self._tell(self.name, "Failed", f"Error: {error}", warning=True)
            ended = {"exitCode": _CANNOT_START, "reason": "StartError", "message": str(error)}
            times = {"startedAt": _NEVER_STARTED, "finishedAt": timestamp(self._now())}
            self._become({"terminated": {**ended, **times, "containerID": identity}}, identity=identity)
            return
        self.previous, self.log = self.log, self.main.log
        self._become({"running": {"startedAt": timestamp(self._now())}}, identity=identity)
        self._tell(self.name, "Pulled", f'Container image "{image}" already present on machine')
        self._tell(self.name, "Created", "Container created")
        self._tell(self.name, "Started", "Container started")

    def _start_main(self) -> Main:
        spec, image = self._spec, IMAGES[self._spec["image"]]
        command = [*spec.get("command", ()), *spec.get("args", ())]
        sockets = {} if command else {port: _listen() for port in image.ports}
        environment = {one["name"]: one.get("value", "") for one in spec.get("env", ())}
        if sockets:
            environment["LISTEN"] = " ".join(f"{port}:{one.fileno()}" for port, one in sockets.items())
        try:
            process = self._runtime.start(
                self.name,
                spec["image"],
                command or image.main,
                tty=bool(spec.get("tty")),
                main=True,
                environment=environment,
                kept=[one.fileno() for one in sockets.values()],
            )
            self.ports = {port: one.getsockname()[1] for port, one in sockets.items()}
        finally:
            for one in sockets.values():
                one.close()
        return Main(process, stdin=bool(spec.get("stdin")), now=self._now)

    async def _supervise(self) -> None:
        """Until the container has ended for good."""
        back_off = 0.0
        while "waiting" not in self.state.state:
            if self.main is not None:
                await self._note_end(self.main)
            if not self._starts_again():
                break
            last = self.state.state
            if back_off:
                self._wait(back_off, last)
                await asyncio.sleep(back_off)
            back_off = min(max(back_off * 2, BACK_OFF_S), MOST_BACK_OFF_S)
            self.state = replace(self.state, last=last, restarts=self.state.restarts + 1)
            self._start()
            self._turn()
        self._turn()

    def _starts_again(self) -> bool:
        return self._policy == "Always" or (self._policy == "OnFailure" and self.state.exit_code != 0)

    async def _note_end(self, main: Main) -> None:
        code = await main.wait()
        self.main, self.ports = None, {}
        await self._runtime.kill(self.name.namespace, self.name.pod, self.name.container)
        await main.finish()
        reason, self._killed_for = self._killed_for or ("Error" if code else "Completed"), ""
        ended = {"exitCode": code, "reason": reason, **self.state.state["running"]}
        times = {"finishedAt": timestamp(self._now()), "containerID": self.state.identity}
        self._become({"terminated": {**ended, **times}}, identity=self.state.identity)

    def _wait(self, seconds: float, last: dict[str, Any]) -> None:
        container = self.name.container
        self._tell(self.name, "BackOff", f"Back-off restarting failed container {container}", warning=True)
        said = f"back-off {seconds:.0f}s restarting failed container={container} pod={self.name.pod}"
        self.state = replace(self.state, last=last)
        self._become({"waiting": {"reason": "CrashLoopBackOff", "message": said}}, identity=self.state.identity)
        self._turn()

    def _become(self, state: dict[str, Any], *, identity: str = "") -> None:
        self.state = replace(self.state, state=state, identity=identity)

    def _turn(self) -> None:
        self._changed(self)
        self._turned.set()
        self._turned = asyncio.Event()


def _listen() -> socket.socket:
    """A listening socket on a free port that others of this machine alone can reach."""
    return socket.create_server(("127.0.0.1", 0), backlog=128)
