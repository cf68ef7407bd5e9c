"""Abuse of the login: another identity slipped in, methods that are not offered, keys and certificates of others."""

from __future__ import annotations

import asyncio
import random
import subprocess
from typing import TYPE_CHECKING

import asyncssh
import pytest
from asyncssh.packet import Boolean, String, UInt32

from support.invariants import assert_no_traceback, assert_whole, now
from support.sshpeer import key_of, logging_in, open_channel, own_address, pty_request
from support.traces import events_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.effort import Effort
    from support.sshpeer import Login
    from support.trips import Bastion

NO, YES = Boolean(value=False), Boolean(value=True)
HERE, ELSEWHERE = "web.default", "api.shop"
AT_ONCE = 6
"""Logins side by side: fewer than the unauthenticated connections that are let in without a draw."""

LONGEST_S = 0.2

once = pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
"""For what is the same on either database: a run is short of time."""


class Keys:
    """The keys of the people, private halves and all."""

    def __init__(self, bastion: Bastion) -> None:
        self.alice, self.carl, self.stranger = [
            asyncssh.read_private_key(str(key_of(bastion, name))) for name in ("alice", "carl", "stranger")
        ]


@pytest.fixture(scope="session")
def keys(bastion: Bastion) -> Keys:
    return Keys(bastion)


async def ran(login: Login, command: str = "hostname") -> tuple[bytes, int | None]:
    """The output and the status of a command over a login; b"" and None if the connection is gone."""
    try:
        channel = await open_channel(login.connection)
        await channel.ask(b"exec", String(command))
        out, _, status = await channel.wait()
    except (asyncssh.Error, OSError):
        return b"", None
    return out, status


# --- A14: a second request while the first is looked up ------------------------------------

SECONDS: list[Callable[[Login, Keys], None]] = [
    lambda login, keys: login.offer(HERE, keys.carl.public_data),
    lambda login, keys: login.offer(ELSEWHERE, keys.carl.public_data),
    lambda login, keys: login.sign(HERE, keys.carl, harm=True),
    lambda login, keys: login.sign(ELSEWHERE, keys.carl, harm=True),
    lambda login, keys: login.sign(HERE, keys.alice, public=keys.carl.public_data),
    lambda login, keys: login.sign(ELSEWHERE, keys.alice, public=keys.carl.public_data),
    lambda login, keys: login.sign(ELSEWHERE, keys.alice),
    lambda login, _: login.request(HERE, b"none"),
    lambda login, _: login.request(ELSEWHERE, b"none"),
    lambda login, _: login.request(ELSEWHERE, b"password", NO, String("secret")),
    lambda login, _: login.request(ELSEWHERE, b"keyboard-interactive", String(""), String("")),
    lambda login, _: login.request(ELSEWHERE, b"hostbased", *(String("x"),) * 5),
    lambda login, _: login.request(ELSEWHERE, b"gssapi-with-mic", UInt32(0)),
]


async def swap(bastion: Bastion, keys: Keys, second: Callable[[Login, Keys], None], after_s: float) -> str:
    """Sign in as alice, and send a second request so much later; the address that came from."""
    address = own_address(bastion)
    async with logging_in(bastion, address=address) as login:
        login.sign(HERE, keys.alice)
        if after_s:
            await asyncio.sleep(after_s)
        second(login, keys)
        if "success" in await login.answered(1):
            assert await ran(login) in {(b"web\n", 0), (b"", None)}
    return address


@pytest.mark.fuzz
async def test_a14_a_second_login_within_the_first_never_gives_another_identity(
    bastion: Bastion, keys: Keys, effort: Effort
) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - it must be repeatable, not secret
    draw = random.Random(seed)  # noqa: S311 - as above
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        after_s = draw.choice([0.0, draw.uniform(0, 0.02), draw.uniform(0, LONGEST_S)])
        async with gate:
            return await swap(bastion, keys, SECONDS[number % len(SECONDS)], after_s)

    addresses = set(await asyncio.gather(*(one(number) for number in range(effort.swaps))))

    events = await asyncio.to_thread(bastion.audit, "events", "--limit", "100000")
    logins = [event for event in events if event["source"] in addresses and event["type"] == "login.accepted"]
    assert {(event["person"], event["login"]) for event in logins} <= {("alice", HERE)}, f"seed {seed}"
    assert logins, f"seed {seed}: no login got through at all"
    sessions = await asyncio.to_thread(bastion.audit, "sessions", "--limit", "10000")
    ours = [one for one in sessions if one["source"].rpartition(":")[0] in addresses]
    assert {(one["person"], one["login"], one["pod"]) for one in ours} <= {("alice", HERE, "web")}, f"seed {seed}"
    assert_no_traceback(bastion)
    assert_whole(bastion)


@once
async def test_a14_a_change_of_the_user_name_drops_the_connection(bastion: Bastion, keys: Keys) -> None:
    since = now()
    async with logging_in(bastion) as login:
        login.request(HERE, b"none")
        assert await login.answered(1) == ["failure"]
        login.sign(ELSEWHERE, keys.alice)
        assert await login.answered(2) == ["failure", "lost"]

    assert "user name may not change" in str(login.why_lost)
    assert_whole(bastion, since=since, denials={"login.refused": 1})


@once
async def test_a14_of_two_people_who_sign_at_once_the_one_let_in_is_the_one_recorded(
    bastion: Bastion, keys: Keys
) -> None:
    fingerprints = {"alice": keys.alice.get_fingerprint(), "carl": keys.carl.get_fingerprint()}
    for first, second in ((keys.alice, keys.carl), (keys.carl, keys.alice)):
        address = own_address(bastion)
        async with logging_in(bastion, address=address) as login:
            login.sign(HERE, first)
            login.sign(HERE, second)
            assert "success" in await login.answered(1)
            out, status = await ran(login)

        (accepted,) = [
            event for event in await asyncio.to_thread(events_of, bastion, address) if "login." in event["type"]
        ]
        assert accepted["credential"] == fingerprints[accepted["person"]]
        assert (out, status) == ((b"web\n", 0) if accepted["person"] == "alice" else (b"", 254))
    assert_whole(bastion)


# --- A15, A16: keys and certificates that were only shown ----------------------------------


@once
async def test_a15_a_key_that_was_only_offered_gives_nothing_to_the_key_that_signs(
    bastion: Bastion, keys: Keys
) -> None:
    for shown, signs, person in ((keys.alice, keys.carl, "carl"), (keys.carl, keys.alice, "alice")):
        address = own_address(bastion)
        async with logging_in(bastion, address=address) as login:
            login.offer(HERE, shown.public_data)
            assert await login.answered(1) == ["offer"]
            login.sign(HERE, signs)
            assert await login.answered(2) == ["offer", "success"]
            login.offer(HERE, shown.public_data)
            out, status = await ran(login)

        assert (out, status) == ((b"web\n", 0) if person == "alice" else (b"", 254))
        events = await asyncio.to_thread(events_of, bastion, address)
        assert {event["person"] for event in events} == {person}
        assert {event["credential"] for event in events} == {signs.get_fingerprint()}
    assert_whole(bastion)


@once
async def test_a15_a_signature_by_another_key_than_the_one_named_is_refused(bastion: Bastion, keys: Keys) -> None:
    since = now()
    async with logging_in(bastion) as login:
        login.offer(HERE, keys.alice.public_data)
        assert await login.answered(1) == ["offer"]
        for count, (key, harm) in enumerate([(keys.stranger, False), (keys.carl, False), (keys.alice, True)], 2):
            login.sign(HERE, key, public=keys.alice.public_data, harm=harm)
            assert (await login.answered(count))[1:] == ["failure"] * (count - 1)

    assert_whole(bastion, since=since, denials={"login.refused": 1})


def certificate(folder: Path, authority: Path, subject: Path) -> bytes:
    """A user's certificate with a forced command, as its public data."""
    (folder / "subject.pub").write_bytes(subject.with_suffix(".pub").read_bytes())
    options = ("-O", "clear", "-O", "force-command=echo forced", "-n", f"{HERE},alice,root")
    argv = ("ssh-keygen", "-q", "-s", str(authority), "-I", "x", *options, str(folder / "subject.pub"))
    subprocess.run(argv, check=True)
    return asyncssh.read_certificate(str(folder / "subject-cert.pub")).public_data


@once
async def test_a16_a_certificate_of_another_leaves_nothing_behind(bastion: Bastion, keys: Keys, tmp_path: Path) -> None:
    names = [("stranger", "stranger"), ("carl", "alice"), ("alice", "carl"), ("host", "alice")]
    for authority, subject in names:
        shown = certificate(tmp_path, key_of(bastion, authority), key_of(bastion, subject))
        async with logging_in(bastion) as login:
            login.offer(HERE, shown, b"ssh-ed25519-cert-v01@openssh.com")
            assert await login.answered(1) == ["failure"], (authority, subject)
            login.sign(HERE, keys.alice)
            assert await login.answered(2) == ["failure", "success"], (authority, subject)
            assert await ran(login) == (b"web\n", 0), (authority, subject)
            channel = await open_channel(login.connection)
            assert await channel.ask(b"pty-req", *pty_request())  # which the certificate does not permit
            channel.close()
    assert_whole(bastion)


# --- A17: methods that are not offered -----------------------------------------------------

METHODS: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "none": (b"none", ()),
    "password": (b"password", (NO, String("secret"))),
    "password change": (b"password", (YES, String("old"), String("new"))),
    "keyboard-interactive": (b"keyboard-interactive", (String(""), String(""))),
    "hostbased": (b"hostbased", (String("ssh-ed25519"), String("key"), String("host"), String("root"), String("sig"))),
    "gssapi-with-mic": (b"gssapi-with-mic", (UInt32(1), String(bytes.fromhex("06092a864886f712010202")))),
    "gssapi, too many mechanisms": (b"gssapi-with-mic", (UInt32(2**31),)),
    "gssapi-keyex": (b"gssapi-keyex", (String("mic"),)),
    "a method of nobody": (b"x" * 1000, ()),
    "a method that is not text": (b"\xff\xfe\0", ()),
    "a key of nothing": (b"publickey", (NO, String(""), String(""))),
    "a key of garbage": (b"publickey", (NO, String("ssh-ed25519"), String(b"\xff" * 500))),
    "a signature of garbage": (b"publickey", (YES, String("x"), String("y"), String("z"))),
}


@once
async def test_a17_methods_that_are_not_offered_are_refused_and_do_no_harm(bastion: Bastion, keys: Keys) -> None:
    since = now()
    for name, (method, parts) in METHODS.items():
        async with logging_in(bastion) as login:
            login.request(HERE, method, *parts)
            assert await login.answered(1) == ["failure"], name
            login.sign(HERE, keys.alice)
            assert (await login.answered(2))[-1] == "success", name

    assert_no_traceback(bastion)
    assert_whole(bastion, since=since, denials={"login.refused": 0})


REPLIES = {
    "no answers": (61, (UInt32(0),)),
    "2^31 answers": (61, (UInt32(2**31),)),
    "one answer of many": (61, (UInt32(2**31), String("x"))),
    "a changed password": (60, (String("x"), String(""))),
    "a gssapi token": (61, (String("token"),)),
    "a gssapi mic": (66, (String("mic"),)),
    "the server's own success": (52, ()),
    "the server's own failure": (51, (String("publickey"), YES)),
    "the server's own offer": (60, (String("ssh-ed25519"), String("x"))),
}


@once
async def test_a17_replies_to_questions_that_nobody_asked_end_the_connection(bastion: Bastion) -> None:
    since = now()
    for name, (kind, parts) in REPLIES.items():
        async with logging_in(bastion) as login:
            login.request(HERE, b"keyboard-interactive", String(""), String(""))
            assert await login.answered(1) == ["failure"], name
            login.send(kind, *parts)
            assert await login.answered(2) == ["failure", "lost"], name

    assert_no_traceback(bastion)
    assert_whole(bastion, since=since, denials={"login.refused": len(REPLIES)})
