"""libssh2, by ssh2-python, as a client; used by clients_matrix."""

from __future__ import annotations

import base64
import select
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from ssh2.error_codes import LIBSSH2_ERROR_EAGAIN  # type: ignore[import-untyped]  # it has no stubs
from ssh2.session import LIBSSH2_SESSION_BLOCK_OUTBOUND, Session  # type: ignore[import-untyped]  # as above

from support.clients import HOST, PATIENCE_S, Client, Done, Feature
from support.clients_shell import LibraryShell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bastion.model import WindowSize
    from support.clients import Connection, Door

ONE_READ = 1 << 18
ONE_WRITE = 1 << 15
LOOK_AGAIN_S = 0.02
"""A packet for one stream may have been taken off the socket while another was read, and select knows nothing of it."""


class HostKeyError(Exception):
    """The host key is another: libssh2 leaves it to its user to look."""


class Libssh2(Client):
    """A session of libssh2 that never blocks, driven by select."""

    name = "libssh2"
    lacks: ClassVar = {
        Feature.RESIZE: "ssh2-python does not bind libssh2_channel_request_pty_size",
        Feature.REKEY: "libssh2 takes part in a key exchange, but never begins one",
        Feature.BREAK: "libssh2 has no break",
    }
    host_key_errors = (HostKeyError,)

    def run(self, door: Door, command: str, stdin: bytes = b"") -> Done:
        with _connected(door) as driver:
            return driver.run([driver.begin(command, stdin)])[0]

    @contextmanager
    def shell(self, door: Door, size: WindowSize) -> Iterator[LibraryShell]:
        """A shell on a terminal of 80 by 24, whatever the size: RESIZE tells why."""
        del size
        with _connected(door) as driver:
            channel = driver.open()
            driver.call(channel.pty, "xterm")
            driver.call(channel.shell)
            yield LibraryShell(_Channel(driver, channel))

    @contextmanager
    def connection(self, door: Door) -> Iterator[Connection]:
        with _connected(door) as driver:
            yield _Shared(driver)

    def run_with_keepalives(self, door: Door, command: str) -> Done:
        with _connected(door) as driver:
            driver.session.keepalive_config(want_reply=True, interval=1)
            return driver.run([driver.begin(command, b"")])[0]


class _Driver:
    """A session and its socket."""

    def __init__(self, session: Session, sock: socket.socket) -> None:
        self.session, self._sock = session, sock

    def wait(self) -> None:
        """Wait a moment for the socket, and keep the connection alive meanwhile."""
        outbound = self.session.block_directions() & LIBSSH2_SESSION_BLOCK_OUTBOUND
        select.select([self._sock], [self._sock] if outbound else [], [], LOOK_AGAIN_S)
        self.session.keepalive_send()

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call something until it does not want to wait any more."""
        deadline = time.monotonic() + PATIENCE_S
        while (answer := function(*arguments)) == LIBSSH2_ERROR_EAGAIN:
            assert time.monotonic() < deadline, f"libssh2 waits for ever in {function}"
            self.wait()
        return answer

    def open(self) -> Any:
        """A session channel."""
        return self.call(self.session.open_session)

    def begin(self, command: str, stdin: bytes) -> _Running:
        """Start a command."""
        channel = self.open()
        self.call(channel.execute, command)
        return _Running(channel, stdin)

    def run(self, commands: Sequence[_Running]) -> list[Done]:
        """Bring commands to their ends, side by side."""
        deadline = time.monotonic() + PATIENCE_S
        while not all(command.ended for command in commands):
            assert time.monotonic() < deadline, "libssh2 waits for ever"
            moved = [command.step() for command in commands]
            if not any(moved):
                self.wait()
        return [command.done(self.status(command.channel)) for command in commands]

    def status(self, channel: Any) -> int:
        """The exit status of a channel whose output has ended."""
        self.call(channel.close)
        self.call(channel.wait_closed)
        return int(channel.get_exit_status())


class _Running:
    """A command: what is still to be written, and what was read."""

    def __init__(self, channel: Any, stdin: bytes) -> None:
        self.channel = channel
        self.ended = False
        self._unsent = memoryview(stdin)
        self._open = True
        self._stdout, self._stderr = bytearray(), bytearray()

    def step(self) -> bool:
        """Write and read what can be without waiting; whether anything moved."""
        written = self._write()
        took_out = self._take(self.channel.read(ONE_READ), self._stdout)
        took_err = self._take(self.channel.read_stderr(ONE_READ), self._stderr)
        self.ended = not took_out and not took_err and self.channel.eof()
        return written or took_out or took_err

    def done(self, status: int) -> Done:
        """What it came to."""
        return Done(status=status, stdout=bytes(self._stdout), stderr=bytes(self._stderr))

    def _write(self) -> bool:
        if self._unsent:
            _, count = self.channel.write(bytes(self._unsent[:ONE_WRITE]))
            self._unsent = self._unsent[count:]
            return bool(count)
        if self._open:
            self._open = self.channel.send_eof() == LIBSSH2_ERROR_EAGAIN
        return False

    @staticmethod
    def _take(read: tuple[int, bytes], into: bytearray) -> bool:
        size, data = read
        into += data
        return size > 0


class _Shared:
    """Fills Connection."""

    def __init__(self, driver: _Driver) -> None:
        self._driver = driver

    def run_all(self, commands: Sequence[str]) -> list[Done]:
        return self._driver.run([self._driver.begin(command, b"") for command in commands])


class _Channel:
    """Fills ShellChannel."""

    def __init__(self, driver: _Driver, channel: Any) -> None:
        self._driver, self._channel = driver, channel

    def send(self, data: bytes) -> None:
        while data:
            _, count = self._channel.write(data)
            data = data[count:]
            if data:
                self._driver.wait()

    def receive(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while True:
            size, data = self._channel.read(ONE_READ)
            if size > 0 or self._channel.eof():
                return bytes(data)
            if time.monotonic() > deadline:
                raise TimeoutError
            self._driver.wait()

    def resize(self, size: WindowSize) -> None:
        raise NotImplementedError(Libssh2.lacks[Feature.RESIZE])

    def status(self) -> int:
        return self._driver.status(self._channel)


@contextmanager
def _connected(door: Door) -> Iterator[_Driver]:
    with socket.create_connection((HOST, door.port), PATIENCE_S, (door.source, 0)) as sock:
        session = Session()
        session.handshake(sock)
        key, _ = session.hostkey()
        if key != base64.b64decode(door.host_key.split()[1]):
            raise HostKeyError
        session.userauth_publickey_fromfile(door.login, str(door.key))
        session.set_blocking(False)
        yield _Driver(session, sock)
        session.set_blocking(True)
        session.disconnect()
