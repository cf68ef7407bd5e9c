"""A19: messages out of their order, key exchanges twice and again, and somebody on the wire who changes packets."""

from __future__ import annotations

import asyncio
import hashlib
import os
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest
from asyncssh.packet import Boolean, String, UInt32

from support.invariants import assert_no_traceback, assert_whole, now
from support.mitm import IGNORE, Plan, between
from support.sshpeer import connected, key_of, logging_in, open_channel
from support.trips import PATIENCE_S
from support.waiting import eventually

if TYPE_CHECKING:
    from support.sshpeer import Login
    from support.trips import Bastion

# What is asked here is the same on either database, and a run is short of time.
pytestmark = pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")

YES = Boolean(value=True)
HERE, ELSEWHERE = "web.default", "api.shop"
DISCONNECT, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 1, 3, 4, 5, 6, 7
KEXINIT, NEWKEYS, KEX_REPLY, GLOBAL, CHANNEL_OPEN, CHANNEL_DATA, CHANNEL_REQUEST = 20, 21, 31, 80, 90, 94, 98


def alice(bastion: Bastion) -> asyncssh.SSHKey:
    return asyncssh.read_private_key(str(key_of(bastion, "alice")))


BEFORE_LOGIN: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "a channel": (CHANNEL_OPEN, (String("session"), UInt32(0), UInt32(1 << 21), UInt32(1 << 15))),
    "a request on a channel": (CHANNEL_REQUEST, (UInt32(0), String("shell"), YES)),
    "data on a channel": (CHANNEL_DATA, (UInt32(0), String("id\n"))),
    "a forward": (GLOBAL, (String("tcpip-forward"), YES, String(""), UInt32(0))),
    "another service": (SERVICE_REQUEST, (String("ssh-connection"),)),
    "the same service again": (SERVICE_REQUEST, (String("ssh-userauth"),)),
    "the server's accept": (SERVICE_ACCEPT, (String("ssh-userauth"),)),
    "keys that were not agreed": (NEWKEYS, ()),
    "an exchange's second half": (KEX_REPLY, (String("x"), String("y"), String("z"))),
}


def send_now(login: Login, kind: int, *parts: bytes) -> None:
    """Send a packet that asyncssh would keep until after the login."""
    connection: Any = login.connection
    kept, connection._auth_complete = connection._auth_complete, True
    try:
        login.send(kind, *parts)
    finally:
        connection._auth_complete = kept


async def test_a19_nothing_works_before_the_login(bastion: Bastion) -> None:
    since = now()
    for name, (kind, parts) in BEFORE_LOGIN.items():
        async with logging_in(bastion) as login:
            login.request(HERE, b"none")
            assert await login.answered(1) == ["failure"], name
            send_now(login, kind, *parts)
            assert await login.answered(2) == ["failure", "lost"], name

    assert_no_traceback(bastion)
    assert_whole(bastion, since=since, denials={"login.refused": len(BEFORE_LOGIN), "session.refused": 0})


async def test_a19_a_channel_pipelined_behind_the_login_waits_for_it_or_is_dropped(bastion: Bastion) -> None:
    async with logging_in(bastion) as login:
        login.sign(HERE, alice(bastion))
        send_now(login, CHANNEL_OPEN, String("session"), UInt32(7), UInt32(1 << 21), UInt32(1 << 15))
        assert (await login.answered(2))[-1] == "lost"  # the login was still being looked up
    assert_no_traceback(bastion)
    assert_whole(bastion)


async def test_a19_a_login_after_the_login_changes_nothing(bastion: Bastion) -> None:
    carl = asyncssh.read_private_key(str(key_of(bastion, "carl")))
    async with logging_in(bastion) as login:
        login.sign(HERE, alice(bastion))
        assert await login.answered(1) == ["success"]
        login.sign(HERE, carl)
        login.sign(ELSEWHERE, carl)
        login.request(ELSEWHERE, b"none")
        channel = await open_channel(login.connection)
        assert await channel.ask(b"exec", String("hostname"))
        assert await channel.wait() == (b"web\n", b"", 0)
        login.sign(ELSEWHERE, carl)  # behind other messages it is an error (RFC 4252, 5.3)
        assert (await login.answered(2))[-1] == "lost"

    session = await asyncio.to_thread(bastion.last_session)
    assert (session["person"], session["login"]) == ("alice", HERE)
    assert_no_traceback(bastion)
    assert_whole(bastion)


async def exchange_again(connection: asyncssh.SSHClientConnection) -> None:
    """A whole second key exchange, begun by the client."""
    raw: Any = connection
    raw._send_kexinit()
    raw._kexinit_sent = True

    async def is_over() -> bool:
        return bool(raw._kex_complete)

    await eventually(is_over, within=PATIENCE_S)


async def test_a19_keys_are_exchanged_anew_in_the_middle_of_a_stream(bastion: Bastion) -> None:
    data = os.urandom(1 << 20)
    async with connected(bastion) as connection:
        channel = await open_channel(connection)
        assert await channel.ask(b"exec", String("cat"))
        for at in range(0, len(data), 1 << 17):
            channel.write(data[at : at + (1 << 17)])
            await exchange_again(connection)
        channel.end_input()
        out, errors, status = await channel.wait()
    assert (hashlib.sha256(out).digest(), errors, status) == (hashlib.sha256(data).digest(), b"", 0)
    assert_whole(bastion)


async def test_a19_an_exchange_within_an_exchange_and_keys_twice_end_the_connection(bastion: Bastion) -> None:
    async with connected(bastion) as other:
        for packets in ([KEXINIT] * 2, [KEXINIT] * 1000, [KEXINIT, NEWKEYS], [NEWKEYS], [NEWKEYS] * 2):
            async with connected(bastion) as connection:
                raw: Any = connection
                raw._send_kexinit()
                offer = raw._client_kexinit[1:]
                for kind in packets[1:] if packets[0] == KEXINIT else packets:
                    if not connection.is_closed():
                        raw.send_packet(kind, *([offer] if kind == KEXINIT else []))
                async with asyncio.timeout(PATIENCE_S):
                    await connection.wait_closed()
        bystander = await open_channel(other)
        assert await bystander.ask(b"exec", String("echo unharmed"))
        assert (await bystander.wait())[0] == b"unharmed\n"
    assert_no_traceback(bastion)
    assert_whole(bastion)


# --- Terrapin: prefix truncation by somebody on the wire (CVE-2023-48795) --------------------

STRICT_SERVER, STRICT_CLIENT = b"kex-strict-s-v00@openssh.com", b"kex-strict-c-v00@openssh.com"


async def through(bastion: Bastion, port: int, *options: str) -> tuple[int, bytes, bytes]:
    """Run a command by ssh through another port; status, output, errors."""
    argv = bastion.ssh_argv("-o", f"Port={port}", "-o", "LogLevel=INFO", *options, "web.default@b", "echo ran")
    ssh = await asyncio.create_subprocess_exec(*argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(PATIENCE_S):
        out, errors = await ssh.communicate()
    assert ssh.returncode is not None
    return ssh.returncode, out, errors


CIPHERS = {
    "gcm": ("-o", "Ciphers=aes128-gcm@openssh.com"),
    "ctr-etm": ("-o", "Ciphers=aes128-ctr", "-o", "MACs=hmac-sha2-256-etm@openssh.com"),
}
TAGS = {"gcm": 16, "ctr-etm": 32}
BOTH = Plan(insert=(IGNORE,), drop=1)
PLANS: dict[str, dict[str, Plan]] = {
    "to the server": {"up": BOTH},
    "to the server, before all": {"up": replace(BOTH, first=True)},
    "to the client": {"down": BOTH},
    "to both": {"up": BOTH, "down": BOTH},
    "left out alone": {"down": Plan(drop=1)},
    "put in alone": {"up": Plan(insert=(IGNORE,))},
}


def plans(cipher: str) -> dict[str, dict[str, Plan]]:
    """The plans for the MAC of a cipher."""
    return {name: {way: replace(plan, tag=TAGS[cipher]) for way, plan in ways.items()} for name, ways in PLANS.items()}


async def test_a19_somebody_on_the_wire_who_changes_nothing_is_not_noticed_and_strict_exchange_is_agreed(
    bastion: Bastion,
) -> None:
    async with between(bastion) as wire:
        assert await through(bastion, wire.port) == (0, b"ran\n", b"")
    assert sum(STRICT_SERVER in offer for offer in wire.offered) == 1
    assert sum(STRICT_CLIENT in offer for offer in wire.offered) == 1
    assert_whole(bastion)


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_a19_a_packet_put_in_and_one_left_out_end_the_connection(bastion: Bastion, cipher: str) -> None:
    for name, ways in plans(cipher).items():
        async with between(bastion, **ways) as wire:
            status, out, errors = await through(bastion, wire.port, *CIPHERS[cipher])
        assert (status, out) == (255, b""), name
        assert errors, name
        assert wire.inserted + wire.dropped, name
    assert_no_traceback(bastion)
    assert_whole(bastion)


class Lax(asyncssh.SSHClientConnection):
    """A client's connection that knows no strict exchange, as before 2023."""

    @property
    def _strict_kex(self) -> bool:
        return False

    @_strict_kex.setter
    def _strict_kex(self, value: bool) -> None:
        """Whatever the server offers."""

    def _get_extra_kex_algs(self) -> list[bytes]:
        return [b"ext-info-c"]


class LaxClient(asyncssh.SSHClient):
    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        conn.__class__ = Lax


async def lets_in(bastion: Bastion, port: int, cipher: str) -> bool:
    """Whether a client that knows no strict exchange can log in through another port, and be answered."""
    algorithm = "aes128-gcm@openssh.com" if cipher == "gcm" else "aes128-ctr"
    options: dict[str, Any] = {"encryption_algs": [algorithm], "mac_algs": ["hmac-sha2-256-etm@openssh.com"]}
    options["login_timeout"] = 4  # with CTR the other end waits for the rest of what has become garbage
    try:
        async with connected(bastion, port=port, client_factory=LaxClient, **options) as connection:
            return (await connection.run("echo ran", encoding=None)).stdout == b"ran\n"
    except (asyncssh.Error, OSError, ValueError):  # a ValueError is a packet that makes no sense
        return False


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_a19_a_client_without_the_strict_exchange_cannot_be_truncated_either(
    bastion: Bastion, cipher: str
) -> None:
    """What is offered has a count of its own (GCM) or a place in a key stream (CTR), beside the sequence number."""
    async with between(bastion) as wire:
        assert await lets_in(bastion, wire.port, cipher)
    assert not any(STRICT_CLIENT in offer for offer in wire.offered)
    offer = next(offer for offer in wire.offered if STRICT_SERVER in offer)
    assert b"chacha20" not in offer
    assert b"-cbc" not in offer

    for name in ("to the server", "to the client", "to both"):
        async with between(bastion, **plans(cipher)[name]) as wire:
            assert not await lets_in(bastion, wire.port, cipher), name
        assert wire.inserted, name
        assert wire.dropped, name
    assert_no_traceback(bastion)
    assert_whole(bastion)
