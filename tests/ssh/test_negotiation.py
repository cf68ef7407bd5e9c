"""AES-GCM for everybody who has it, and the rest of the list for everybody else, also for who waits for us to speak."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncssh
import pytest

from bastion.ssh.overrides import negotiation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr"]
MACS = ["hmac-sha2-256-etm@openssh.com"]
OPENSSH_9 = [
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
]


class Door(asyncssh.SSHServer):
    """Lets everybody in."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        negotiation.suit_dropbear(conn)
        negotiation.prefer_gcm(conn)

    def begin_auth(self, username: str) -> bool:
        del username
        return False


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with (
        asyncio.timeout(30),
        asyncssh.listen(
            "127.0.0.1", 0, server_factory=Door, server_host_keys=[key], encryption_algs=CIPHERS, mac_algs=MACS
        ) as server,
    ):
        yield server.get_port()


def connecting(port: int, ciphers: Sequence[str], rekey_bytes: int = 1 << 30) -> asyncssh.connection._ACMWrapper:  # type: ignore[name-defined]  # asyncssh's own words for it
    return asyncssh.connect(
        "127.0.0.1",
        port,
        username="anybody",
        known_hosts=None,
        config=None,
        client_keys=None,
        agent_path=None,
        encryption_algs=list(ciphers),
        rekey_bytes=rekey_bytes,
    )


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (OPENSSH_9, "aes128-gcm@openssh.com"),
        (["aes256-ctr", "aes256-gcm@openssh.com"], "aes256-gcm@openssh.com"),
        (["aes256-ctr", "aes192-ctr", "aes128-ctr"], "aes256-ctr"),
        (["chacha20-poly1305@openssh.com", "aes128-ctr"], "aes128-ctr"),
    ],
)
async def test_gcm_is_chosen_wherever_a_client_has_it(offered: list[str], chosen: str) -> None:
    async with listening() as port, connecting(port, offered) as client:
        assert client.get_extra_info("send_cipher") == chosen
        assert client.get_extra_info("recv_cipher") == chosen


async def test_a_client_with_nothing_in_common_is_told() -> None:
    async with listening() as port:
        with pytest.raises(asyncssh.KeyExchangeFailed):
            async with connecting(port, ["chacha20-poly1305@openssh.com"]):
                pass


async def test_a_client_that_waits_for_us_gets_the_whole_list() -> None:
    async with listening() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"SSH-2.0-patient\r\n")
        await reader.readline()
        length = int.from_bytes(await reader.readexactly(4), "big")
        packet = await reader.readexactly(length)
        writer.close()

    assert packet[1] == 20  # KEXINIT
    assert b",".join(name.encode() for name in CIPHERS) in packet


async def test_a_client_that_says_everything_at_once_is_answered_once() -> None:
    offer = b",".join(name.encode() for name in OPENSSH_9)
    names = [b"curve25519-sha256", b"ssh-ed25519", offer, offer, b"hmac-sha2-256", b"hmac-sha2-256", b"none", b"none"]
    lists = b"".join(len(name).to_bytes(4, "big") + name for name in [*names, b"", b""])
    payload = b"\x14" + bytes(16) + lists + b"\0" + bytes(4)
    padding = 8 - (5 + len(payload)) % 8 + 4
    padding += -(5 + len(payload) + padding) % 8
    packet = (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)
    async with listening() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"SSH-2.0-hasty\r\n" + packet)
        await reader.readline()
        length = int.from_bytes(await reader.readexactly(4), "big")
        answer = await reader.readexactly(length)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # as long as it would take to say it again, and more
                await reader.readexactly(1)
        writer.close()

    assert answer[1] == 20
    assert b"aes128-gcm@openssh.com,aes256-gcm@openssh.com" in answer
    assert b"aes256-ctr" not in answer
