"""Somebody on the wire between an ssh client and the bastion, who changes packets; used by tests/abuse.

They see packets up to NEWKEYS and may put others among them. After that they can leave some out, because the lengths
of packets are in the open with AES-GCM (RFC 5647) and with encrypt-then-MAC (OpenSSH's PROTOCOL).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.sshpeer import own_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.trips import Bastion

KEXINIT, NEWKEYS = 20, 21
IGNORE = b"\x02\x00\x00\x00\x00"
"""The payload of an SSH_MSG_IGNORE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done to one direction.

    insert: payloads put before that direction's NEWKEYS; first: before everything but the version instead.
    drop: how many packets after NEWKEYS are left out; tag: bytes of MAC behind each.
    """

    insert: tuple[bytes, ...] = ()
    first: bool = False
    drop: int = 0
    tag: int = 16


@dataclass(slots=True)
class Wire:
    """Where clients connect, and what was seen."""

    port: int = 0
    inserted: int = 0
    dropped: int = 0
    offered: list[bytes] = field(default_factory=list)
    """The KEXINIT payloads, in the order they came."""


def packet(payload: bytes) -> bytes:
    """A payload as an unencrypted packet (RFC 4253, section 6)."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


@asynccontextmanager
async def between(bastion: Bastion, *, up: Plan | None = None, down: Plan | None = None) -> AsyncIterator[Wire]:
    """Stand before a bastion. up: what is done to what the client sends; down: to what it is sent."""
    wire = Wire()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = own_address(bastion), 0
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", bastion.port, local_addr=source)
        ways = ((reader, far_writer, up or Plan()), (far_reader, writer, down or Plan()))
        running.update(asyncio.create_task(_pass(wire, *way)) for way in ways)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _pass(wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: Plan) -> None:
    try:
        await _change(wire, reader, writer, plan)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _change(wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: Plan) -> None:
    """Pass on what comes up to NEWKEYS and the packets that are left out behind it."""
    writer.write(await reader.readuntil(b"\n"))
    if plan.first:
        _insert(wire, writer, plan)
    kind = 0
    while kind != NEWKEYS:
        head = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(head, "big"))
        kind = body[1]
        if kind == KEXINIT:
            wire.offered.append(body[1 : -body[0]])
        if kind == NEWKEYS and not plan.first:
            _insert(wire, writer, plan)
        writer.write(head + body)
    for _ in range(plan.drop):
        length = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(length + plan.tag)
        wire.dropped += 1


def _insert(wire: Wire, writer: asyncio.StreamWriter, plan: Plan) -> None:
    writer.writelines(packet(payload) for payload in plan.insert)
    wire.inserted += len(plan.insert)
