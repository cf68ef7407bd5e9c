"""Listens for ssh connections with safe settings, and ends them; used by app."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

import asyncssh

from bastion.errors import BastionError, Code
from bastion.ssh import overrides
from bastion.ssh.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bastion.ssh.rooms import Rooms

# curve25519-sha256 comes first because dropbear sends a guessed first packet for its own first choice; the client's
# order decides otherwise, so clients that can still get the post-quantum exchange.
KEX = ("curve25519-sha256", "mlkem768x25519-sha256", "curve25519-sha256@libssh.org")
# GCM is what asyncssh does fastest, and leaving chacha20 out ends the Terrapin question.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")

CLOSE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, and how patient to be. Times in seconds."""

    host: str
    port: int
    host_key: Path
    login_timeout_s: float
    keepalive_interval_s: float
    keepalive_count: int
    fast_path: bool


class Listener:
    """A listening server."""

    def __init__(self, acceptor: asyncssh.SSHAcceptor, connections: WeakSet[Connection]) -> None:
        self._acceptor = acceptor
        self._connections = connections

    @property
    def port(self) -> int:
        """The port in use."""
        return self._acceptor.get_port()

    def stop(self, reason: str) -> None:
        """Accept nobody new and end every session, telling the people on them why."""
        self._acceptor.close()
        for connection in list(self._connections):
            connection.hang_up(reason)


@asynccontextmanager
async def listen(address: Address, rooms: Rooms) -> AsyncIterator[Listener]:
    """Serve until left; then every connection is closed.

    Raises BastionError(INVALID) for a host key that cannot be read or an address that cannot be had.
    """
    overrides.check()
    asyncssh.set_log_level("WARNING")  # at INFO it logs commands and user names as they came
    hasten = address.fast_path and _is_the_asyncssh_that_was_read(rooms)
    connections: WeakSet[Connection] = WeakSet()

    def made() -> Connection:
        connection = Connection(rooms, hasten=hasten)
        connections.add(connection)
        return connection

    try:
        acceptor = await asyncssh.listen(
            address.host,
            address.port,
            server_factory=made,
            server_host_keys=[str(address.host_key)],
            config=None,
            kex_algs=KEX,
            encryption_algs=CIPHERS,
            mac_algs=MACS,
            compression_algs=None,  # zlib inflates without limit
            host_based_auth=False,
            password_auth=False,
            kbdint_auth=False,
            gss_host=None,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            line_editor=False,
            encoding=None,
            login_timeout=address.login_timeout_s,
            keepalive_interval=address.keepalive_interval_s,
            keepalive_count_max=address.keepalive_count,
            server_version="bastion",
            backlog=1024,
        )
    except asyncssh.KeyImportError as error:
        raise BastionError(
            Code.INVALID, f"host key {address.host_key} cannot be used: {error} (set BASTION_SSH_HOST_KEY)"
        ) from error
    except OSError as error:
        raise BastionError(
            Code.INVALID,
            f"cannot listen on {address.host} port {address.port}: {error.strerror or error};"
            " choose another with BASTION_SSH_PORT, or --port of the demo",
        ) from error
    try:
        yield Listener(acceptor, connections)
    finally:
        acceptor.close()
        for connection in list(connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await acceptor.wait_closed()


def _is_the_asyncssh_that_was_read(rooms: Rooms) -> bool:
    difference = overrides.differs()
    if difference:
        rooms.log.warning("fast_path.off", difference=difference)
    return not difference
