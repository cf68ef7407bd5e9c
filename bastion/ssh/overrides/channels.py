"""A server channel as a pod session needs it; made by ssh.connection.

Beyond stock asyncssh: exec commands that are not UTF-8, refused requests (variables, subsystems, forwarding)
that are seen, a close that is noticed while reading is paused, a window that counts what waits here, a send
buffer that waits for the socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from asyncssh.channel import SSHServerChannel
from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import UInt32

if TYPE_CHECKING:
    import asyncssh
    from asyncssh.packet import SSHPacket
    from asyncssh.session import DataType

    from bastion.ssh.overrides.fastpath import Sender

SMALL = 4096
"""Packets that wait are joined up to so many bytes."""


class Requests(Protocol):
    """What a session is told beyond asyncssh's own callbacks."""

    def env_requested(self, name: str, value: str) -> bool:
        """A client wants a variable set; True if it will be."""
        ...

    def command_requested(self, command: bytes) -> bool:
        """An exec request, with the bytes as sent; True if it is taken."""
        ...

    def forwarding_requested(self, what: str) -> bool:
        """A client wants its agent or its display forwarded; True if it will be."""
        ...

    def close_received(self) -> None:
        """The client closed the channel; data it sent before may still be waiting."""
        ...


class PodChannel(SSHServerChannel[bytes]):
    """A server channel as a pod session needs it."""

    _left = False

    @property
    def is_over(self) -> bool:
        """Whether both sides closed it and nothing waits in it. One that is not open yet is not over."""
        return self._left and self._recv_state == "closed"

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

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> bool:  # type: ignore[override]  # answered at once
        """Stock asyncssh asks the server's options, and nobody is told."""
        packet.check_end()
        return self._requests.forwarding_requested("an agent")

    def _process_x11_req_request(self, packet: SSHPacket) -> bool:
        """As for an agent."""
        del packet
        return self._requests.forwarding_requested("a display")

    def _process_close(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Stock asyncssh tells the session only once everything it sent has been read."""
        super()._process_close(pkttype, pktid, packet)
        self._left = True
        if self._session is not None:
            self._requests.close_received()

    # asyncssh calls what stands here, not the method of that name.
    _packet_handlers = {**SSHServerChannel._packet_handlers, MSG_CHANNEL_CLOSE: _process_close}  # noqa: RUF012 - as there

    def _accept_data(self, data: bytes, datatype: DataType = None) -> None:
        """Stock asyncssh keeps every packet that waits by itself, and one of a byte takes a hundred."""
        if self._recv_paused and self._recv_buf and self._send_state == "open":
            held, kind = self._recv_buf[-1]
            if kind == datatype and len(held) + len(data) <= SMALL:
                self._recv_window -= len(data)
                self._recv_buf[-1] = (held + data, datatype)
                return
        super()._accept_data(data, datatype)

    def _deliver_data(self, data: bytes, datatype: DataType) -> None:
        """Stock asyncssh opens the whole window with each delivery, whatever else still waits: without bound."""
        window = self._init_recv_window - sum(len(held) for held, _ in self._recv_buf)
        if self._recv_window < window // 2:
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(window - self._recv_window))
            self._recv_window = window
        if self._session is not None:
            self._session.data_received(data, datatype)

    def _flush_send_buf(self) -> None:
        """Send nothing while the socket is full; the session is paused by what is left here."""
        if getattr(self._conn, "bastion_socket_full", False):
            self._pause_resume_writing()
            return
        sender: Sender | None = getattr(self._conn, "bastion_sender", None)
        if sender is not None:
            sender.flush(self)
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


def open_channels(connection: asyncssh.SSHServerConnection) -> int:
    """How many channels are open. One that both sides closed is over, though asyncssh holds it for another moment."""
    channels = cast("dict[int, PodChannel]", connection._channels)
    return sum(not channel.is_over for channel in channels.values())
