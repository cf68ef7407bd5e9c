"""paramiko as a client; used by clients_matrix."""

from __future__ import annotations

import base64
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import paramiko

from support.clients import HOST, PATIENCE_S, Client, Done, Feature
from support.clients_shell import LibraryShell
from support.logs import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bastion.model import WindowSize
    from support.clients import Connection, Door

ONE_READ = 1 << 18


class Paramiko(Client):
    """paramiko's SSHClient."""

    name = "paramiko"
    lacks: ClassVar = {Feature.BREAK: "paramiko has no break"}
    host_key_errors = (paramiko.BadHostKeyException,)

    def run(self, door: Door, command: str, stdin: bytes = b"") -> Done:
        with _connected(door) as client:
            return _run(client, command, stdin)

    @contextmanager
    def shell(self, door: Door, size: WindowSize) -> Iterator[LibraryShell]:
        with _connected(door) as client:
            channel = client.invoke_shell("xterm", width=size.cols, height=size.rows)
            yield LibraryShell(_Channel(channel))

    @contextmanager
    def connection(self, door: Door) -> Iterator[Connection]:
        with _connected(door) as client:
            yield _Shared(client)

    def run_rekeying(self, door: Door, command: str, stdin: bytes) -> tuple[Done, int]:
        with counted("paramiko.transport", "Switch to new keys") as exchanges, _connected(door) as client:
            transport = client.get_transport()
            assert transport is not None
            transport.packetizer.REKEY_BYTES = 1 << 20
            done = _run(client, command, stdin)
        return done, exchanges.count

    def run_with_keepalives(self, door: Door, command: str) -> Done:
        with _connected(door) as client:
            transport = client.get_transport()
            assert transport is not None
            transport.set_keepalive(1)
            return _run(client, command, b"")


class _Shared:
    """Fills Connection by a thread for each session."""

    def __init__(self, client: paramiko.SSHClient) -> None:
        self._client = client

    def run_all(self, commands: Sequence[str]) -> list[Done]:
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda command: _run(self._client, command, b""), commands))


class _Channel:
    """Fills ShellChannel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def send(self, data: bytes) -> None:
        self._channel.sendall(data)

    def receive(self, timeout_s: float) -> bytes:
        self._channel.settimeout(timeout_s)
        return self._channel.recv(ONE_READ)

    def resize(self, size: WindowSize) -> None:
        self._channel.resize_pty(width=size.cols, height=size.rows)

    def status(self) -> int:
        return self._channel.recv_exit_status()


@contextmanager
def _connected(door: Door) -> Iterator[paramiko.SSHClient]:
    client = paramiko.SSHClient()
    kind, key = door.host_key.split()
    trusted = paramiko.PKey.from_type_string(kind, base64.b64decode(key))
    client.get_host_keys().add(f"[{HOST}]:{door.port}", kind, trusted)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    with socket.create_connection((HOST, door.port), PATIENCE_S, (door.source, 0)) as sock, client:
        client.connect(
            HOST,
            door.port,
            door.login,
            key_filename=str(door.key),
            sock=sock,
            allow_agent=False,
            look_for_keys=False,
        )
        yield client


def _run(client: paramiko.SSHClient, command: str, stdin: bytes) -> Done:
    """Write in one thread and read each stream in one, as paramiko blocks in all of them."""
    requests, stdout, stderr = client.exec_command(command, timeout=PATIENCE_S)

    def write() -> None:
        requests.channel.sendall(stdin)
        requests.channel.shutdown_write()

    with ThreadPoolExecutor(3) as pool:
        writing, out, err = pool.submit(write), pool.submit(stdout.read), pool.submit(stderr.read)
        writing.result()
        return Done(stdout=out.result(), stderr=err.result(), status=stdout.channel.recv_exit_status())
