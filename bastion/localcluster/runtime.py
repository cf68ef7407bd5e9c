"""Starts, finds and ends the processes of containers; used by execs, kubelet, control and __main__.

A process belongs to a container if it is in the session of something that was started there, or if its HOME is the
container's (a daemon that made a session of its own). This process adopts orphans, so that nothing outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.localcluster import procfs
from bastion.localcluster.images import IMAGES, Container, NotExecutableError
from bastion.localcluster.process import Process, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bastion.localcluster.procfs import Seen

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_PATIENCE = 5.0  # seconds to wait for killed processes; one that the kernel keeps longer is beyond us


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerName:
    """Which container; `pod` is unique in its namespace."""

    namespace: str
    pod: str
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A process of a container. orphan: no stream leads to it any more."""

    name: ContainerName
    pid: int
    argv: list[str]
    orphan: bool


class Runtime:
    """All containers under one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._containers: dict[ContainerName, Container] = {}
        self._sessions: dict[int, tuple[ContainerName, Process]] = {}
        self._mains: set[int] = set()  # sessions of the containers' main processes

    def open(self) -> None:
        """Adopt orphans and hear of every child's end. Call it inside the event loop."""
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            if (
                signal.getsignal(number) is signal.SIG_IGN
            ):  # by nohup or by a shell's `&`: containers would inherit that
                signal.signal(number, _take_no_notice)

    def start(  # noqa: PLR0913 - what a container's spec says
        self,
        name: ContainerName,
        image: str,
        argv: Sequence[str],
        *,
        tty: bool,
        main: bool = False,
        environment: Mapping[str, str] | None = None,
        kept: Sequence[int] = (),
    ) -> Process:
        """Start a process in a container; its main one may have more environment and inherit descriptors.

        Raises:
            NotExecutableError: it cannot be started, in the words of the container runtime.
        """
        container = self._container(name, image)
        if not argv:
            raise NotExecutableError("process args cannot be empty")
        start = Start(
            file=container.resolve(argv[0]),
            argv=argv,
            environment={**container.environment(tty=tty), **(environment or {})},
            directory=container.home,
            tty=tty,
            kept=kept,
        )
        try:
            process = Process(start)
        except ValueError:  # a NUL in an argument
            raise NotExecutableError(f"exec {start.file}: {os.strerror(errno.EINVAL).lower()}") from None
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO).lower()
            raise NotExecutableError(f"exec {start.file}: {reason}") from None
        self._sessions[process.pid] = name, process
        if main:
            self._mains.add(process.pid)
        return process

    def processes(self) -> list[Listed]:
        """Every living process that streams started: the containers' own main processes are left out."""
        return [
            Listed(name=name, pid=seen.pid, argv=seen.argv(), orphan=orphan)
            for name, seen, orphan in self._members()
            if seen.session not in self._mains
        ]

    def usage(self) -> dict[ContainerName, tuple[float, int]]:
        """Of each container whose processes live: the seconds of processor time and the Ki of memory that they use."""
        found: dict[ContainerName, tuple[float, int]] = {}
        for name, seen, _ in self._members():
            seconds, memory = procfs.usage(seen.pid)
            before = found.get(name, (0.0, 0))
            found[name] = before[0] + seconds, before[1] + memory
        return found

    async def kill(self, namespace: str, pod: str, container: str = "") -> None:
        """Kill every process of a pod, or of one of its containers ("" is all), as the kernel does when one dies."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:  # again, because one may have forked meanwhile
            doomed = [
                seen.pid
                for name, seen, _ in self._members()
                if (name.namespace, name.pod) == (namespace, pod) and container in ("", name.container)
            ]
            if not doomed:
                return
            await _kill(doomed)

    def forget(self, namespace: str, pod: str) -> None:
        """A pod is no more; the next of its name may have other images."""
        for name in [one for one in self._containers if (one.namespace, one.pod) == (namespace, pod)]:
            del self._containers[name]

    async def close(self) -> None:
        """Kill and wait for everything that was ever started here."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and (doomed := _descendants(os.getpid())):
            await _kill(doomed)
        self._reap()

    def _container(self, name: ContainerName, image: str) -> Container:
        if name not in self._containers:
            container = Container(
                directory=self._directory / name.namespace / name.pod / name.container,
                image=IMAGES[image],
                hostname=name.pod,
            )
            container.prepare()
            self._containers[name] = container
        return self._containers[name]

    def _members(self) -> list[tuple[ContainerName, Seen, bool]]:
        """Living processes of containers, and whether each is an orphan."""
        homes = {b"HOME=" + os.fsencode(one.home): name for name, one in self._containers.items()}
        members = []
        for seen in procfs.living():
            if seen.session in self._sessions:
                name, process = self._sessions[seen.session]
                members.append((name, seen, not process.attached))
            elif home := next((home for home in seen.environment() if home in homes), None):
                members.append((homes[home], seen, True))
        return members

    def _reap(self) -> None:
        """Take the status of every child that ended, adopted ones too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid in self._sessions:
                self._sessions[pid][1].ended(code if code >= 0 else 128 - code)
                self._forget_empty_sessions()

    def _forget_empty_sessions(self) -> None:
        """Forget leaders that ended and left nobody behind: their pids may come again."""
        ended = [pid for pid, (_, process) in self._sessions.items() if process.has_ended]
        occupied = {seen.session for seen in procfs.living()} if ended else set()
        for pid in ended:
            if pid not in occupied:
                del self._sessions[pid]
                self._mains.discard(pid)


def _take_no_notice(number: int, frame: object) -> None:
    """Ignore a signal without leaving that to the programs that are started."""


def _descendants(ancestor: int) -> list[int]:
    parents = {seen.pid: seen.parent for seen in procfs.living()}
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {ancestor})


async def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.005)  # they end, and are reaped, between two looks
