"""A proxy for TCP that fails as networks fail, when a test says so; stands before databases, API servers and bastions.

    with fault_proxy(("127.0.0.1", 5432)) as proxy:
        connect to 127.0.0.1:proxy.port
        proxy.hold()
        proxy.resume()

It runs in a thread with a loop of its own, so a test may block. What a method causes has happened when it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Upstream = tuple[str, int] | str
"""Where connections lead: host and port, or the path of a Unix socket."""

Answer = TypeVar("Answer")

_PIECE = 64 * 1024


class Way(Enum):
    """Which way bytes go."""

    UP = "from the client to the server"
    DOWN = "from the server to the client"


class FaultProxy:
    """Passes bytes on until it is told otherwise. Listens on loopback."""

    def __init__(self, upstream: Upstream) -> None:
        """Use `fault_proxy` instead."""
        self.upstream = upstream
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: list[_Link] = []  # as they were opened
        self._passing = asyncio.Event()
        self._passing.set()
        self._swallowed: frozenset[Way] = frozenset()
        self._bytes_per_s = 0.0

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def refuse(self) -> None:
        """Let nobody connect any more; what is connected stays."""
        self._in_loop(self._stop_listening)

    def cut(self, *, with_fin: bool = False) -> None:
        """End every connection, both ends of it: by RST, or by FIN as an orderly end."""
        self._in_loop(lambda: self._end_all(with_fin=with_fin))

    def hold(self) -> None:
        """Let nothing pass, either way; it waits and goes on after `resume`."""
        self._in_loop(self._passing.clear)

    def swallow(self, *ways: Way) -> None:
        """Lose what goes these ways, ends of connections too: both are a black hole, one is a half-open connection.

        Who connects is let in, and lost as well. A connection that lost something stays so after `resume`.
        """
        self._in_loop(lambda: self._set_swallowed(frozenset(ways)))

    def swallow_newest(self, *ways: Way) -> None:
        """The same for the connection that was opened last, alone."""
        self._in_loop(lambda: self._links[-1].lost.update(ways))

    def slow(self, bytes_per_s: float) -> None:
        """Let no more than that pass, each way of each connection."""
        self._in_loop(lambda: self._set_rate(bytes_per_s))

    def resume(self) -> None:
        """Be well again: listen, pass on, at full speed."""
        self._in_loop(self._passing.set)
        self._in_loop(lambda: self._set_swallowed(frozenset()))
        self._in_loop(lambda: self._set_rate(0.0))
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    # --- in the proxy's own thread ---

    def _in_loop(self, work: Callable[[], Answer]) -> Answer:
        async def done() -> Answer:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def _set_swallowed(self, ways: frozenset[Way]) -> None:
        self._swallowed = ways
        for link in self._links:
            link.lost |= ways

    def _end_all(self, *, with_fin: bool) -> None:
        for link in list(self._links):
            link.end(with_fin=with_fin)

    def _set_rate(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self.upstream, str):
                far_reader, far_writer = await asyncio.open_unix_connection(self.upstream)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        link.lost |= self._swallowed
        self._links.append(link)
        try:
            pumps = (self._pump(link, Way.UP, reader, far_writer), self._pump(link, Way.DOWN, far_reader, writer))
            await asyncio.gather(*pumps)
            link.end(with_fin=True)
        except OSError:
            link.end()
        except asyncio.CancelledError:
            link.end()
        finally:
            self._links.remove(link)

    async def _pump(self, link: _Link, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_PIECE):
                if way in link.lost:
                    continue
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
                if self._bytes_per_s:
                    await asyncio.sleep(len(data) / self._bytes_per_s)
        except OSError:
            if not link.lost:
                raise
        if link.lost:
            await link.ended.wait()  # nobody at the other end gets to know
            return
        await self._passing.wait()
        if not link.ended.is_set() and writer.can_write_eof():
            writer.write_eof()

    def start(self) -> None:
        """Run the thread and listen."""
        self._thread.start()
        self.resume()

    def stop(self) -> None:
        """End every connection and the thread."""
        self.refuse()
        self._in_loop(self._passing.set)
        self.cut()
        asyncio.run_coroutine_threadsafe(self._left(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _left(self) -> None:
        """Let go of whatever still runs."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Link:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._writers = (near, far)
        self.lost: set[Way] = set()
        self.ended = asyncio.Event()

    def end(self, *, with_fin: bool = False) -> None:
        """End both ends of it."""
        self.ended.set()
        for writer in self._writers:
            if with_fin:
                writer.close()
                continue
            with contextlib.suppress(OSError):  # a Unix socket knows no RST, and a closed one nothing
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


@contextlib.contextmanager
def fault_proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    """A running proxy."""
    proxy = FaultProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
