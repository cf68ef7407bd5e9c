"""A person who is in and floods the connection: abuse case A37. Nothing grows, and others go on."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
from asyncssh.packet import Boolean, String, UInt32

from support.invariants import assert_no_traceback, assert_whole, now, rss
from support.limits import event, gets_in
from support.rawssh import CHANNEL_SUCCESS, DEBUG, GLOBAL_REQUEST, IGNORE, REQUEST_SUCCESS
from support.sshpeer import CHANNEL_OPEN, connected
from support.trips import PATIENCE_S

if TYPE_CHECKING:
    import asyncssh

    from support.trips import Bastion

GROWTH = 10 << 20
AT_ONCE = 500
FAILURE = {82, 92}  # of a global request, and of opening a channel


def opening(kind: str, *arguments: bytes) -> tuple[int, bytes]:
    return CHANNEL_OPEN, String(kind) + UInt32(7) + UInt32(1 << 20) + UInt32(1 << 15) + b"".join(arguments)


ENDLESS = 10**9
FAR_FORWARD = opening("direct-tcpip", String("x" * 253), UInt32(80), String("127.0.0.1"), UInt32(1))
FORWARD = opening("direct-tcpip", String("example.org"), UInt32(80), String("127.0.0.1"), UInt32(1))
QUESTION = (GLOBAL_REQUEST, String("what@example.org") + Boolean(value=True))


class Flood:
    """Packets sent by hand on a connection, and the failures they are answered with."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = cast("Any", connection)
        self._news = asyncio.Event()
        self.count = 0
        self.failures = 0
        process = self._connection.process_packet

        def process_packet(kind: int, number: int, packet: Any) -> Any:
            if kind not in FAILURE:
                return process(kind, number, packet)
            self.failures += 1
            self._news.set()
            return True

        self._connection.process_packet = process_packet

    async def send(self, packet: tuple[int, bytes], count: int) -> None:
        """Send a packet so many times, as fast as the socket takes them."""
        kind, payload = packet
        for number in range(count):
            self._connection.send_packet(kind, payload)
            self.count += 1
            if number % AT_ONCE == 0:
                await self.sent()

    async def sent(self) -> None:
        """Wait until little waits in this process."""
        while self._connection._transport and self._connection._transport.get_write_buffer_size() > 1 << 16:  # noqa: ASYNC110 - a buffer sets no event
            await asyncio.sleep(0.001)

    async def stalled(self) -> None:
        """Wait until for a second nothing more could be sent."""
        async with asyncio.timeout(2 * PATIENCE_S):
            before = -1
            while self.count != before:
                before = self.count
                await asyncio.sleep(1)

    async def answered(self, count: int) -> None:
        """Wait for so many failures."""
        async with asyncio.timeout(PATIENCE_S):
            while self.failures < count:
                self._news.clear()
                await self._news.wait()

    def listen(self, *, again: bool) -> None:
        """Stop reading what the server says, or begin again."""
        transport = self._connection._transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        (transport.resume_reading if again else transport.pause_reading)()


@pytest.mark.parametrize(
    ("packet", "count"),
    [
        (opening("example@example.org"), 20_000),
        (FORWARD, 10_000),
        (QUESTION, 10_000),
    ],
    ids=["channels of no kind", "forwards", "global requests"],
)
async def test_a37_what_is_refused_over_and_over_leaves_nothing_behind(
    hurried_bastion: Bastion, packet: tuple[int, bytes], count: int
) -> None:
    bastion, since = hurried_bastion, now()
    async with connected(bastion) as connection:
        flood = Flood(connection)
        await flood.send(packet, 500)
        await flood.answered(500)
        memory = rss(bastion)
        await flood.send(packet, count)
        await flood.answered(500 + count)
        assert rss(bastion) - memory < GROWTH
        assert (await connection.run("echo still")).stdout == "still\n"
        assert await gets_in(bastion)
    await asyncio.to_thread(assert_whole, bastion, since=since)
    assert_no_traceback(bastion)


async def test_a37_sessions_beyond_the_limit_are_refused_over_and_over_and_counted(hurried_bastion: Bastion) -> None:
    bastion = hurried_bastion
    async with connected(bastion) as connection:
        ten = [await connection.create_process("cat") for _ in range(10)]
        flood = Flood(connection)
        memory = rss(bastion)
        await flood.send(opening("session"), 10_000)
        await flood.answered(10_000)
        assert rss(bastion) - memory < GROWTH
        for process in ten:
            process.stdin.write("on\n")
            assert await process.stdout.readline() == "on\n"
    await event(bastion, type="channel.refused", rule="max-channels")
    await asyncio.to_thread(assert_whole, bastion)
    rows = await asyncio.to_thread(bastion.audit, "events", "--limit", "100")
    assert 1 <= sum(row["type"] == "channel.refused" for row in rows) <= 20


async def test_a37_who_asks_and_does_not_read_the_answers_is_read_no_more_until_they_do(
    hurried_bastion: Bastion,
) -> None:
    bastion = hurried_bastion
    async with connected(bastion) as connection:
        flood = Flood(connection)
        memory = rss(bastion)
        flood.listen(again=False)
        sending = asyncio.create_task(flood.send(FAR_FORWARD, ENDLESS))
        await flood.stalled()
        assert rss(bastion) - memory < GROWTH
        assert await gets_in(bastion)
        sending.cancel()
        flood.listen(again=True)
        await flood.answered(flood.count)
        assert (await connection.run("echo still")).stdout == "still\n"
    await asyncio.to_thread(assert_whole, bastion)


@pytest.mark.parametrize(
    "packet",
    [(IGNORE, String(b"x" * 100)), (DEBUG, Boolean(value=True) + String(b"x" * 100) + String(b""))],
    ids=["IGNORE", "DEBUG"],
)
async def test_a37_noise_costs_no_memory(hurried_bastion: Bastion, packet: tuple[int, bytes]) -> None:
    async with connected(hurried_bastion) as connection:
        memory = rss(hurried_bastion)
        flood = Flood(connection)
        await flood.send(packet, 20_000)
        assert (await connection.run("echo still")).stdout == "still\n"
        assert rss(hurried_bastion) - memory < GROWTH
    await asyncio.to_thread(assert_whole, hurried_bastion)


@pytest.mark.parametrize(
    "packet",
    [(REQUEST_SUCCESS, b""), (CHANNEL_SUCCESS, UInt32(99)), (91, UInt32(99) + UInt32(1) + UInt32(1) + UInt32(1))],
    ids=["global reply", "channel reply", "channel confirmation"],
)
async def test_a37_a_reply_to_nothing_ends_the_connection(hurried_bastion: Bastion, packet: tuple[int, bytes]) -> None:
    async with connected(hurried_bastion) as connection:
        await Flood(connection).send(packet, 1)
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
    await asyncio.to_thread(assert_whole, hurried_bastion)
    assert_no_traceback(hurried_bastion)


async def test_a37_requests_during_a_key_exchange_that_never_ends_are_not_kept(hurried_bastion: Bastion) -> None:
    bastion = hurried_bastion
    async with connected(bastion) as connection:
        memory = rss(bastion)
        half = cast("Any", connection)
        half._send_kexinit()
        half._kex_complete = True  # as if nothing had begun, so that packets go on being sent
        half.process_packet = lambda *_: True
        await Flood(connection).send(QUESTION, 20_000)
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
        assert rss(bastion) - memory < GROWTH
    await asyncio.to_thread(assert_whole, bastion)
