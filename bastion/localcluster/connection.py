"""One TLS connection over a plain asyncio transport; made by server, used by websocket, execs and portforward.

asyncio's own TLS waits for the peer's close_notify before its FIN and drops unsent data when the peer is slow to give
it. A real API server sends everything, close_notify and FIN back to back; here that is `finish`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ_LIMIT = 64 * 1024
"""Half of what is held for a reader that lags, in bytes; beyond it the socket is not read."""

WRITE_LIMIT = 64 * 1024
"""Bytes held for a peer that lags before `drain` waits."""

LINGER = 60.0
"""Seconds that a peer may take to read the rest after our FIN."""

_TLS_READ = 64 * 1024


class Connection(asyncio.Protocol):
    """Bytes in through `reader`, out through `write` and `drain`.

    on_ready: called once the handshake is done.
    """

    def __init__(self, context: ssl.SSLContext, on_ready: Callable[[Connection], None]) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._on_ready = on_ready
        self._shaken = False
        self._finished = False
        self._transport: asyncio.Transport | None = None
        self.reader = asyncio.StreamReader(limit=READ_LIMIT)
        self._left = asyncio.Event()
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._open = asyncio.Event()
        self._answering = False
        self._open.set()

    # --- asyncio.Protocol ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self._transport = transport
        self.reader.set_transport(transport)

    def data_received(self, data: bytes) -> None:
        """Decrypt what came."""
        if self._finished:
            return
        self._incoming.write(data)
        try:
            self._advance()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._no_more()
        except ssl.SSLError:  # no TLS, a client that distrusts us, or a broken record: nothing more can be said
            self.abort()
            return
        self._flush()

    def eof_received(self) -> bool:
        """The peer's FIN: what we still have may go out, unless we finished too."""
        self._no_more()
        return self._shaken and not self._finished

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        del exc  # a peer may leave as it likes
        self._no_more()
        self._gone.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """The peer lags."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writable.set()

    # --- for its users ------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Encrypt and send; await `drain` before the next."""
        if self._finished or self._gone.is_set():
            return
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._flush()

    async def drain(self) -> None:
        """Wait until more may be sent. Raises ConnectionResetError if the peer is gone."""
        await self.pass_hold()
        await self._writable.wait()
        if self._gone.is_set():
            raise ConnectionResetError

    async def finish(self) -> None:
        """Send close_notify and FIN behind what was written, waiting for nothing; then linger until the peer closes."""
        if self._transport is None or self._gone.is_set():
            return
        self._finished = True
        with contextlib.suppress(ssl.SSLError):  # it wants the peer's close_notify, which we do not wait for
            self._tls.unwrap()
        self._flush()
        try:
            self._transport.write_eof()
            self._transport.resume_reading()  # and discard: unread bytes would make the kernel drop what is unsent
            async with asyncio.timeout(LINGER):
                await self._gone.wait()
        except OSError:  # it took too long (TimeoutError is one), or had reset the connection already
            self.abort()

    async def wait_gone(self) -> None:
        """Until nothing connects us to the peer any more."""
        await self._gone.wait()

    async def wait_left(self) -> None:
        """Until the peer has said its last byte; it may still read."""
        await self._left.wait()

    def abort(self) -> None:
        """Drop the TCP connection without another word."""
        if self._transport is not None:
            self._transport.abort()

    def hold(self, seconds: float, *, answering: bool = False) -> None:
        """Let nothing pass in either direction for a while, as a network that swallows packets.

        answering: only what is behind us is silent, so what needs nobody else is still read and answered.
        """
        self._answering = answering
        self._open.clear()
        asyncio.get_running_loop().call_later(seconds, self._open.set)

    async def pass_hold(self, *, by_ourselves: bool = False) -> None:
        """Wait while the connection is held; not for what we do by ourselves, if only what is behind us is silent."""
        if not (by_ourselves and self._answering):
            await self._open.wait()

    # --- TLS ----------------------------------------------------------------

    def _advance(self) -> None:
        if not self._shaken:
            self._tls.do_handshake()
            self._shaken = True
            self._on_ready(self)
        while chunk := self._tls.read(_TLS_READ):
            self.reader.feed_data(chunk)
        self._no_more()

    def _no_more(self) -> None:
        self.reader.feed_eof()
        self._left.set()

    def _flush(self) -> None:
        if self._transport is not None and (data := self._outgoing.read()):
            self._transport.write(data)
