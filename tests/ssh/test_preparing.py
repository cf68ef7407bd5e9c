"""What is put on a connection works together, in its order, and is taken back when the connection is gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from bastion.ssh import overrides
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bastion.ssh.overrides import Prepared

CIPHERS = ("aes128-gcm@openssh.com", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com",)
ALL = {
    "_finish_userauth",
    "_send_kexinit",
    "bastion_socket_full",
    "data_received",
    "pause_writing",
    "resume_writing",
    "send_userauth_failure",
}


class Door(asyncssh.SSHServer):
    """Lets everybody in who asks twice, on a connection that was prepared."""

    def __init__(self, *, fast: bool) -> None:
        self._fast = fast
        self.tries: list[bytes] = []
        self.failures = 0
        self.after: set[str] | None = None
        self.lost: Exception | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._own = set(vars(conn))
        self._conn = conn
        self.connection = weakref.ref(conn)
        self.prepared: Prepared = overrides.prepare(conn, fast=self._fast, begins=self.tries.append, fails=self._fails)
        self.put_on = set(vars(conn)) - self._own

    def _fails(self) -> None:
        self.failures += 1

    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        del username, key
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self.prepared.let_go()
        self.after = set(vars(self._conn)) - self._own
        vars(self._conn)["_recv_handler"] = None  # asyncssh's own way to keep a connection until garbage is collected
        del self._conn, self.prepared


@contextlib.asynccontextmanager
async def listening(*, fast: bool) -> AsyncIterator[tuple[int, list[Door]]]:
    """A server, and the connections it had."""
    doors: list[Door] = []

    def made() -> Door:
        doors.append(Door(fast=fast))
        return doors[-1]

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with (
        asyncio.timeout(60),
        asyncssh.listen(
            "127.0.0.1", 0, server_factory=made, server_host_keys=[key], encryption_algs=CIPHERS, mac_algs=MACS
        ) as server,
    ):
        yield server.get_port(), doors


def connecting(port: int, **options: Any) -> Any:
    key = asyncssh.generate_private_key("ssh-ed25519")
    return asyncssh.connect(
        "127.0.0.1", port, username="x", client_keys=[key], known_hosts=None, config=None, agent_path=None, **options
    )


async def gone(door: Door) -> None:
    """Wait until the connection has ended."""

    async def has() -> bool:
        return door.after is not None

    await eventually(has, within=30)


@pytest.mark.parametrize("fast", [True, False])
async def test_all_of_it_is_put_on_and_all_of_it_is_taken_back(fast: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async with listening(fast=fast) as (port, doors):
        async with connecting(port) as client:
            assert client.get_extra_info("send_cipher") == CIPHERS[0]
        await gone(doors[0])

    assert doors[0].put_on == (ALL | {"bastion_sender"} if fast else ALL)
    assert doors[0].after == set()
    assert doors[0].tries[0] == b"none"
    assert doors[0].failures == 1


@pytest.mark.parametrize("fast", [True, False])
async def test_nothing_of_ours_keeps_a_connection_that_is_gone(fast: bool) -> None:  # noqa: FBT001 - as above
    gc.collect()
    gc.disable()
    try:
        async with listening(fast=fast) as (port, doors):
            async with connecting(port):
                assert doors[0].connection() is not None
            await gone(doors[0])

            async def freed() -> bool:
                return doors[0].connection() is None

            await eventually(freed, within=30)
    finally:
        gc.enable()


async def test_a_stranger_who_leaves_before_the_first_exchange_is_waited_for_no_longer() -> None:
    async with listening(fast=True) as (port, doors):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"SSH-2.0-hasty\r\n")
        await writer.drain()
        writer.close()
        await gone(doors[0])
        timers = [handle for handle in asyncio.get_running_loop()._scheduled if "send_late" in repr(handle)]  # type: ignore[attr-defined] # asyncio tells of its timers nowhere else

    assert timers == []
    assert doors[0].after == set()


async def test_dropbear_gets_its_mac_also_where_gcm_is_asked_for_first() -> None:
    async with (
        listening(fast=False) as (port, _),
        connecting(
            port,
            client_version="dropbear_2022.83",
            encryption_algs=["aes256-ctr"],
            mac_algs=["hmac-sha2-256"],
        ) as client,
    ):
        assert client.get_extra_info("send_mac") == "hmac-sha2-256"


async def test_nobody_else_gets_it() -> None:
    async with listening(fast=False) as (port, _):
        with pytest.raises(asyncssh.KeyExchangeFailed):
            async with connecting(port, encryption_algs=["aes256-ctr"], mac_algs=["hmac-sha2-256"]):
                pass
