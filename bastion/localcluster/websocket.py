"""The server's end of a WebSocket (RFC 6455), payloads streamed in pieces; used by execs and portforward.

A message is never held whole: a client may send one of 32 MiB, and a process that does not read must stop the socket.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from bastion.localcluster.http import Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bastion.localcluster.connection import Connection
    from bastion.localcluster.http import Request

MAX_MESSAGE = 32 << 20
"""Bytes of a client's message; a longer one drops the connection (recorded: 31 MiB passes, 33 MiB does not)."""

PIECE = 64 * 1024
"""Bytes handed on at once."""

NORMAL = struct.pack("!H", 1000)
"""The payload of the Close frame that ends every stream."""

_KEY_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_SHORT, _LENGTH_16, _LENGTH_64 = 125, 126, 127
_FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class ProtocolError(Exception):
    """The client broke the protocol or its limits; the connection is to be dropped."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of one message's payload; `first` and `last` mark the message's borders."""

    data: bytes
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class _Head:
    opcode: int
    final: bool
    length: int
    key: bytes


def is_upgrade(request: Request) -> bool:
    """Whether a request asks for a WebSocket."""
    return (
        request.method == "GET"
        and request.header("upgrade").lower() == "websocket"
        and "upgrade" in request.header("connection").lower()
        and request.header("sec-websocket-version") == "13"
    )


def accept(request: Request, subprotocol: str) -> Response:
    """The 101 for a request; `subprotocol` may be "": none."""
    digest = hashlib.sha1(request.header("sec-websocket-key").encode() + _KEY_SALT, usedforsecurity=False).digest()
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
    ]
    if subprotocol:
        headers.append(("Sec-WebSocket-Protocol", subprotocol))
    return Response(status=101, headers=tuple(headers))


def offered(request: Request) -> tuple[str, ...]:
    """The subprotocols a client offers, in its order."""
    values = request.header_values("sec-websocket-protocol")
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def frame(opcode: Opcode, parts: Iterable[bytes]) -> bytes:
    """One whole, unmasked frame."""
    payload = b"".join(parts)
    head = bytes([_FIN | opcode])
    if len(payload) <= _SHORT:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return head + struct.pack("!BH", _LENGTH_16, len(payload)) + payload
    return head + struct.pack("!BQ", _LENGTH_64, len(payload)) + payload


def unmask(data: bytes, key: bytes, offset: int) -> bytes:
    """Apply a frame's masking key to a run of its payload that begins `offset` bytes into it."""
    if key == b"\0\0\0\0":
        return data
    result = bytearray(data)
    for lane in range(4):
        result[lane::4] = result[lane::4].translate(_xor_table(key[(lane + offset) % 4]))
    return bytes(result)


@functools.lru_cache(maxsize=256)
def _xor_table(byte: int) -> bytes:
    return bytes(value ^ byte for value in range(256))


class WebSocket:
    """Messages over a connection whose upgrade is done."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reader = connection.reader
        self._head: _Head | None = None  # of the data frame that is being read
        self._offset = 0  # how far we are in it
        self._size = 0  # bytes of the message so far, headers of coming frames included
        self._started = False  # a piece of the message was handed on

    async def send(self, opcode: Opcode, *parts: bytes) -> None:
        """Send one message once the peer has room. Raises ConnectionResetError if it is gone."""
        await self._connection.drain()
        self._connection.write(frame(opcode, parts))

    async def finish(self, *last: bytes) -> None:
        """Send these whole frames, the Close frame, close_notify and FIN back to back."""
        await self._connection.drain()
        self._connection.write(b"".join([*last, frame(Opcode.CLOSE, [NORMAL])]))
        await self._connection.finish()

    async def wait_gone(self) -> None:
        """Until the connection is lost, whether or not anybody receives."""
        await self._connection.wait_gone()

    async def receive(self) -> Piece | None:
        """The next run of a message; None once the client closed or vanished. Pings are answered meanwhile.

        Raises:
            ProtocolError: the client broke RFC 6455 or sent more than MAX_MESSAGE.
        """
        try:
            while self._head is None:
                head = await self._next_head()
                if head.opcode == Opcode.CLOSE:
                    return None
                await self._begin(head)
            return await self._piece(self._head)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _next_head(self) -> _Head:
        first, second = await self._reader.readexactly(2)
        await self._connection.pass_hold(by_ourselves=True)
        length = second & ~_MASKED
        if not second & _MASKED or first & _RESERVED:
            raise ProtocolError("an unmasked frame, or one of an extension")
        if length == _LENGTH_16:
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif length == _LENGTH_64:
            (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
        if length > MAX_MESSAGE:
            raise ProtocolError("a message over the limit")
        key = await self._reader.readexactly(4)
        return _Head(opcode=first & 0x0F, final=bool(first & _FIN), length=length, key=key)

    async def _begin(self, head: _Head) -> None:
        match head.opcode:
            case Opcode.PING | Opcode.PONG:
                if head.length > _SHORT:
                    raise ProtocolError("a long control frame")
                data = unmask(await self._reader.readexactly(head.length), head.key, 0)
                if head.opcode == Opcode.PING:
                    await self._connection.pass_hold(by_ourselves=True)
                    self._connection.write(frame(Opcode.PONG, [data]))
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONTINUATION:
                self._size += head.length
                if self._size > MAX_MESSAGE:
                    raise ProtocolError("a message over the limit")
                self._head, self._offset = head, 0
            case _:
                raise ProtocolError("an unknown opcode")

    async def _piece(self, head: _Head) -> Piece:
        wanted = min(PIECE, head.length - self._offset)
        raw = await self._reader.read(wanted) if wanted else b""
        if wanted and not raw:
            raise asyncio.IncompleteReadError(raw, wanted)
        data = unmask(raw, head.key, self._offset)
        self._offset += len(raw)
        first, self._started = not self._started, True
        ended = self._offset == head.length
        if ended:
            self._head = None
        if ended and head.final:
            self._size, self._started = 0, False
        return Piece(data, first=first, last=ended and head.final)
