"""What real clients send before they are authenticated, and ways to spoil it; used by the fuzzing of tests/limits."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import asyncssh

from support.rawssh import NEWKEYS
from support.sshpeer import key_of, own_address

if TYPE_CHECKING:
    from random import Random

    from support.trips import Bastion

HEADS_OF_STRINGS = (
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\x04\x00\x00",
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\xff",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What clients sent: OpenSSH up to the encryption, as bytes; asyncssh after it, as payloads."""

    plain: tuple[bytes, ...]
    payloads: tuple[bytes, ...]


async def recorded(bastion: Bastion) -> Opening:
    """Log in with real clients and keep what they send."""
    return Opening(plain=await _plain(bastion), payloads=await _payloads(bastion))


async def _plain(bastion: Bastion) -> tuple[bytes, ...]:
    """The version line and the packets before NEWKEYS of the ssh on PATH, taken down by a proxy."""
    taken = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", bastion.port)
        answers = asyncio.create_task(_pass_on(there, writer))
        while data := await reader.read(65536):
            taken.extend(data)
            back.write(data)
        answers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answers
        for end in (writer, back):
            end.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        port = str(proxy.sockets[0].getsockname()[1])
        argv = bastion.ssh_argv("-p", port, "web.default@b", "true")
        process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0
    version, _, rest = bytes(taken).partition(b"\n")
    pieces = [version + b"\n"]
    while rest[5] != NEWKEYS:
        length = 4 + int.from_bytes(rest[:4], "big")
        pieces.append(rest[:length])
        rest = rest[length:]
    return tuple(pieces)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def _payloads(bastion: Bastion) -> tuple[bytes, ...]:
    """What an asyncssh client sends from the first encrypted packet to the signature."""
    taken: list[bytes] = []

    class Keeper(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            noted = cast("Any", conn)
            send = noted.send_packet

            def send_packet(kind: int, *parts: bytes, **options: Any) -> None:
                if 5 <= kind < 20 or 50 <= kind < 80:
                    taken.append(bytes([kind]) + b"".join(parts))
                send(kind, *parts, **options)

            noted.send_packet = send_packet

    async with asyncssh.connect(
        "127.0.0.1",
        bastion.port,
        client_factory=Keeper,
        username="web.default",
        client_keys=[str(key_of(bastion, "alice"))],
        local_addr=(own_address(bastion), 0),
        known_hosts=None,
        config=None,
        agent_path=None,
    ):
        pass
    return tuple(taken)


def spoil(data: bytes, chance: Random) -> bytes:
    """One packet made wrong in one of many ways."""
    kind = chance.randrange(6)
    at = chance.randrange(len(data)) if data else 0
    if kind == 0:
        return _flip(data, chance)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + chance.choice(HEADS_OF_STRINGS) + data[at + 4 :]
    if kind == 3:
        return data[:at] + chance.randbytes(chance.randrange(1, 64)) + data[at:]
    if kind == 4:
        return data[:at] + data[at + chance.randrange(1, 16) :]
    return data[:at] + data[at : at + 32] * chance.randrange(2, 40) + data[at + 32 :]


def _flip(data: bytes, chance: Random) -> bytes:
    spoiled = bytearray(data)
    for _ in range(chance.randrange(1, 9)):
        if spoiled:
            spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
    return bytes(spoiled)


def spoiled(packets: tuple[bytes, ...], chance: Random) -> list[bytes]:
    """A run of packets, at least one of them wrong, perhaps one twice and perhaps in another order."""
    run = list(packets)
    at = chance.randrange(len(run))
    run[at] = spoil(run[at], chance)
    if chance.random() < 0.2:
        run.insert(chance.randrange(len(run) + 1), chance.choice(run))
    if chance.random() < 0.2:
        chance.shuffle(run)
    return run
