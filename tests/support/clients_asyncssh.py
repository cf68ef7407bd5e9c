"""asyncssh as a client; used by clients_matrix."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh
from asyncssh.packet import UInt32

from support.clients import HOST, PATIENCE_S, Client, Done
from support.clients_shell import LibraryShell
from support.logs import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence

    from bastion.model import WindowSize
    from support.clients import Connection, Door, Shell

Answer = TypeVar("Answer")

ONE_READ = 1 << 18


class AsyncSsh(Client):
    """asyncssh's connect."""

    name = "asyncssh"
    host_key_errors = (asyncssh.HostKeyNotVerifiable,)

    def run(self, door: Door, command: str, stdin: bytes = b"") -> Done:
        return asyncio.run(_connect_and_run(door, command, stdin))

    @contextmanager
    def shell(self, door: Door, size: WindowSize, modes: Mapping[int, int] | None = None) -> Iterator[LibraryShell]:
        """A shell; modes are those of RFC 4254 section 8, by number."""
        with _loop() as loop:
            opened = _opened(door, size, modes or {})
            process = loop.do(opened.__aenter__())
            try:
                yield LibraryShell(_Channel(loop, process))
            finally:
                loop.do(opened.__aexit__(None, None, None))

    @contextmanager
    def connection(self, door: Door) -> Iterator[Connection]:
        with _loop() as loop:
            opened = _connected(door)
            connection = loop.do(opened.__aenter__())
            try:
                yield _Shared(loop, connection)
            finally:
                loop.do(opened.__aexit__(None, None, None))

    def run_rekeying(self, door: Door, command: str, stdin: bytes) -> tuple[Done, int]:
        with counted("asyncssh", "Completed key exchange") as exchanges:
            done = asyncio.run(_connect_and_run(door, command, stdin, rekey_bytes="1M"))
        return done, exchanges.count

    def run_with_keepalives(self, door: Door, command: str) -> Done:
        return asyncio.run(_connect_and_run(door, command, b"", keepalive_interval=1, keepalive_count_max=1))

    def press_break(self, shell: Shell) -> None:
        _channel(shell).send_break()

    def break_was_done(self, shell: Shell) -> bool | None:
        """Send a break and ask whether it was done; asyncssh's own `send_break` does not ask. None: no answer."""
        return _channel(shell).ask_for_break()


class _Loop:
    """An event loop in a thread, for a test that does not run in one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a coroutine to its end."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, PATIENCE_S), self.loop).result()


class _Shared:
    """Fills Connection."""

    def __init__(self, loop: _Loop, connection: asyncssh.SSHClientConnection) -> None:
        self._loop, self._connection = loop, connection

    def run_all(self, commands: Sequence[str]) -> list[Done]:
        async def together() -> list[Done]:
            return await asyncio.gather(*(_run(self._connection, command, b"") for command in commands))

        return self._loop.do(together())


class _Channel:
    """Fills ShellChannel."""

    def __init__(self, loop: _Loop, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._loop, self._process = loop, process

    def send(self, data: bytes) -> None:
        self._loop.loop.call_soon_threadsafe(self._process.stdin.write, data)

    def receive(self, timeout_s: float) -> bytes:
        async def read() -> bytes:
            async with asyncio.timeout(timeout_s):
                return await self._process.stdout.read(ONE_READ)

        return self._loop.do(read())

    def resize(self, size: WindowSize) -> None:
        self._loop.loop.call_soon_threadsafe(self._process.change_terminal_size, size.cols, size.rows)

    def send_break(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._process.send_break, 500)

    def ask_for_break(self) -> bool | None:
        return self._loop.do(self._process.channel._make_request(b"break", UInt32(500)))

    def status(self) -> int:
        return _status(self._loop.do(self._process.wait()))


def _channel(shell: Shell) -> _Channel:
    assert isinstance(shell, LibraryShell)
    assert isinstance(shell.channel, _Channel)
    return shell.channel


@contextmanager
def _loop() -> Iterator[_Loop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="asyncssh-client")
    thread.start()
    try:
        yield _Loop(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


@asynccontextmanager
async def _connected(door: Door, **options: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with asyncssh.connect(
        HOST,
        door.port,
        config=None,
        username=door.login,
        client_keys=[str(door.key)],
        agent_path=None,
        known_hosts=f"[{HOST}]:{door.port} {door.host_key}\n".encode(),
        local_addr=(door.source, 0),
        **options,
    ) as connection:
        yield connection


@asynccontextmanager
async def _opened(
    door: Door, size: WindowSize, modes: Mapping[int, int]
) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
    async with (
        _connected(door) as connection,
        connection.create_process(
            term_type="xterm", term_size=(size.cols, size.rows), term_modes=modes, encoding=None
        ) as process,
    ):
        yield process


async def _connect_and_run(door: Door, command: str, stdin: bytes, **options: Any) -> Done:
    async with asyncio.timeout(PATIENCE_S), _connected(door, **options) as connection:
        return await _run(connection, command, stdin)


async def _run(connection: asyncssh.SSHClientConnection, command: str, stdin: bytes) -> Done:
    async with connection.create_process(command, encoding=None) as process:
        process.stdin.write(stdin)
        process.stdin.write_eof()  # `run(input=b"")` would leave it open
        done = await process.wait()
    assert isinstance(done.stdout, bytes)
    assert isinstance(done.stderr, bytes)
    return Done(status=_status(done), stdout=done.stdout, stderr=done.stderr)


def _status(done: asyncssh.SSHCompletedProcess) -> int:
    assert done.exit_status is not None
    return done.exit_status
