"""Somebody whose connection is older than the word that they are not let in any more: they begin nothing new on it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from bastion.model import WindowSize
from support.limits import ssh
from support.sshpeer import connected, key_of, own_address
from support.terminal import Terminal
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.trips import Bastion, Starter

GONE = b"bastion: the key of this connection lets nobody in any more: it, or who had it, was locked or removed"
ANOTHERS = b"bastion: the key of this connection belongs to somebody else now: connect again"


@pytest.fixture(scope="module")
def house(start: Starter) -> Iterator[Bastion]:
    """One for all of these tests: each leaves the people as they were."""
    with start() as bastion:
        yield bastion


async def changed(bastion: Bastion, *arguments: str, stdin: bytes = b"") -> None:
    """Change people or keys; in a thread, because connections of this process are asked whether they are alive."""
    done = await asyncio.to_thread(bastion.command, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr


def public(bastion: Bastion, person: str) -> bytes:
    return key_of(bastion, person).with_suffix(".pub").read_bytes()


@asynccontextmanager
async def locked(bastion: Bastion) -> AsyncIterator[None]:
    await changed(bastion, "people", "lock", "alice")
    try:
        yield
    finally:
        await changed(bastion, "people", "unlock", "alice")


@asynccontextmanager
async def key_removed(bastion: Bastion) -> AsyncIterator[None]:
    key = asyncssh.read_public_key(key_of(bastion, "alice").with_suffix(".pub"))
    await changed(bastion, "keys", "remove", key.get_fingerprint())
    try:
        yield
    finally:
        await changed(bastion, "keys", "add", "alice", stdin=public(bastion, "alice"))


@asynccontextmanager
async def removed(bastion: Bastion) -> AsyncIterator[None]:
    await changed(bastion, "people", "remove", "alice")
    try:
        yield
    finally:
        await changed(bastion, "people", "add", "alice", "--group", "engineers")
        await changed(bastion, "keys", "add", "alice", stdin=public(bastion, "alice"))


@asynccontextmanager
async def key_given_away(bastion: Bastion) -> AsyncIterator[None]:
    """Her key is another engineer's now."""
    async with removed(bastion):
        await changed(bastion, "people", "add", "zoe", "--group", "engineers")
        await changed(bastion, "keys", "add", "zoe", stdin=public(bastion, "alice"))
        try:
            yield
        finally:
            await changed(bastion, "people", "remove", "zoe")


@asynccontextmanager
async def moved(bastion: Bastion) -> AsyncIterator[None]:
    """She is no engineer any more."""
    async with removed(bastion):
        await changed(bastion, "people", "add", "alice", "--group", "contractors")
        await changed(bastion, "keys", "add", "alice", stdin=public(bastion, "alice"))
        try:
            yield
        finally:
            await changed(bastion, "people", "remove", "alice")


def refusals(bastion: Bastion, connection: str) -> list[dict[str, Any]]:
    """What was refused on a connection, newest first."""
    events = bastion.audit("events", "--limit", "200")
    return [one for one in events if one["type"] == "session.refused" and one["connection"] == connection]


CHANNELS = [
    ("web.default", "echo ran", None),
    ("web.default", "echo ran", "xterm"),
    ("web.default", None, None),
    ("web.default", None, "xterm"),
    ("console", "pods", None),
    ("console", "describe web.default", None),
    ("console", None, None),
    ("console", None, "xterm"),
]


@pytest.mark.parametrize(
    ("change", "said", "rule"),
    [
        (locked, GONE, "unknown-credential"),
        (key_removed, GONE, "unknown-credential"),
        (removed, GONE, "unknown-credential"),
        (key_given_away, ANOTHERS, "other-person"),
    ],
)
async def test_nothing_new_begins_on_an_old_connection_and_what_runs_goes_on(
    house: Bastion, change: Any, said: bytes, rule: str
) -> None:
    async with connected(house) as connection, connected(house, login="console") as console:
        running = await connection.create_process("while read line; do echo $line; done", encoding="utf-8")
        running.stdin.write("before\n")
        assert await asyncio.wait_for(running.stdout.readline(), 30) == "before\n"
        async with change(house):
            for login, command, term in CHANNELS:
                by = console if login == "console" else connection
                done = await by.run(command, term_type=term, encoding=None, stdin=asyncio.subprocess.DEVNULL)
                assert (done.exit_status, done.stdout) == (254, b""), (login, command, term)
                assert done.stderr == said + (b"\r\n" if term else b"\n"), (login, command, term)
            running.stdin.write("after\n")
            assert await asyncio.wait_for(running.stdout.readline(), 30) == "after\n"
        assert (await connection.run("echo again", encoding=None)).exit_status == 0
        running.stdin.write_eof()
        assert (await running.wait(timeout=30)).exit_status == 0

    session = await asyncio.to_thread(house.last_session)
    found = await asyncio.to_thread(wait_until, lambda: refusals(house, session["connection"]))
    assert len(found) == sum(login != "console" for login, _, _ in CHANNELS)
    assert {(one["rule"], one["outcome"], one["person"]) for one in found} == {(rule, "denied", "alice")}
    assert {one["action"] for one in found} == {"shell", "exec"}


async def test_a_session_begins_with_the_groups_of_now_and_not_of_the_login(house: Bastion) -> None:
    async with connected(house) as connection:
        assert (await connection.run("echo in", encoding=None)).stdout == b"in\n"
        async with moved(house):
            done = await connection.run("echo in", encoding=None)
            assert (done.exit_status, done.stdout) == (254, b"")
            assert b"denied" in (done.stderr or b"")
        assert (await connection.run("echo in", encoding=None)).stdout == b"in\n"


async def test_a_menu_that_was_open_leads_nowhere(house: Bastion) -> None:
    argv = [str(argument) for argument in house.ssh_argv("-tt", "b")]
    with Terminal(argv, WindowSize(cols=100, rows=30), {**house.env, "TERM": "xterm"}) as at:
        await asyncio.to_thread(at.expect, "type to narrow")
        async with locked(house):
            at.type("web.default\r")
            await asyncio.to_thread(at.expect, GONE.decode())
            assert await asyncio.to_thread(at.wait) == 254


async def test_who_is_locked_while_they_wait_for_a_pod_does_not_get_in(house: Bastion) -> None:
    gated = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "gated", "namespace": "default"},
        "spec": {
            "schedulingGates": [{"name": "example.com/quota"}],
            "containers": [{"name": "main", "image": "local/debian:1"}],
        },
    }
    await asyncio.to_thread(house.kubectl, "apply", "--validate=false", "-f", "-", given=gated)
    argv = [str(argument) for argument in house.ssh_argv("-tt", "gated.default@b")]
    with Terminal(argv, WindowSize(cols=100, rows=30), {**house.env, "TERM": "xterm"}) as at:
        await asyncio.to_thread(at.expect, "waiting for pod gated")
        async with locked(house):
            open_it = '{"spec":{"schedulingGates":[]}}'
            await asyncio.to_thread(house.kubectl, "patch", "pod", "gated", "--type=merge", "-p", open_it)
            await asyncio.to_thread(at.expect, GONE.decode())
            assert await asyncio.to_thread(at.wait) == 254
    await asyncio.to_thread(house.kubectl, "delete", "pod", "gated", "--wait=false")

    events = await asyncio.to_thread(house.audit, "events", "--limit", "20")
    refused = next(one for one in events if one["type"] == "session.refused")
    assert (refused["rule"], refused["login"]) == ("unknown-credential", "gated.default")
    assert not [one for one in await asyncio.to_thread(house.audit, "sessions") if one["pod"] == "gated"]


async def test_openssh_shows_why_over_a_connection_that_is_shared(house: Bastion) -> None:
    mux = ("-o", f"ControlPath={house.sockets}/mux-locked")
    begun = await ssh(
        house, own_address(house), *mux, "-o", "ControlMaster=yes", "-o", "ControlPersist=60", "web.default@b", "true"
    )
    assert begun[0] == 0
    async with locked(house):
        assert await ssh(house, own_address(house), *mux, "web.default@b", "echo ran") == (
            254,
            b"",
            f"{GONE.decode()}\n",
        )
        assert (await ssh(house, own_address(house), "-o", "ControlPath=none", "web.default@b", "true"))[0] == 255
    assert (await ssh(house, own_address(house), *mux, "web.default@b", "true"))[0] == 0
    await ssh(house, own_address(house), *mux, "-O", "exit", "web.default@b")
