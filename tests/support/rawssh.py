"""SSH as bytes, up to where encryption begins, with nothing done behind one's back; used by limits and abuse tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from asyncssh.packet import Boolean, Byte, NameList, SSHPacket, String, UInt32
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from support.sshpeer import own_address
from support.trips import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.trips import Bastion

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST = 1, 2, 3, 4, 5
KEXINIT, NEWKEYS, ECDH_INIT, ECDH_REPLY = 20, 21, 30, 31
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN_CONFIRMATION, CHANNEL_SUCCESS = 91, 99

VERSION = b"SSH-2.0-raw"
KEX = (b"curve25519-sha256", b"ext-info-c", b"kex-strict-c-v00@openssh.com")


def kexinit(
    kex: Sequence[bytes] = KEX, *, compression: Sequence[bytes] = (b"none",), cookie: bytes | None = None
) -> bytes:
    """A KEXINIT as a client sends it (RFC 4253 section 7.1); its cookie is random unless one is given."""
    ciphers, macs = NameList([b"aes128-gcm@openssh.com"]), NameList([b"hmac-sha2-256-etm@openssh.com"])
    lists = (NameList(kex), NameList([b"ssh-ed25519"]), ciphers, ciphers, macs, macs)
    packing = NameList(compression)
    cookie = os.urandom(16) if cookie is None else cookie
    return b"".join(
        (Byte(KEXINIT), cookie, *lists, packing, packing, NameList([]), NameList([]), Boolean(value=False), UInt32(0))
    )


def ecdh_init() -> bytes:
    """The client's half of a curve25519 exchange (RFC 8731), with a fresh key that is thrown away."""
    return Byte(ECDH_INIT) + String(X25519PrivateKey.generate().public_key().public_bytes_raw())


def framed(payload: bytes, *, length: int | None = None) -> bytes:
    """A packet without encryption (RFC 4253 section 6); `length` lies about its length."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    real = 1 + len(payload) + padding
    return UInt32(real if length is None else length) + Byte(padding) + payload + bytes(padding)


class RawSsh:
    """A connection on which bytes are sent as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Send bytes; nothing happens if the server has closed the connection."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def send(self, payload: bytes) -> None:
        """Send a packet."""
        await self.write(framed(payload))

    async def greet(self, version: bytes = VERSION) -> bytes:
        """Exchange versions; returns the server's."""
        await self.write(version + b"\r\n")
        return await self.line()

    async def line(self) -> bytes:
        """The server's next line, as it sends them before the first packet; empty if it closed the connection."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return (await self._reader.readline()).rstrip(b"\r\n")
        except ConnectionError:
            return b""

    async def packet(self) -> bytes:
        """The payload of the server's next packet; empty at the end of the connection."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await self._reader.readexactly(5)
                length = int.from_bytes(head[:4], "big")
                rest = await self._reader.readexactly(length - 1)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        return rest[: length - 1 - head[4]]

    async def everything(self) -> bytes:
        """All bytes up to the end of the connection, which must come."""
        data = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while more := await self._reader.read(65536):
                    data += more
        return data

    async def closed(self) -> str:
        """Wait for the server to close; the reason it gave in a DISCONNECT without encryption, if any."""
        reason = ""
        while payload := await self.packet():
            if payload[0] == DISCONNECT:
                packet = SSHPacket(payload[1:])
                packet.get_uint32()
                reason = packet.get_string().decode()
        return reason

    async def end(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def leave(self) -> None:
        """Abort the TCP connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw(bastion: Bastion, *, address: str | None = None) -> AsyncIterator[RawSsh]:
    """A TCP connection to a bastion, from an address of its own unless one is given; aborted at the end."""
    local = (address or own_address(bastion), 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", bastion.port, local_addr=local)
    peer = RawSsh(reader, writer)
    try:
        yield peer
    finally:
        peer.leave()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
