"""Limits of a connection that stock asyncssh does not have; put on each by ssh.overrides.preparing.

- hold_when_full: asyncssh ignores a full socket, so a client with a big window that stops reading would be buffered
  without bound; channels have the other half.
- bound_reading: the same for answers to what a client asks and does not read, and a bound for the time that everybody
  waits while one client's packets are worked through.
- one_exchange_before_login, tell_of_tries, turn_away, loss: limits before anybody is known, on key exchanges, attempts,
  connections and time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import asyncssh

from bastion.ssh.refused import Cause, Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from asyncssh.packet import SSHPacket
    from asyncssh.session import DataType

_CAUSES = {
    "Login timeout expired": Cause.LOGIN_TIMEOUT,
    "Client not responding to keepalive": Cause.KEEPALIVE,
}

MAX_ANSWERS = 1 << 20
"""Bytes of answers that may wait for a client to read them."""

MAX_DEFERRED = 10_000
"""Packets that may wait for the end of a key exchange."""

LONGEST_S = 0.01
"""Seconds that one client's packets may take at once."""

LEAST_READ, MOST_READ = 2 << 10, 256 << 10
"""Bytes that are read from one client at once; asyncio reads the most."""


def hold_when_full(connection: asyncssh.SSHServerConnection) -> None:
    """Make a connection's channels wait while its socket is full."""
    held = cast("Any", connection)
    held.bastion_socket_full = False

    def pause_writing() -> None:
        held.bastion_socket_full = True

    def resume_writing() -> None:
        held.bastion_socket_full = False
        if connection._transport is not None:
            connection._transport.resume_reading()  # see bound_reading; it does nothing if reading goes on
        for channel in list(connection._channels.values()):
            channel._flush_send_buf()

    held.pause_writing = pause_writing
    held.resume_writing = resume_writing


def bound_reading(connection: asyncssh.SSHServerConnection) -> None:
    """Read less at once from a client whose packets take long, and nothing more from one that reads no answers.

    Otherwise a flood of small packets, thousands in one read, would keep everybody else waiting, the record included.
    Output of pods waits in channels (`hold_when_full`) and never comes near the limit, so a client that sends and
    receives much at once is never stopped by this.
    """
    receive, loop = connection.data_received, connection._loop

    def data_received(data: bytes, datatype: DataType = None) -> None:
        began = loop.time()
        receive(data, datatype)
        transport = cast("Any", connection._transport)
        if transport is None:
            return
        transport.max_size = next_read(transport.max_size, len(data), loop.time() - began)
        if len(connection._deferred_packets) > MAX_DEFERRED:
            connection._force_close(asyncssh.ProtocolError("too many requests during a key exchange"))
        elif transport.get_write_buffer_size() > MAX_ANSWERS:
            transport.pause_reading()

    cast("Any", connection).data_received = data_received


def next_read(size: int, taken: int, seconds: float) -> int:
    """How many bytes to read next, after reading `taken` of at most `size` and working on them for so long."""
    if seconds > LONGEST_S:
        return max(LEAST_READ, min(size, int(taken * LONGEST_S / seconds)))
    if taken == size and seconds < LONGEST_S / 4:
        return min(2 * size, MOST_READ)
    return size


def one_exchange_before_login(connection: asyncssh.SSHServerConnection) -> None:
    """Let nobody repeat the key exchange before they logged in: it is the dearest thing a stranger can ask for."""
    send_kexinit = connection._send_kexinit

    def send_first_kexinit() -> None:
        if connection._session_id and not connection._auth_complete:
            raise asyncssh.ProtocolError("no second key exchange before the login")
        send_kexinit()

    cast("Any", connection)._send_kexinit = send_first_kexinit


def tell_of_tries(
    connection: asyncssh.SSHServerConnection, *, begins: Callable[[bytes], None], fails: Callable[[], None]
) -> None:
    """Tell of each request to log in, by its method, and of each failure; either may raise DisconnectError.

    asyncssh checks signatures, and refuses methods, without telling the server object.
    """
    finish, send_failure = connection._finish_userauth, connection.send_userauth_failure

    def finish_userauth(begin_auth: bool, method: bytes, packet: SSHPacket) -> Coroutine[Any, Any, None]:  # noqa: FBT001 - asyncssh's signature
        begins(method)
        return finish(begin_auth, method, packet)

    def send_userauth_failure(partial_success: bool) -> None:  # noqa: FBT001 - as above
        fails()
        send_failure(partial_success)

    told = cast("Any", connection)
    told._finish_userauth = finish_userauth
    told.send_userauth_failure = send_userauth_failure


def turn_away(connection: asyncssh.SSHServerConnection, reason: str) -> None:
    """Close a connection in its first moment, after a line that `ssh -v` shows (RFC 4253 section 4.2 allows it)."""
    connection._send(f"bastion: {reason}\r\n".encode())
    connection.abort()


def loss(exc: Exception | None) -> Loss:
    """What ended a connection, by what asyncssh says."""
    if isinstance(exc, asyncssh.ConnectionLost):
        cause = _CAUSES.get(exc.reason, Cause.OTHER)
    else:
        # A ValueError is how asyncssh's parsers say that what was sent makes no sense.
        foreseen = exc is None or isinstance(exc, asyncssh.Error | OSError | ValueError)
        cause = Cause.OTHER if foreseen else Cause.BUG
    return Loss(cause=cause, said=str(exc or ""))
