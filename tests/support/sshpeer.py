"""An asyncssh client that a test makes misbehave: requests and packets by hand, logins by hand; used by tests/abuse."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.packet import Boolean, Byte, String, UInt32

from support.trips import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from support.trips import Bastion

USERAUTH_REQUEST = 50
CHANNEL_OPEN = 90
CHANNEL_REQUEST = 98
SERVICE = b"ssh-connection"


def own_address(bastion: Bastion) -> str:
    """A loopback address that no other client of this bastion has: limits and counts are by source."""
    bastion.calls += 1
    return f"127.{64 + bastion.calls // 62_500}.{bastion.calls // 250 % 250 + 1}.{bastion.calls % 250 + 1}"


def key_of(bastion: Bastion, person: str) -> Path:
    """The file of a person's private key."""
    return bastion.folder / person


@asynccontextmanager
async def connected(
    bastion: Bastion, *, login: str = "web.default", person: str = "alice", port: int = 0, **options: Any
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection with a person's key, perhaps through another port; aborted at the end."""
    connection = await asyncssh.connect(
        "127.0.0.1",
        port or bastion.port,
        username=bastion.login(login),
        client_keys=[str(key_of(bastion, person))],
        local_addr=(own_address(bastion), 0),
        known_hosts=None,
        config=None,
        agent_path=None,
        **options,
    )
    try:
        yield connection
    finally:
        connection.abort()
        await connection.wait_closed()


class Channel:
    """A session channel whose requests are sent one by one."""

    def __init__(self, channel: asyncssh.SSHClientChannel[bytes], session: _Session) -> None:
        self._channel: Any = channel
        self._session = session

    async def ask(self, request: bytes, *arguments: bytes) -> bool:
        """Send a request and wait for its answer; False too if the channel or the connection ends instead."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return bool(await self._channel._make_request(request, *arguments))
            except (asyncssh.Error, OSError):  # the connection ended
                return False

    def tell(self, request: bytes, *arguments: bytes) -> None:
        """Send a request that wants no answer."""
        self._channel._send_request(request, *arguments)

    def write(self, data: bytes) -> None:
        """Send input, or queue it while the window is shut."""
        self._channel.write(data)

    def end_input(self) -> None:
        """Send the end of input."""
        self._channel.write_eof()

    async def wait(self) -> tuple[bytes, bytes, int | None]:
        """What came on stdout and stderr until the channel closed, and the exit status."""
        async with asyncio.timeout(PATIENCE_S):
            await self._channel.wait_closed()
        return bytes(self._session.out), bytes(self._session.err), self._channel.get_exit_status()

    async def expect(self, text: bytes) -> None:
        """Wait until that has come on stdout."""
        async with asyncio.timeout(PATIENCE_S):
            while text not in self._session.out:
                self._session.more.clear()
                await self._session.more.wait()

    def forget(self) -> None:
        """Drop what came on stdout so far."""
        self._session.out.clear()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class _Session(asyncssh.SSHClientSession[bytes]):
    def __init__(self) -> None:
        self.out, self.err = bytearray(), bytearray()
        self.more = asyncio.Event()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        (self.err if datatype else self.out).extend(data)
        self.more.set()


def pty_request(cols: int = 80, rows: int = 24) -> tuple[bytes, ...]:
    """The arguments of a pty-req."""
    return String("xterm"), UInt32(cols), UInt32(rows), UInt32(0), UInt32(0), String(b"")


async def open_channel(
    connection: asyncssh.SSHClientConnection,
    *,
    window: int = 2 * 1024 * 1024,
    kind: bytes = b"session",
    arguments: Sequence[bytes] = (),
) -> Channel:
    """A channel on which nothing was asked for yet. Raises asyncssh.ChannelOpenError."""
    raw: Any = asyncssh.SSHClientChannel[bytes](
        connection, asyncio.get_running_loop(), "strict", None, "strict", window, 32 * 1024
    )
    session = _Session()
    async with asyncio.timeout(PATIENCE_S):
        packet = await raw._open(kind, *arguments)
    packet.check_end()
    raw._session = session
    session.connection_made(raw)
    raw._recv_paused = False
    return Channel(raw, session)


class Login(asyncssh.SSHClient):
    """A connection that is encrypted and has asked for nothing; userauth requests are sent by hand.

    A request that comes while another is looked at takes its place, so that one is never answered (RFC 4252, 5.1).

    answers: what the server said, in order: "failure", "success" or "offer" (a key that would do), then "lost".
    """

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.why_lost: Exception | None = None
        self._news = asyncio.Event()
        self._ready = False

    # --- what asyncssh calls ---

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connection = conn
        by_hand = cast("Any", conn)
        by_hand.try_next_auth = self._may_begin

    def connection_lost(self, exc: Exception | None) -> None:
        self.why_lost = exc
        self._note("lost")

    def _may_begin(self, **_: object) -> None:
        if not self._ready:
            cast("Any", self.connection)._auth = self  # asyncssh tells its authentication method what is answered
            self._ready = True
            self._news.set()

    def auth_succeeded(self) -> None:
        self._note("success")

    def auth_failed(self) -> None:
        self._note("failure")

    def cancel(self) -> None:
        pass

    def log_received_packet(self, *_: object) -> None:
        pass

    def process_packet(self, *_: object) -> bool:
        self._note("offer")
        return True

    def _note(self, answer: str) -> None:
        self.answers.append(answer)
        self._news.set()

    # --- what a test calls ---

    async def ready(self) -> None:
        """Wait until requests may be sent."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._ready and not self.answers:
                self._news.clear()
                await self._news.wait()

    async def answered(self, count: int) -> list[str]:
        """Wait for so many answers, or for the end of the connection; all there are."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.answers) < count and "lost" not in self.answers:
                self._news.clear()
                await self._news.wait()
        return self.answers

    def send(self, kind: int, *parts: bytes) -> None:
        """Send a packet, whatever asyncssh thinks of the moment; nothing once the connection is lost."""
        connection = cast("Any", self.connection)
        if "lost" not in self.answers:
            connection.send_packet(kind, *parts)

    def request(self, login: str, method: bytes, *parts: bytes) -> None:
        """Send a userauth request."""
        self.send(USERAUTH_REQUEST, String(login), String(SERVICE), String(method), *parts)

    def offer(self, login: str, public: bytes, algorithm: bytes = b"ssh-ed25519") -> None:
        """Ask whether a key would do, without a signature."""
        self.request(login, b"publickey", Boolean(value=False), String(algorithm), String(public))

    def sign(self, login: str, key: asyncssh.SSHKey, *, public: bytes = b"", harm: bool = False) -> None:
        """Send a request with a key's signature; `public`: name another key; `harm`: with one bit of it wrong."""
        algorithm = b"ssh-ed25519"
        asked = (String(login), String(SERVICE), String(b"publickey"), Boolean(value=True))
        parts = (*asked, String(algorithm), String(public or key.public_data))
        session_id = cast("Any", self.connection)._session_id
        signature = key.sign(String(session_id) + Byte(USERAUTH_REQUEST) + b"".join(parts), algorithm)
        if harm:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        self.send(USERAUTH_REQUEST, *parts, String(signature))


@asynccontextmanager
async def logging_in(bastion: Bastion, *, address: str | None = None, **options: Any) -> AsyncIterator[Login]:
    """A login by hand; the connection is aborted at the end."""
    login = Login()
    connecting = asyncio.ensure_future(
        asyncssh.connect(
            "127.0.0.1",
            bastion.port,
            client_factory=lambda: login,
            username="unused",
            local_addr=(address or own_address(bastion), 0),
            known_hosts=None,
            config=None,
            agent_path=None,
            client_keys=[],
            **options,
        )
    )
    try:
        await login.ready()
        yield login
    finally:
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError, asyncssh.Error, OSError):
            (await connecting).abort()
        if hasattr(login, "connection"):
            login.connection.abort()
