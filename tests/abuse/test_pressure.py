"""Clients that never read, pods that never read, and floods: what they cost, and that others still get their turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asyncssh.packet import Boolean, String, UInt32

from support.invariants import assert_no_traceback, assert_whole, rss
from support.sshpeer import Channel, connected, open_channel, own_address, pty_request
from support.traces import sessions_of, word
from support.trips import PATIENCE_S, wait_until
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncssh

    from support.trips import Bastion

MOST = 8 << 20
"""Bytes that one session may make the bastion grow by."""

STALL_S = 10.0
YES = Boolean(value=True)
BIGGEST_WINDOW = 2**31 - 1
IGNORE = 2
MEBIBYTE = 1 << 20

pytestmark = pytest.mark.usefixtures("warm")

once = pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
"""For what is the same on either database: a run is short of time."""


@pytest.fixture(scope="session")
def warm(bastion: Bastion) -> None:
    """The bastion has carried bulk data both ways."""
    done = bastion.ssh("web.default@b", "cat", person="ines", stdin=bytes(20 * MEBIBYTE))
    assert len(done.stdout) == 20 * MEBIBYTE


class Memory:
    """The most that the bastion grew, looked at all the time."""

    def __init__(self, bastion: Bastion) -> None:
        self._bastion = bastion
        self._before = rss(bastion)
        self.growth = 0

    async def watch(self) -> None:
        while True:
            self.growth = max(self.growth, rss(self._bastion) - self._before)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def watched(bastion: Bastion) -> AsyncIterator[Memory]:
    """Look at the bastion's memory until left."""
    memory = Memory(bastion)
    watching = asyncio.create_task(memory.watch())
    try:
        yield memory
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def alive_for(connection: asyncssh.SSHClientConnection, seconds: float) -> None:
    """Send what keeps a connection from looking dead, and read nothing."""
    raw: Any = connection
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        raw.send_packet(IGNORE, String(b""))
        await asyncio.sleep(0.2)
    assert not connection.is_closed()


def never_read(connection: asyncssh.SSHClientConnection) -> None:
    """Stop reading from the socket itself."""
    raw: Any = connection
    raw._transport.pause_reading()


async def test_a38_a_client_that_never_reads_and_a_pod_that_never_reads_cost_little(bastion: Bastion) -> None:
    """One pod prints without end into a window of 2 GiB, one client sends without end: two sessions."""
    async with watched(bastion) as memory, connected(bastion) as connection:
        channel = await open_channel(connection, window=BIGGEST_WINDOW)
        assert await channel.ask(b"exec", String("yes"))
        await channel.expect(b"y\n" * 1000)
        never_read(connection)
        with pushing(bastion, "sleep 1000") as ssh:
            await alive_for(connection, STALL_S)
            assert ssh.poll() is None
            other = await asyncio.to_thread(bastion.ssh, "web.default@b", "echo answers")
            assert other.stdout == b"answers\n"
    assert memory.growth < 2 * MOST
    assert_whole(bastion)


@once
async def test_a38_a_pod_that_reads_slowly_opens_the_window_for_no_more_than_it_took(bastion: Bastion) -> None:
    """Reading goes on and off here; what waits counts against the window all the while."""
    async with watched(bastion) as memory:
        with pushing(bastion, "while head -c 65536 >/dev/null; do sleep 0.05; done") as ssh:
            await asyncio.sleep(STALL_S / 2)
            assert ssh.poll() is None
    assert memory.growth < MOST
    assert_whole(bastion)


@contextlib.contextmanager
def pushing(bastion: Bastion, command: str) -> Iterator[subprocess.Popen[bytes]]:
    """An ssh client that sends zeros to a command without end, as somebody whose input is recorded."""
    with (
        Path("/dev/zero").open("rb") as zeros,
        subprocess.Popen(
            bastion.ssh_argv("web.default@b", command, person="ines"), stdin=zeros, stdout=subprocess.DEVNULL
        ) as ssh,
    ):
        try:
            yield ssh
        finally:
            ssh.kill()


@once
async def test_a38_a_client_that_leaves_a_channel_full_of_input_ends_what_ran_there(bastion: Bastion) -> None:
    mark = word()
    async with connected(bastion) as connection:
        channel = await open_channel(connection)
        assert await channel.ask(b"exec", String(f"echo ready; sleep 1000; : {mark}"))
        await channel.expect(b"ready\n")
        raw: Any = channel
        channel.write(bytes(16 * MEBIBYTE))  # more than the pod and all before it take
        left = 0
        while left != raw._channel._send_buf_len:  # until the window stays shut
            left = raw._channel._send_buf_len
            await asyncio.sleep(1)
        assert left
        raw._channel.abort()  # the connection stays
        await asyncio.to_thread(wait_until, lambda: not bastion.running(mark))
        assert not connection.is_closed()
    assert_whole(bastion)
    (session,) = await asyncio.to_thread(sessions_of, bastion, mark)
    assert (session["outcome"], session["end_reason"]) == ("hung_up", "the client closed the session")


@once
async def test_a38_a_session_that_reads_slowly_leaves_its_neighbour_on_the_connection_a_turn(bastion: Bastion) -> None:
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    link.bind((own_address(bastion), 0))
    link.connect(("127.0.0.1", bastion.port))
    async with connected(bastion, sock=link) as connection:
        bulk = await open_channel(connection, window=BIGGEST_WINDOW)
        assert await bulk.ask(b"exec", String("yes"))
        typing = await open_channel(connection)
        assert await typing.ask(b"exec", String("cat"))
        reading = asyncio.create_task(slowly(connection, bulk))
        for number in range(3):
            await asyncio.sleep(0.2)
            typing.write(b"%d\n" % number)
            await typing.expect(b"%d\n" % number)
        reading.cancel()
    assert_whole(bastion)


async def slowly(connection: asyncssh.SSHClientConnection, bulk: Channel) -> None:
    """Read 64 KiB and pause, again and again, slower than any pod prints."""
    raw: Any = connection
    while True:
        raw._transport.pause_reading()
        await asyncio.sleep(0.03)
        raw._transport.resume_reading()
        await asyncio.sleep(0.001)
        bulk.forget()


@once
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
async def test_a39_a_paste_of_100_mebibytes_arrives_and_costs_little(bastion: Bastion, *, terminal: bool) -> None:
    size = 100 * MEBIBYTE
    command = f"{'stty raw -echo; ' if terminal else ''}echo ready; head -c {size} | wc -c; read line; echo $line"
    options = ("-tt",) if terminal else ()
    async with watched(bastion) as memory:
        argv = bastion.ssh_argv(*options, "web.default@b", command)
        ssh = await asyncio.create_subprocess_exec(*argv, stdin=-1, stdout=-1, limit=1 << 16)
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        async with asyncio.timeout(4 * PATIENCE_S):
            assert (await ssh.stdout.readline()).strip() == b"ready"
            for _ in range(100):
                ssh.stdin.write(os.urandom(MEBIBYTE).replace(b"~", b"."))
                await ssh.stdin.drain()
            assert (await ssh.stdout.readline()).strip() == str(size).encode()
            ssh.stdin.write(b"still here\n")
            assert (await ssh.stdout.readline()).strip() == b"still here"
            ssh.stdin.close()
            assert await ssh.wait() == 0
    assert memory.growth < MOST
    assert_whole(bastion)


@once
async def test_a39_a_flood_of_sizes_costs_nothing_and_the_last_one_counts(bastion: Bastion) -> None:
    async with watched(bastion) as memory, connected(bastion) as connection:
        channel = await open_channel(connection)
        assert await channel.ask(b"pty-req", *pty_request())
        assert await channel.ask(b"exec", String("stty -echo; echo ready; cat >/dev/null; stty size"))
        await channel.expect(b"ready\r\n")
        until, sent = time.monotonic() + 2, 0
        while time.monotonic() < until:
            for _ in range(200):
                sent += 1
                size = UInt32(sent % 500 + 1), UInt32(sent % 300 + 1), UInt32(0), UInt32(0)
                channel.tell(b"window-change", *size)
                channel.tell(b"signal", String("WINCH"))
            await drained(connection)
        channel.tell(b"window-change", UInt32(123), UInt32(45), UInt32(0), UInt32(0))
        channel.write(b"\x04")
        assert (await channel.wait())[0].endswith(b"45 123\r\n")
    assert sent > 1000
    assert memory.growth < MOST
    assert_whole(bastion)


async def drained(connection: asyncssh.SSHClientConnection) -> None:
    """Wait until what was sent is on its way."""
    raw: Any = connection

    async def is_sent() -> bool:
        return raw._transport is None or not raw._transport.get_write_buffer_size()

    await asyncio.sleep(0)
    await eventually(is_sent, within=PATIENCE_S)


@once
async def test_a39_requests_that_want_answers_from_a_client_that_never_reads_cost_little(bastion: Bastion) -> None:
    async with watched(bastion) as memory, connected(bastion) as connection:
        channel: Any = await open_channel(connection)
        assert await channel.ask(b"exec", String("cat"))
        never_read(connection)
        raw: Any = connection
        until = time.monotonic() + 2
        while time.monotonic() < until:
            if raw._transport.get_write_buffer_size() < MEBIBYTE:
                for _ in range(100):
                    channel._channel._send_request(b"x@example.com", want_reply=True)
                    raw.send_packet(80, String("y@example.com"), YES)
            await asyncio.sleep(0)
    assert memory.growth < MOST
    assert_no_traceback(bastion)
    assert_whole(bastion)


@once
async def test_a39_a_hundred_thousand_packets_of_one_byte_cost_little_and_all_arrive(bastion: Bastion) -> None:
    count, go = 100_000, f"/tmp/{word()}"
    async with watched(bastion) as memory, connected(bastion) as connection:
        channel = await open_channel(connection)
        wait = f"while [ ! -e {go} ]; do sleep 0.1; done; rm {go}"
        assert await channel.ask(b"exec", String(f"echo ready; {wait}; wc -c"))
        await channel.expect(b"ready\n")
        for at in range(count):
            channel.write(b"x")
            if at % 500 == 0:
                await drained(connection)
        await drained(connection)
        channel.end_input()
        await asyncio.to_thread(bastion.ssh, "web.default@b", f"touch {go}")
        assert await channel.wait() == (b"ready\n%d\n" % count, b"", 0)
    assert memory.growth < MOST
    assert_whole(bastion)
