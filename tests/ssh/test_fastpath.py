"""The fast path through asyncssh: the same bytes as on the stock way, in turns with it, never with another asyncssh."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from bastion.ssh import overrides
from bastion.ssh.overrides import connections, fastpath
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIZE = 6_000_000
GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CIPHERS = (*GCM, "aes128-ctr hmac-sha2-256-etm@openssh.com", "aes256-ctr hmac-sha2-256")


class Echo(asyncssh.SSHServerSession[bytes]):
    """Sends back what it gets: on stderr too, if `both`."""

    def __init__(self, *, both: bool) -> None:
        self._both = both

    def connection_made(self, chan: Any) -> None:
        self._chan = chan

    def command_requested(self, command: bytes) -> bool:
        return bool(command)

    def pty_requested(self, *_: object) -> bool:
        return True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        assert datatype is None
        self._chan.write(data)
        if self._both:
            self._chan.write(data[:1000], asyncssh.EXTENDED_DATA_STDERR)

    def close_received(self) -> None:
        pass

    def eof_received(self) -> bool:
        self._chan.exit(7)
        return True


class Door(asyncssh.SSHServer):
    """Lets everybody in, to an Echo, on the fast path."""

    def __init__(self, *, both: bool) -> None:
        self._both = both
        self.lost: Exception | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.conn = conn
        connections.hold_when_full(conn)
        fastpath.hasten(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc

    def begin_auth(self, username: str) -> bool:
        del username
        return False

    def session_requested(self) -> Any:
        return overrides.pod_channel(self.conn), Echo(both=self._both)


@contextlib.asynccontextmanager
async def connected(
    cipher: str, *, both: bool = False, rekey_bytes: int = 1 << 30, client_rekey_bytes: int = 1 << 30
) -> AsyncIterator[tuple[asyncssh.SSHClientConnection, Door]]:
    """A client on a connection of its own, with a cipher and perhaps a MAC."""
    encryption, *macs = cipher.split()
    doors: list[Door] = []

    def made() -> Door:
        doors.append(Door(both=both))
        return doors[-1]

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with (
        asyncio.timeout(60),
        asyncssh.listen(
            "127.0.0.1", 0, server_factory=made, server_host_keys=[key], encoding=None, rekey_bytes=rekey_bytes
        ) as server,
        asyncssh.connect(
            "127.0.0.1",
            server.get_port(),
            username="anybody",
            known_hosts=None,
            config=None,
            client_keys=None,
            agent_path=None,
            encryption_algs=[encryption],
            mac_algs=macs or (),
            rekey_bytes=client_rekey_bytes,
        ) as client,
    ):
        yield client, doors[0]


def sent(size: int = SIZE) -> bytes:
    return random.Random(11).randbytes(size)  # noqa: S311 - bytes to send, not secrets


async def echoed(client: asyncssh.SSHClientConnection, data: bytes) -> tuple[bytes, bytes, int | None]:
    done = await client.run("echo", input=data, encoding=None)
    assert isinstance(done.stdout, bytes)
    assert isinstance(done.stderr, bytes)
    return done.stdout, done.stderr, done.exit_status


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_what_is_sent_comes_back(cipher: str) -> None:
    data = sent()
    async with connected(cipher) as (client, _):
        stdout, stderr, status = await echoed(client, data)
    assert (digest(stdout), stderr, status) == (digest(data), b"", 7)


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_the_short_way_is_taken(cipher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(cipher) as (client, door):
        sent_stock, received_stock = [], []
        send, finish = door.conn.send_packet, door.conn._finish_recv_packet

        def counting_send(pkttype: int, *args: bytes, handler: Any = None) -> None:
            sent_stock.append(pkttype)
            send(pkttype, *args, handler=handler)

        def counting_finish(pkttype: int, *args: Any, **named: Any) -> None:
            received_stock.append(pkttype)
            finish(pkttype, *args, **named)

        monkeypatch.setattr(door.conn, "send_packet", counting_send)
        monkeypatch.setattr(door.conn, "_finish_recv_packet", counting_finish)
        await echoed(client, sent(3_000_000))
    least = 3_000_000 // 32768
    assert sent_stock.count(94) == 0
    assert (received_stock.count(94) > least) == (cipher not in GCM)


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_keys_are_exchanged_again_and_again_in_the_middle(cipher: str) -> None:
    data = sent()
    async with connected(cipher, rekey_bytes=700_000, client_rekey_bytes=900_000) as (client, door):
        first = door.conn._session_id
        before = door.conn._send_encryption
        stdout, _, status = await echoed(client, data)
        assert door.conn._send_encryption is not before
        assert door.conn._session_id == first
    assert (digest(stdout), status) == (digest(data), 7)


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_both_streams_go_the_short_way_and_stay_apart(cipher: str) -> None:
    data = sent(300_000)
    async with connected(cipher, both=True) as (client, _):
        stdout, stderr, _ = await echoed(client, data)
    assert digest(stdout) == digest(data)
    assert 0 < len(stderr) <= len(data)


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_other_packets_between_the_data_are_seen(cipher: str) -> None:
    """Sizes and keepalives go the stock way, in the midst of data."""
    data = sent()
    async with connected(cipher) as (client, _):
        process = await client.create_process("echo", encoding=None, term_type="xterm")
        reading = asyncio.ensure_future(process.stdout.read())
        for at in range(0, len(data), 100_000):
            process.stdin.write(data[at : at + 100_000])
            process.change_terminal_size(80 + at % 50, 24)
            client.set_keepalive(0.01, 100)
            await process.stdin.drain()
        process.stdin.write_eof()
        stdout = await reading
        await process.wait()
    assert digest(stdout) == digest(data)


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_bytes_that_come_one_by_one_are_whole_packets_in_the_end(cipher: str) -> None:
    async with connected(cipher) as (client, door):
        receive = vars(door.conn)["data_received"]

        def drip(data: bytes, datatype: int | None = None) -> None:
            for byte in data:
                receive(bytes([byte]), datatype)

        door.conn.data_received = drip  # type: ignore[method-assign]  # between the socket and the fast path
        stdout, _, status = await echoed(client, b"drop by drop" * 500)
    assert (stdout, status) == (b"drop by drop" * 500, 7)


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("at", [0, 4, 20, -1])
async def test_a_packet_that_was_changed_on_its_way_ends_the_connection(cipher: str, at: int) -> None:
    async with connected(cipher) as (client, door):
        receive = vars(door.conn)["data_received"]

        def change(data: bytes, datatype: int | None = None) -> None:
            changed = bytearray(data)
            changed[at] ^= 1
            receive(bytes(changed), datatype)

        process = await client.create_process("echo", encoding=None)
        door.conn.data_received = change  # type: ignore[method-assign]  # as above
        process.stdin.write(b"x" * 1000)

        async def is_lost() -> bool:
            return isinstance(door.lost, asyncssh.MACError | asyncssh.ProtocolError)

        await eventually(is_lost)
        with contextlib.suppress(asyncssh.Error, OSError):
            process.close()
            await process.wait_closed()


async def test_data_for_a_channel_that_is_not_there_is_refused_as_ever() -> None:
    async with connected(GCM[0]) as (client, door):
        await echoed(client, b"once")
        client.send_packet(94, (77).to_bytes(4, "big"), (1).to_bytes(4, "big"), b"x")

        async def is_lost() -> bool:
            return isinstance(door.lost, asyncssh.ProtocolError)

        await eventually(is_lost)


async def test_more_data_than_the_window_allows_is_refused_as_ever() -> None:
    async with connected(GCM[0]) as (client, door):
        process = await client.create_process("echo", encoding=None)
        (channel,) = door.conn._channels.values()
        channel.pause_reading()
        (number,) = client._channels
        for _ in range(100):
            client.send_packet(94, number.to_bytes(4, "big"), (32768).to_bytes(4, "big"), bytes(32768))

        async def is_lost() -> bool:
            return isinstance(door.lost, asyncssh.ProtocolError)

        await eventually(is_lost)
        assert str(door.lost) == "Window exceeded"
        with contextlib.suppress(asyncssh.Error, OSError):
            process.close()
            await process.wait_closed()


def test_the_asyncssh_in_use_is_the_one_that_was_read() -> None:
    assert not fastpath.differs()


def test_another_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncssh, "__version__", "2.25.0")
    assert fastpath.differs() == "asyncssh is 2.25.0, not 2.24.1"


def test_another_source_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fastpath._READ_IN, asyncssh.SSHServerConnection.send_packet, "0000000000000000")
    assert fastpath.differs() == "SSHConnection.send_packet"
