"""HTTP and WebSocket over TLS with nothing done behind one's back; used by the tests of the embedded cluster.

It answers no Close frame and no close_notify, so that a test sees what the server does by itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.cluster import Cluster

LIMIT = 60.0
"""Seconds that anything may take."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

Query = list[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Answer:
    """An HTTP response; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Frame:
    """A WebSocket frame from the server."""

    opcode: int
    data: bytes


@dataclass(frozen=True)
class Ending:
    """What came after the last data frame, with nothing sent by us: the close code (0 is none), then TLS, then TCP."""

    code: int
    close_notify: bool
    fin: bool


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ca: str) -> None:
        self._reader, self.writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=ca)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._plain = bytearray()
        self.close_notify = False
        self.fin = False

    async def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
                assert not self.fin, "the server closed within the handshake"
            else:
                await self._flush()
                return

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        await self._flush()

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes; fewer if the server ended."""
        while len(self._plain) < count and not self.close_notify and not self.fin:
            await self._advance()
        data = bytes(self._plain[:count])
        del self._plain[:count]
        return data

    async def read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = await self.read(1)
            if not byte:
                break
            line += byte
        return line.removesuffix(b"\r\n")

    async def request(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str | bytes]] = (),
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Answer:
        lines = [f"{method} {target(path, query)} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)
        return await self.answer()

    async def upgrade(
        self, path: str, query: Query, headers: Sequence[tuple[str, str]], subprotocols: Sequence[str]
    ) -> Answer:
        asked = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ]
        if subprotocols:
            asked.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        return await self.request("GET", path, query, [*asked, *headers])

    async def answer(self) -> Answer:
        status = int((await self.read_line()).split()[1])
        headers: dict[str, str] = {}
        while line := await self.read_line():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join([chunk async for chunk in self.chunks()]))
        return Answer(status, headers, await self.read(int(headers.get("content-length", 0))))

    async def begin(
        self, method: str, path: str, query: Sequence[tuple[str, str | bytes]], headers: Sequence[tuple[str, str]]
    ) -> None:
        """Ask for a stream and read up to its body; `chunks` gives the rest."""
        lines = [f"{method} {target(path, query)} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join([*lines, "", ""]).encode())
        assert (await self.read_line()).split()[1] == b"200"
        while await self.read_line():
            pass

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of a chunked body as they come."""
        while length := int(await self.read_line() or b"0", 16):
            yield await self.read(length)
            await self.read_line()
        await self.read_line()

    async def send_frame(self, data: bytes, opcode: int = BINARY) -> None:
        await self.send(masked(data, opcode))

    async def frame(self) -> Frame | None:
        """The next frame; None once the server ended."""
        head = await self.read(2)
        if len(head) < 2:
            return None
        length = head[1]
        if length == 126:
            (length,) = struct.unpack("!H", await self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.read(8))
        return Frame(head[0] & 0x0F, await self.read(length))

    async def frames_to_end(self) -> tuple[list[Frame], Ending]:
        """All data frames that still come, and how the stream ends."""
        frames: list[Frame] = []
        code = 0
        while (frame := await self.frame()) is not None:
            if frame.opcode == CLOSE:
                (code,) = struct.unpack("!H", frame.data)
            else:
                assert code == 0, "a frame after the Close frame"
                frames.append(frame)
        while not self.fin:
            await self._advance()
        return frames, Ending(code, self.close_notify, self.fin)

    def leave(self) -> None:
        """Abort the TCP connection."""
        self.writer.transport.abort()

    async def _advance(self) -> None:
        try:
            data = self._tls.read(65536)
        except ssl.SSLWantReadError:
            await self._fill()
        except ssl.SSLEOFError:
            self.fin = True
        else:
            self._plain += data
            if not data:  # how OpenSSL tells of a close_notify
                self.close_notify = True
                await self._fill()

    async def _fill(self) -> None:
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            data = b""
        if data:
            self._incoming.write(data)
        else:
            self.fin = True
            self._incoming.write_eof()

    async def _flush(self) -> None:
        self.writer.write(self._outgoing.read())
        await self.writer.drain()


def target(path: str, query: Sequence[tuple[str, str | bytes]]) -> str:
    pairs = [f"{name}={quote_from_bytes(value) if isinstance(value, bytes) else quote(value)}" for name, value in query]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def masked(data: bytes, opcode: int = BINARY) -> bytes:
    """A whole client frame."""
    if len(data) < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, len(data))
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, len(data))
    key = os.urandom(4)
    long_key = int.from_bytes(key * (len(data) // 4 + 1))
    padded = int.from_bytes(data + b"\0" * (4 - len(data) % 4))
    return head + key + (padded ^ long_key).to_bytes(len(data) // 4 * 4 + 4)[: len(data)]


@contextlib.asynccontextmanager
async def connect(cluster: Cluster) -> AsyncIterator[RawClient]:
    """A connection to a cluster; aborted at the end, and a failure if the block takes longer than LIMIT."""
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port)
        client = RawClient(reader, writer, str(cluster.ca))
        try:
            await client.handshake()
            yield client
        finally:
            client.leave()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def bearer(cluster: Cluster, user: str = "kubernetes-admin") -> tuple[str, str]:
    """The header that says who asks."""
    return "Authorization", f"Bearer {cluster.token(user)}"


def exec_query(*command: str | bytes, tty: bool = False, stdin: bool = True, container: str = "") -> Query:
    """The query of an exec with all its streams."""
    streams: Query = [("stdin", str(stdin).lower()), ("stdout", "true"), ("stderr", str(not tty).lower())]
    chosen: Query = [("container", container)] if container else []
    commands: Query = [("command", part) for part in command]
    return [*commands, *streams, ("tty", str(tty).lower()), *chosen]


@contextlib.asynccontextmanager
async def exec_in(
    cluster: Cluster, pod: str, *command: str | bytes, tty: bool = False, subprotocol: str = "v5.channel.k8s.io"
) -> AsyncIterator[RawClient]:
    """An exec stream in a pod ("default/web"), up to and with its first, empty frame."""
    namespace, _, name = pod.partition("/")
    async with connect(cluster) as client:
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/exec"
        answer = await client.upgrade(path, exec_query(*command, tty=tty), [bearer(cluster)], [subprotocol])
        assert answer.status == 101, answer
        first = await client.frame()
        assert first == Frame(BINARY, b"\x01")
        yield client


def channel(frames: Sequence[Frame], number: int) -> bytes:
    """What was sent on one channel, joined."""
    return b"".join(frame.data[1:] for frame in frames if frame.data[:1] == bytes([number]))
