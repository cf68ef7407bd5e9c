"""The limits of the door: each bites where it should, is told, is recorded, and lets go again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import asyncssh
import pytest
from asyncssh.packet import Boolean, String

from support.invariants import connections
from support.limits import EXEMPT, GRACE_S, crowded, event, gets_in, settled, ssh
from support.rawssh import raw
from support.sshpeer import connected, key_of, logging_in, own_address
from support.trips import started, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.sshpeer import Login
    from support.trips import Bastion, Starter

# --- connections that are logging in ---


async def test_a_hundred_are_logging_in_and_the_next_is_closed_before_anything_is_done_for_it(
    patient_bastion: Bastion,
) -> None:
    bastion, address = patient_bastion, own_address(patient_bastion)
    with crowded(bastion):
        status, _, said = await ssh(bastion, address, "-v", "-o", "LogLevel=DEBUG1", "web.default@b", "true")
        assert status == 255
        assert "bastion: too many logins at once: try again in a moment" in said
        async with raw(bastion) as peer:
            assert await peer.everything() == b"bastion: too many logins at once: try again in a moment\r\n"
    await settled(bastion)

    assert (await event(bastion, type="connection.refused", source=address))["rule"] == "max-startups"
    assert await gets_in(bastion)


async def test_one_source_alone_keeps_nobody_else_out(hurried_bastion: Bastion) -> None:
    bastion, address = hurried_bastion, own_address(hurried_bastion)
    async with asyncio.TaskGroup() as group:
        lines = [group.create_task(first_line(bastion, address)) for _ in range(18)]
        await asyncio.to_thread(wait_until, lambda: len(connections(bastion)) == 9)
        assert [await gets_in(bastion) for _ in range(5)] == [True] * 5
        assert not await gets_in(bastion, address)
    found = [line.result() for line in lines]

    assert found.count(b"SSH-2.0-bastion") == 9
    assert found.count(b"bastion: too many logins at once from this address") == 9
    event_ = await event(bastion, type="connection.refused", source=address)
    assert (event_["rule"], event_["outcome"]) == ("max-startups-per-source", "denied")


async def first_line(bastion: Bastion, address: str) -> bytes:
    """What a client that says nothing is told, once it was closed."""
    async with raw(bastion, address=address) as peer:
        line = await peer.line()
        await peer.everything()
        return line


async def test_people_who_are_in_do_not_count(hurried_bastion: Bastion) -> None:
    bastion, address = hurried_bastion, own_address(hurried_bastion)
    people = [
        await asyncssh.connect(
            "127.0.0.1",
            bastion.port,
            username="web.default",
            client_keys=[str(key_of(bastion, "alice"))],
            local_addr=(address, 0),
            known_hosts=None,
            config=None,
        )
        for _ in range(15)
    ]

    assert await gets_in(bastion, address)
    for one in people:
        one.abort()
        await one.wait_closed()


# --- penalties ---


async def test_a_source_that_keeps_failing_is_turned_away_for_a_while_and_nobody_else(hurried_bastion: Bastion) -> None:
    bastion, address = hurried_bastion, own_address(hurried_bastion)
    denied = 0
    while "Permission denied" in (await ssh(bastion, address, "web.default@b", "true", person="stranger"))[2]:
        denied += 1
    status, _, said = await ssh(bastion, address, "-v", "-o", "LogLevel=DEBUG1", "web.default@b", "true")

    assert denied >= 3  # 5 s each, of which some pass meanwhile, bite from 15 s on
    assert status == 255
    assert re.search(r"bastion: too many failed logins or none: try again in [12][0-9] s", said)
    assert (await event(bastion, type="connection.refused", source=address))["rule"] == "penalty"
    assert await gets_in(bastion)


async def test_an_exempt_source_is_neither_limited_nor_penalised(hurried_bastion: Bastion) -> None:
    address = EXEMPT.replace("0.0/16", "3.4")
    for _ in range(5):
        assert (await ssh(hurried_bastion, address, "web.default@b", "true", person="stranger"))[0] == 255

    assert await gets_in(hurried_bastion, address)


async def test_a_login_that_succeeds_after_failures_costs_nothing(hurried_bastion: Bastion) -> None:
    bastion, address = hurried_bastion, own_address(hurried_bastion)
    for _ in range(5):
        assert await gets_in(bastion, address, "-i", str(key_of(bastion, "stranger")))


# --- attempts ---


async def exhaust(login: Login, attempt: str) -> None:
    """Fail by one method until the server has enough."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    while "lost" not in login.answers:
        before = len(login.answers)
        match attempt:
            case "publickey":
                login.offer("web.default", key.public_data)
            case "password":
                login.request("web.default", b"password", Boolean(value=False), String("secret"))
            case "hostbased":
                login.request("web.default", b"hostbased", *[String("x")] * 5)
            case "keyboard-interactive":
                login.request("web.default", b"keyboard-interactive", String(""), String(""))
            case _:
                login.request("web.default", attempt.encode())
        await login.answered(before + 1)


@pytest.mark.parametrize(
    ("attempt", "answers"),
    [
        ("publickey", 5),
        ("password", 5),
        ("hostbased", 5),
        ("keyboard-interactive", 5),
        ("gssapi-with-mic", 5),
        ("none", 6),
    ],
)
async def test_the_sixth_failure_of_whatever_method_ends_the_connection_but_a_first_none_is_free(
    hurried_bastion: Bastion, attempt: str, answers: int
) -> None:
    address = own_address(hurried_bastion)
    async with logging_in(hurried_bastion, address=address) as login:
        await exhaust(login, attempt)

    assert login.answers == ["failure"] * answers + ["lost"]
    assert "too many keys were refused" in str(login.why_lost)
    found = await event(hurried_bastion, type="login.refused", source=address)
    assert (found["rule"], found["login"]) == ("max-auth-tries", "web.default")


async def test_wrong_signatures_with_a_good_key_count_and_offers_of_it_do_not(hurried_bastion: Bastion) -> None:
    bastion, address = hurried_bastion, own_address(hurried_bastion)
    key = asyncssh.read_private_key(key_of(bastion, "alice"))
    async with logging_in(bastion, address=address) as login:
        while "lost" not in login.answers:
            before = len(login.answers)
            login.offer("web.default", key.public_data)
            await login.answered(before + 1)
            login.sign("web.default", key, harm=True)
            await login.answered(before + 2)

    assert login.answers == ["offer", "failure"] * 5 + ["offer", "lost"]
    assert (await event(bastion, type="login.refused", source=address))["rule"] == "max-auth-tries"


async def test_requests_that_overtake_each_other_count(hurried_bastion: Bastion) -> None:
    address = own_address(hurried_bastion)
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with logging_in(hurried_bastion, address=address) as login:
        for _ in range(20):
            login.offer("web.default", key.public_data)
        await login.answered(20)

    assert login.answers[-1] == "lost"
    assert (await event(hurried_bastion, type="login.refused", source=address))["rule"] == "max-auth-tries"


async def test_offering_a_good_key_for_ever_ends_too(hurried_bastion: Bastion) -> None:
    key = asyncssh.read_private_key(key_of(hurried_bastion, "alice"))
    async with logging_in(hurried_bastion) as login:
        while "lost" not in login.answers:
            before = len(login.answers)
            login.offer("web.default", key.public_data)
            await login.answered(before + 1)

    assert login.answers.count("offer") == 100


async def test_somebody_with_five_other_keys_gets_in_with_the_sixth(hurried_bastion: Bastion, tmp_path: Path) -> None:
    options: list[str] = []
    for number in range(5):
        path = tmp_path / f"key{number}"
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
        options += ["-i", str(path)]

    assert await gets_in(hurried_bastion, "", *options)


async def test_a_login_that_takes_too_long_is_ended_and_told(hurried_bastion: Bastion) -> None:
    address, began = own_address(hurried_bastion), time.monotonic()
    async with logging_in(hurried_bastion, address=address) as login:
        login.request("web.default", b"none")
        await login.answered(2)

    assert login.answers == ["failure", "lost"]
    assert time.monotonic() - began >= GRACE_S - 0.5
    found = await event(hurried_bastion, type="login.refused", source=address)
    assert (found["rule"], found["login"]) == ("login-timeout", "web.default")


# --- sessions on one connection ---


async def test_an_eleventh_session_is_refused_and_the_ten_go_on_and_a_closed_one_makes_room(
    hurried_bastion: Bastion,
) -> None:
    async with connected(hurried_bastion) as connection:
        ten = [await connection.create_process("cat") for _ in range(10)]
        with pytest.raises(asyncssh.ChannelOpenError, match="no more than 10 sessions on one connection") as refused:
            await connection.create_process("cat")
        assert refused.value.code == asyncssh.OPEN_RESOURCE_SHORTAGE
        for number, process in enumerate(ten):
            process.stdin.write(f"{number}\n")
            assert await process.stdout.readline() == f"{number}\n"
        ten[0].stdin.write_eof()
        await ten[0].wait_closed()
        assert (await connection.run("echo room")).stdout == "room\n"

    found = await event(hurried_bastion, type="channel.refused")
    assert (found["person"], found["rule"], found["outcome"]) == ("alice", "max-channels", "denied")
    assert found["source"]


# --- silence ---


async def test_a_client_that_falls_silent_is_gone_and_the_record_says_so(hurried_bastion: Bastion) -> None:
    address = own_address(hurried_bastion)
    with started(hurried_bastion.ssh_argv("-b", address, "web.default@b", "echo here; sleep 312")) as client:
        assert client.stdout is not None
        assert await asyncio.to_thread(client.stdout.readline) == b"here\n"
        os.kill(client.pid, signal.SIGSTOP)
        session = await asyncio.to_thread(hurried_bastion.last_session)

    assert (session["outcome"], session["source"].partition(" ")[0]) == ("hung_up", session["source"])
    assert "Client not responding to keepalive" in session["end_reason"]
    found = await event(hurried_bastion, type="connection.lost", source=address)
    assert (found["rule"], found["person"], found["outcome"]) == ("keepalive", "alice", "failed")


# --- the end ---


def test_a_bastion_ends_at_once_whoever_is_still_logging_in(start: Starter) -> None:
    with start() as bastion:
        asyncio.run(end_while_three_log_in(bastion))
    assert [line["unfinished"] for line in bastion.log if line["event"] == "stopped"] == [0]


async def end_while_three_log_in(bastion: Bastion) -> None:
    async with raw(bastion) as silent, raw(bastion) as halfway, logging_in(bastion) as login:
        await silent.line()
        await halfway.greet()
        began = time.monotonic()
        os.kill(bastion.pid, signal.SIGTERM)
        await asyncio.gather(silent.everything(), halfway.everything(), login.answered(1))
        assert time.monotonic() - began < 20  # less than the 30 s of a login
