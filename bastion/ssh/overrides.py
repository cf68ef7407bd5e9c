"""What of ours stands on asyncssh's private parts, held to the source they were read in; used by ssh.connection.

    PodChannel          exec commands that are not UTF-8, refused env and subsystem requests that are seen,
                        a close that is noticed while reading is paused, a send buffer that waits for the socket
    suit_dropbear       one more MAC for a client that has none of ours
    hold_when_full      the connection's half of that: asyncssh ignores a full socket, so a client with a big
                        window that stops reading would be buffered without bound

`check` compares the overridden functions with those of the asyncssh they were
read in. Without them the server would be unsafe, so a difference is a refusal
to start.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any, Protocol, cast

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHConnection, SSHServerConnection

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncssh.packet import SSHPacket

_READ_IN: dict[Callable[..., Any], str] = {
    SSHServerChannel._process_exec_request: "be64cc45db37b0b5",
    SSHServerChannel._process_env_request: "c6847fe6051100fa",
    SSHServerChannel._process_subsystem_request: "8169245ec89aebe8",
    SSHServerChannel._start_session: "4ef1112382d829bb",
    SSHServerChannel._process_close: "65c1f876b753b91a",
    SSHServerChannel._flush_send_buf: "3f11e9dc27c58b18",
    SSHServerConnection.create_server_channel: "b008e7eebd09049c",
    SSHConnection._recv_version: "05573b0ac8886bf3",
    SSHConnection._send_kexinit: "275ddc818b59f44b",
    SSHConnection.pause_writing: "a69ec7dae4f504a2",
    SSHConnection.resume_writing: "a324675672f6b924",
}


class Requests(Protocol):
    """What a session is told beyond asyncssh's own callbacks."""

    def env_requested(self, name: str, value: str) -> bool:
        """A client wants a variable set; True if it will be."""
        ...

    def command_requested(self, command: bytes) -> bool:
        """An exec request, with the bytes as sent; True if it is taken."""
        ...

    def close_received(self) -> None:
        """The client closed the channel; data it sent before may still be waiting."""
        ...


class PodChannel(SSHServerChannel[bytes]):
    """A server channel as a pod session needs it."""

    @property
    def _requests(self) -> Requests:
        return cast("Requests", self._session)

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """Stock asyncssh refuses a command that is not UTF-8 before anybody is told."""
        command = packet.get_string()
        packet.check_end()
        if self._session_started:
            return False
        self._session_started = True
        return self._requests.command_requested(command)

    def _process_env_request(self, packet: SSHPacket) -> bool:
        """Stock asyncssh takes every variable."""
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        if self._session_started:
            return False
        return self._requests.env_requested(name.decode(errors="backslashreplace"), value.decode(errors="replace"))

    def _process_subsystem_request(self, packet: SSHPacket) -> bool:
        """Stock asyncssh refuses a name that is not ASCII before anybody is told."""
        name = packet.get_string()
        packet.check_end()
        return self._start_session(subsystem=name.decode("ascii", errors="backslashreplace"))

    def _process_close(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Stock asyncssh tells the session only once everything it sent has been read."""
        super()._process_close(pkttype, pktid, packet)
        if self._session is not None:
            self._requests.close_received()

    def _flush_send_buf(self) -> None:
        """Send nothing while the socket is full; the session is paused by what is left here."""
        if getattr(self._conn, "bastion_socket_full", False):
            self._pause_resume_writing()
        else:
            super()._flush_send_buf()


def pod_channel(connection: asyncssh.SSHServerConnection) -> PodChannel:
    """A channel on a connection, with what asyncssh would make its own with."""
    connection._update_recv_pktlen(connection._max_pktsize)
    return PodChannel(
        connection,
        connection._loop,
        allow_pty=True,
        line_editor=False,
        line_echo=False,
        line_history=0,
        max_line_length=0,
        encoding=None,
        errors="strict",
        window=connection._window,
        max_pktsize=connection._max_pktsize,
    )


def hold_when_full(connection: asyncssh.SSHServerConnection) -> None:
    """Make a connection's channels wait while its socket is full."""
    held = cast("Any", connection)
    held.bastion_socket_full = False

    def pause_writing() -> None:
        held.bastion_socket_full = True

    def resume_writing() -> None:
        held.bastion_socket_full = False
        for channel in list(connection._channels.values()):
            channel._flush_send_buf()

    held.pause_writing = pause_writing
    held.resume_writing = resume_writing


def suit_dropbear(connection: asyncssh.SSHServerConnection) -> None:
    """Offer hmac-sha2-256 to dropbear, and to nobody else.

    Dropbear 2022.83 has no encrypt-then-MAC and, as Debian builds it, no GCM. Its chacha20-poly1305 would be open
    to prefix truncation (CVE-2023-48795), because it does not know the strict key exchange yet; AES-CTR with this
    MAC is not.
    """
    changed = cast("Any", connection)
    send_kexinit = connection._send_kexinit

    def send_suited_kexinit() -> None:
        mac = b"hmac-sha2-256"
        if connection._client_version.startswith(b"SSH-2.0-dropbear") and mac not in changed._mac_algs:
            changed._mac_algs = [*changed._mac_algs, mac]
        send_kexinit()

    changed._send_kexinit = send_suited_kexinit


def let_go(connection: asyncssh.SSHServerConnection) -> None:
    """Take back what was put on a connection, so that it is freed as soon as it is gone."""
    for name in ("pause_writing", "resume_writing", "_send_kexinit"):
        vars(connection).pop(name, None)


def check() -> None:
    """Refuse to start on an asyncssh whose overridden parts are not those that were read."""
    for function, digest in _READ_IN.items():
        if fingerprint(function) != digest:
            raise BastionError(
                Code.INVALID,
                f"asyncssh {asyncssh.__version__} differs from the version this was written for"
                f" in {function.__qualname__}; install what requirements.lock names",
            )


def fingerprint(function: Callable[..., Any]) -> str:
    """The first 16 hex digits of the SHA-256 of a function's source."""
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
