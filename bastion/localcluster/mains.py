"""A container's main process: its log, and who is attached to it; made by kubelet, shared by execs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.localcluster.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bastion.localcluster.process import Process
    from bastion.model import WindowSize

_HELD = 64  # pieces of output for an attached client that lags; then the process waits, as a real one does


class Main:
    """One run of a main process. `stdin`: it wants input; without, it gets end of file at once."""

    def __init__(self, process: Process, *, stdin: bool, now: Callable[[], datetime]) -> None:
        self.log = Log()
        self._process = process
        self._now = now
        self._attached: set[_Attachment] = set()
        if not stdin:
            process.close_stdin()
        self._pump = asyncio.ensure_future(self._forward_all())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def tty(self) -> bool:
        """Whether it runs on a terminal."""
        return self._process.tty

    async def wait(self) -> int:
        """The exit status; others of the container may still run and write."""
        return await self._process.wait()

    async def finish(self) -> None:
        """Once nothing of the container lives: read the rest and let everybody know of the end."""
        await self._pump
        self.log.end(self._now())
        self._process.release()

    def attach(self) -> _Attachment:
        """A share in its input and in the output from now on."""
        attachment = _Attachment(self._process, self._attached.discard)
        self._attached.add(attachment)
        return attachment

    async def _forward_all(self) -> None:
        descriptors = [one for one in (self._process.stdout, self._process.stderr) if one is not None]
        await asyncio.gather(*(self._forward(one) for one in descriptors))
        for attachment in list(self._attached):
            await attachment.end()

    async def _forward(self, descriptor: int) -> None:
        while data := await self._process.read(descriptor):
            self.log.write(self._now(), data)
            for attachment in list(self._attached):
                await attachment.put(descriptor, data)


class _Attachment:
    """What one attached stream sees of a main process (process.Stdio)."""

    def __init__(self, process: Process, leave: Callable[[_Attachment], None]) -> None:
        self._process = process
        self._leave = leave
        self.stdout = process.stdout
        self.stderr = process.stderr
        descriptors = [one for one in (self.stdout, self.stderr) if one is not None]
        self._held: dict[int, asyncio.Queue[bytes]] = {one: asyncio.Queue(_HELD) for one in descriptors}
        self._left = asyncio.Event()

    async def put(self, descriptor: int, data: bytes) -> None:
        """Output of the process; waits for a client that lags, until it leaves."""
        putting = asyncio.ensure_future(self._held[descriptor].put(data))
        leaving = asyncio.ensure_future(self._left.wait())
        await asyncio.wait((putting, leaving), return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()
        leaving.cancel()

    async def end(self) -> None:
        """There is no more output."""
        for descriptor in self._held:
            await self.put(descriptor, b"")

    async def read(self, descriptor: int) -> bytes:
        """Output when there is some; b"" at its end."""
        return await self._held[descriptor].get()

    async def write(self, data: bytes) -> None:
        """Give input to the process."""
        await self._process.write(data)

    def close_stdin(self) -> None:
        """One client's end of input is not the process's."""

    def resize(self, size: WindowSize) -> None:
        """Set the terminal's size."""
        self._process.resize(size)

    async def wait(self) -> int:
        """0: attach does not report how the process ended (as a real 1.36 does not)."""
        await self._process.wait()
        return 0

    async def outlive(self) -> None:
        """Detach; the process goes on."""
        self.release()

    def release(self) -> None:
        """Detach."""
        self._left.set()
        self._leave(self)
