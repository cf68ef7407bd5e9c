"""One started process and its pipes or terminal, without threads; made by runtime, driven by execs and mains."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import subprocess
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bastion.model import WindowSize

READ = 32 * 1024
"""Bytes of output taken at once: one frame's worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a process is started. `kept`: descriptors that it inherits beside its standard ones."""

    file: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    tty: bool
    kept: Sequence[int] = ()


class Stdio(Protocol):
    """What a stream drives: a process of its own (exec), or a share in a container's main one (attach)."""

    stdout: int
    stderr: int | None

    async def read(self, descriptor: int) -> bytes:
        """Output when there is some; b"" at its end."""

    async def write(self, data: bytes) -> None:
        """Give input, as fast as it is read."""

    def close_stdin(self) -> None:
        """End the input."""

    def resize(self, size: WindowSize) -> None:
        """Set the terminal's size."""

    async def wait(self) -> int:
        """The exit status to tell."""

    async def outlive(self) -> None:
        """The stream is gone: let the process live on alone."""

    def release(self) -> None:
        """The process has ended, and all of its output was read."""


class Process:
    """A running process, the leader of its own session.

    argv: as asked for. attached: its stream is still there; False makes it an orphan.
    stdout, stderr: descriptors to read from (a terminal has one).
    """

    def __init__(self, start: Start) -> None:
        self.argv = start.argv
        self.tty = start.tty
        self.attached = True
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        given, kept = _terminal() if start.tty else _pipes()
        try:
            self._popen = _popen(start, given)
        except (OSError, ValueError):
            _close(kept)
            raise
        finally:
            _close(given)
        for descriptor in kept:
            os.set_blocking(descriptor, False)
        self._stdin, self.stdout, *rest = kept
        self.stderr = rest[0] if rest else None

    @property
    def pid(self) -> int:
        """Its process id, which is also its session's."""
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        """Whether it was reaped; others of its session may still run."""
        return self._ended.done()

    def ended(self, code: int) -> None:
        """Called once when the process was reaped; code is 128+n after signal n."""
        self._popen.returncode = code  # so that Popen does not wait for a pid that is not ours any more
        if not self._ended.done():
            self._ended.set_result(code)

    async def wait(self) -> int:
        """The exit status."""
        return await asyncio.shield(self._ended)

    async def read(self, descriptor: int) -> bytes:
        """Output when there is some; b"" at its end."""
        while True:
            await _ready(descriptor, writing=False)
            try:
                return os.read(descriptor, READ)
            except BlockingIOError:
                continue
            except OSError:  # EIO: nobody has the terminal open any more
                return b""

    async def write(self, data: bytes) -> None:
        """Give input to the process, as fast as it reads.

        What nobody reads any more is dropped; but what waited for a reader by then waits for ever, as with containerd.
        """
        waited = False
        view = memoryview(data)
        while view and self._stdin >= 0:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                waited = True
                await _ready(self._stdin, writing=True)
            except OSError:  # EPIPE, EIO: nobody reads
                if waited and not self.tty:
                    await asyncio.Future()
                return

    def close_stdin(self) -> None:
        """End its input. A terminal has no such end (recorded: nothing happens)."""
        if not self.tty and self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def resize(self, size: WindowSize) -> None:
        """Set the terminal's size."""
        if self.tty:
            fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0))

    async def outlive(self) -> None:
        """Leave it alone: no HUP, its terminal stays open, its pipe ends, its output goes nowhere."""
        self.attached = False
        self.close_stdin()
        try:
            await self.discard_output()
            await self.wait()
        finally:
            self.release()

    async def discard_output(self) -> None:
        """Read and forget what is still said, until the end."""
        await asyncio.gather(*(self._discard(one) for one in (self.stdout, self.stderr) if one is not None))

    def release(self) -> None:
        """Close every descriptor."""
        self.close_stdin()
        _close(one for one in (self.stdout, self.stderr) if one is not None)

    async def _discard(self, descriptor: int) -> None:
        while await self.read(descriptor):
            pass


def _terminal() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Descriptors for the process and for us. A new terminal is 0 by 0 (recorded)."""
    ours, theirs = os.openpty()
    return (theirs,), (ours, ours)


def _pipes() -> tuple[tuple[int, ...], tuple[int, ...]]:
    stdin_read, stdin_write = os.pipe()
    stdout_read, stdout_write = os.pipe()
    stderr_read, stderr_write = os.pipe()
    return (stdin_read, stdout_write, stderr_write), (stdin_write, stdout_read, stderr_read)


def _popen(start: Start, given: Sequence[int]) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = given[0], given[min(1, len(given) - 1)], given[-1]
    return subprocess.Popen(  # noqa: S603 - starting what it is asked to start is its work
        start.argv,
        executable=start.file,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=start.directory,
        env=start.environment,
        start_new_session=True,
        pass_fds=start.kept,
        umask=0o022,
        preexec_fn=_take_terminal if start.tty else None,  # noqa: PLW1509 - there are no threads here
    )


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in set(descriptors):
        os.close(descriptor)


async def _ready(descriptor: int, *, writing: bool) -> None:
    """Wait until a descriptor can be read or written."""
    loop = asyncio.get_running_loop()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)
