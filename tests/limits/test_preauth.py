"""Clients that mean harm before anybody knows who they are: abuse cases A30 to A36."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

import pytest

from support.invariants import assert_no_traceback, assert_whole, now, rss
from support.limits import GRACE_S, event, gets_in, settled, ssh
from support.rawssh import DISCONNECT, ECDH_REPLY, KEXINIT, ecdh_init, framed, kexinit, raw
from support.sshpeer import logging_in, own_address

if TYPE_CHECKING:
    from datetime import datetime

    from support.trips import Bastion

IDLE = 500
EACH = 9
GROWTH = 10 << 20
LARGEST = 256 << 10


async def whole(bastion: Bastion, since: datetime, **denials: int) -> None:
    """Assert the invariants, with so many denials of these types (`_` for the dot), and that a good client gets in."""
    expected = {name.replace("_", "."): count for name, count in denials.items()}
    await asyncio.to_thread(assert_whole, bastion, since=since, denials=expected)
    assert_no_traceback(bastion)
    assert await gets_in(bastion)


async def test_a30_idle_connections_are_dropped_by_policy_and_a_good_client_gets_in(hurried_bastion: Bastion) -> None:
    bastion, since, memory = hurried_bastion, now(), rss(hurried_bastion)
    held, refused = await asyncio.to_thread(idle_until_cut, bastion)

    assert held + refused == IDLE
    assert 10 <= held <= 100
    assert rss(bastion) - memory < GROWTH
    await whole(bastion, since, connection_refused=refused, login_refused=held)


def idle_until_cut(bastion: Bastion) -> tuple[int, int]:
    """Open many connections that say nothing, and wait until the last is cut; how many were held, how many refused."""
    with ExitStack() as stack:
        found = []
        addresses = [own_address(bastion) for _ in range(IDLE // EACH + 1)]
        for number in range(IDLE):
            address = addresses[number // EACH]
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", bastion.port), 30, (address, 0)))
            found.append((peer, peer.recv(4) == b"SSH-"))
        for peer, _ in found:
            while peer.recv(4096):
                pass
    held = sum(held for _, held in found)
    return held, IDLE - held


async def test_a31_a_version_that_trickles_in_is_cut_when_the_time_is_over(hurried_bastion: Bastion) -> None:
    bastion, since, address = hurried_bastion, now(), own_address(hurried_bastion)
    began = time.monotonic()
    async with raw(bastion, address=address) as peer:
        cut = asyncio.create_task(peer.everything())
        for byte in b"SSH-2.0-so-slow-that-it-never-ends":
            await peer.write(bytes([byte]))
            if (await asyncio.wait({cut}, timeout=0.5))[0]:
                break
        assert await cut == b"SSH-2.0-bastion\r\n"

    assert time.monotonic() - began >= GRACE_S - 0.5
    assert (await event(bastion, type="login.refused", source=address))["rule"] == "login-timeout"
    await whole(bastion, since, login_refused=1)


async def test_a32_a_handshake_that_stops_is_cut_when_the_time_is_over(hurried_bastion: Bastion) -> None:
    bastion, since, address = hurried_bastion, now(), own_address(hurried_bastion)
    async with raw(bastion, address=address) as begun, raw(bastion) as exchanged:
        for peer in (begun, exchanged):
            await peer.greet()
            await peer.send(kexinit())
        await exchanged.send(ecdh_init())
        assert [await peer.closed() for peer in (begun, exchanged)] == ["", ""]

    assert (await event(bastion, type="login.refused", source=address))["rule"] == "login-timeout"
    await whole(bastion, since, login_refused=2)


@pytest.mark.parametrize("length", [(1 << 31), (1 << 32) - 1, LARGEST + 2048])
async def test_a33_a_packet_that_says_it_is_huge_ends_the_connection_before_it_is_read(
    hurried_bastion: Bastion, length: int
) -> None:
    bastion, since, memory = hurried_bastion, now(), rss(hurried_bastion)
    async with raw(bastion) as peer:
        await peer.greet()
        assert (await peer.packet())[0] == KEXINIT
        await peer.write(framed(kexinit(), length=length))
        answer = await peer.packet()  # not one byte more was sent

    assert answer[0] == DISCONNECT
    assert b"Max packet size exceeded" in answer
    assert rss(bastion) - memory < GROWTH
    await whole(bastion, since, login_refused=0)


async def test_a33_a_packet_of_no_length_ends_the_connection(hurried_bastion: Bastion) -> None:
    since = now()
    async with raw(hurried_bastion) as peer:
        await peer.greet()
        await peer.write(framed(kexinit(), length=0) + bytes(64))
        await peer.end()
        await peer.everything()

    await whole(hurried_bastion, since, login_refused=0)


async def test_a35_nobody_repeats_the_key_exchange_before_the_login(hurried_bastion: Bastion) -> None:
    since = now()
    async with logging_in(hurried_bastion) as login:
        cast("Any", login.connection)._send_kexinit()
        assert await login.answered(1) == ["lost"]
    async with raw(hurried_bastion) as peer:
        await peer.greet()
        await peer.send(kexinit())
        await peer.send(kexinit())
        assert "Key exchange already in progress" in await peer.closed()

    assert "no second key exchange before the login" in str(login.why_lost)
    await whole(hurried_bastion, since, login_refused=0)


async def test_a35_a_source_that_asks_for_exchanges_and_leaves_is_turned_away(hurried_bastion: Bastion) -> None:
    bastion, since, address = hurried_bastion, now(), own_address(hurried_bastion)
    done, refused = 0, 0
    while refused < 8:
        async with raw(bastion, address=address) as peer:
            if not (await peer.greet()).startswith(b"SSH-"):
                refused += 1
                continue
            await peer.send(kexinit())
            await peer.send(ecdh_init())
            while (payload := await peer.packet()) and payload[0] != ECDH_REPLY:
                pass
            done += bool(payload)
        await settled(bastion)
        assert done < 40

    assert done >= 15  # at 1 s each they bite from 15 s on
    assert (await event(bastion, type="connection.refused", source=address))["rule"] == "penalty"
    await whole(bastion, since, connection_refused=refused)


async def test_a36_compression_cannot_be_had(hurried_bastion: Bastion) -> None:
    bastion, since = hurried_bastion, now()
    async with raw(bastion) as peer:
        await peer.greet()
        await peer.send(kexinit(compression=(b"zlib@openssh.com", b"zlib")))
        assert "No matching compression algorithm" in await peer.closed()
    status, out, said = await ssh(
        bastion, own_address(bastion), "-C", "-v", "-o", "LogLevel=DEBUG1", "web.default@b", "echo plain"
    )

    assert (status, out) == (0, b"plain\n")
    assert "compression: none" in said
    assert "compression: zlib" not in said
    await whole(bastion, since, login_refused=0)


async def test_a30_the_places_of_those_who_leave_are_free_at_once(hurried_bastion: Bastion) -> None:
    bastion = hurried_bastion
    for _ in range(3):
        async with asyncio.TaskGroup() as group:
            for _ in range(9):
                group.create_task(come_and_go(bastion))
        await settled(bastion)
    assert [await gets_in(bastion) for _ in range(3)] == [True] * 3


async def come_and_go(bastion: Bastion) -> None:
    async with raw(bastion) as peer:
        assert (await peer.greet()).startswith(b"SSH-2.0-")
