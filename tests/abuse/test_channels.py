"""Abuse of channels by people who may log in: other kinds, too many, requests twice, late and with silly values."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest
from asyncssh.constants import MSG_REQUEST_FAILURE
from asyncssh.packet import Boolean, String, UInt32

from support.invariants import assert_whole, now, sessions_begun
from support.sshpeer import connected, open_channel, pty_request
from support.traces import listeners, sessions_of, source_of, word
from support.trips import PATIENCE_S, started, wait_until

if TYPE_CHECKING:
    from support.sshpeer import Channel
    from support.trips import Bastion

# What is asked here is the same on either database, and a run is short of time.
pytestmark = pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")

BIG = 2**32 - 1
NO = Boolean(value=False)


NOT_ALLOWED = [
    ("alice", ("-T", "db.prod@b"), "shell"),
    ("alice", ("-tt", "db.prod@b"), "shell"),
    ("alice", ("-s", "db.prod@b", "sftp"), "sftp.read"),
    ("alice", ("-s", "db.prod@b", "anything"), "subsystem:anything"),
    ("carl", ("-T", "api.shop@b"), "shell"),
    ("carl", ("-tt", "api.shop@b", "id"), "exec"),
    ("carl", ("web.default@b", "id"), "exec"),
]


def test_a01_what_a_role_does_not_allow_is_refused_by_whatever_request_it_comes(bastion: Bastion) -> None:
    since, sources = now(), {}
    for person, arguments, action in NOT_ALLOWED:
        argv = bastion.ssh_argv(*arguments, person=person)
        with started(argv) as ssh:
            out, errors = ssh.communicate(b"echo ran\n", timeout=60)
        assert (ssh.returncode, out) == (254, b""), arguments
        assert errors.startswith(b"bastion: "), arguments
        sources[source_of(argv)] = (person, action)

    assert_whole(bastion, since=since, denials={"session.refused": len(NOT_ALLOWED)})
    events = [event for event in bastion.audit("events", "--limit", "1000") if event["source"] in sources]
    refused = [event for event in events if event["type"] == "session.refused"]
    assert {event["source"]: (event["person"], event["action"]) for event in refused} == sources
    assert all(event["rule"] for event in refused)


def test_a01_what_a_role_does_allow_still_runs(bastion: Bastion) -> None:
    since = now()
    for options in ((), ("-tt",)):
        done = bastion.ssh(*options, "db.prod@b", "echo ran")
        assert (done.returncode, done.stdout.strip()) == (0, b"ran")

    assert_whole(bastion, since=since, denials={"session.refused": 0})


CHANNELS = {
    "-W": (b"direct-tcpip", String("127.0.0.1"), UInt32(22), String("127.0.0.1"), UInt32(1)),
    "-L to a socket": (b"direct-streamlocal@openssh.com", String("/tmp/x.sock"), String(""), UInt32(0)),
    "-w": (b"tun@openssh.com", UInt32(1), UInt32(0)),
    "-w ethernet": (b"tun@openssh.com", UInt32(2), UInt32(0x7FFFFFFF)),
}
LISTENERS = {
    "-R": (b"tcpip-forward", String("127.0.0.1"), UInt32(0)),
    "-R everywhere": (b"tcpip-forward", String(""), UInt32(0)),
    "-R to a socket": (b"streamlocal-forward@openssh.com", String("/tmp/bastion-a02.sock")),
}


async def test_a02_no_request_for_a_forward_opens_a_way_or_a_listener(bastion: Bastion) -> None:
    since, before = now(), listeners(bastion.pid)
    async with connected(bastion) as connection:
        for name, (kind, *arguments) in CHANNELS.items():
            with pytest.raises(asyncssh.ChannelOpenError, match="not offered"):
                await open_channel(connection, kind=kind, arguments=arguments)
            assert listeners(bastion.pid) == before, name
        for name, (request, *arguments) in LISTENERS.items():
            answer, _ = await connection._make_global_request(request, *arguments)
            assert answer == MSG_REQUEST_FAILURE, name
            assert listeners(bastion.pid) == before, name
        channel = await open_channel(connection)
        assert await channel.ask(b"exec", String("echo still here"))
        assert (await channel.wait())[0] == b"still here\n"

    assert not Path("/tmp/bastion-a02.sock").exists()  # noqa: ASYNC240 - takes no time
    assert_whole(bastion, since=since, denials={"session.refused": len(CHANNELS) + len(LISTENERS)})


FORWARDS = [
    ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", "web.default@b", "sleep 20"),
    ("-o", "ExitOnForwardFailure=yes", "-R", "/tmp/bastion-a02.sock:127.0.0.1:22", "web.default@b", "sleep 20"),
    ("-o", "ExitOnForwardFailure=yes", "-R", "0", "web.default@b", "sleep 20"),
    ("-W", "127.0.0.1:22", "web.default@b"),
]


def test_a02_ssh_is_told_that_nothing_listens_or_connects_for_it(bastion: Bastion) -> None:
    since, before = now(), listeners(bastion.pid)
    for arguments in FORWARDS:
        argv = bastion.ssh_argv("-o", "LogLevel=INFO", *arguments)
        with started(argv) as ssh:
            out, errors = ssh.communicate(b"SSH-2.0-x\r\n", timeout=60)
        assert (ssh.returncode, out) == (255, b""), arguments
        assert b"forward" in errors, arguments
        assert listeners(bastion.pid) == before, arguments

    assert_whole(bastion, since=since, denials={"session.refused": len(FORWARDS)})


def test_a02_what_is_sent_into_a_socks_proxy_goes_nowhere(bastion: Bastion) -> None:
    since, before = now(), listeners(bastion.pid)
    port = free_port()
    with started(bastion.ssh_argv("-N", "-D", f"127.0.0.1:{port}", "web.default@b")):
        with wait_until(lambda: dialled(port)) as client:
            client.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\0\0\x01\0\x16")
            assert not wait_for_end(client).removeprefix(b"\x05\x00").startswith(b"\x05\x00")
        assert listeners(bastion.pid) == before

    assert_whole(bastion, since=since, denials={"session.refused": 1})


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def dialled(port: int) -> socket.socket | None:
    """A connection to a port of this machine; None while nobody listens."""
    try:
        return socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    except ConnectionRefusedError:
        return None


def wait_for_end(client: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    return b"".join(iter(lambda: client.recv(4096), b""))


@pytest.mark.parametrize("options", [("-A", "-X"), ("-A", "-Y", "-tt")], ids=" ".join)
def test_a03_agents_and_displays_are_not_forwarded_and_leave_no_socket(
    bastion: Bastion, options: tuple[str, ...]
) -> None:
    before, files = listeners(bastion.pid), sockets_in_tmp()
    command = "echo [${SSH_AUTH_SOCK-none}] [${DISPLAY-none}] [${XAUTHORITY-none}]"
    with started(bastion.ssh_argv(*options, "web.default@b", f"{command}; read line")) as ssh:
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        assert ssh.stdout.readline().strip() == b"[none] [none] [none]"
        assert listeners(bastion.pid) == before
        assert sockets_in_tmp() <= files
        ssh.communicate(b"\n", timeout=60)
    assert_whole(bastion)  # whether ssh asked depends on whether it has an agent and a display here


def sockets_in_tmp() -> set[Path]:
    """What a forwarding server would leave there: ssh-XXXX folders, agent and X11 sockets."""
    folder = Path("/tmp")
    return {path for pattern in ("ssh-*/agent.*", "agent.*", ".X11-unix/X*") for path in folder.glob(pattern)}


async def test_a03_the_requests_behind_it_are_refused(bastion: Bastion) -> None:
    since = now()
    async with connected(bastion) as connection:
        channel = await open_channel(connection)
        x11 = (NO, String("MIT-MAGIC-COOKIE-1"), String("00" * 16), UInt32(0))
        assert not await channel.ask(b"auth-agent-req@openssh.com")
        assert not await channel.ask(b"x11-req", *x11)
        assert not await channel.ask(b"x11-req", NO, String("x"), String("not hex"), UInt32(BIG))
        assert await channel.ask(b"shell")
        assert not await channel.ask(b"auth-agent-req@openssh.com")
        assert not await channel.ask(b"x11-req", *x11)
        channel.write(b"exit 4\n")
        assert (await channel.wait())[2] == 4
    assert_whole(bastion, since=since, denials={"session.refused": 2})


async def test_a04_sessions_on_one_connection_are_decided_and_recorded_each_alone(bastion: Bastion) -> None:
    since = now()
    async with connected(bastion, login="db.prod") as connection:
        first, second, third = [await open_channel(connection) for _ in range(3)]
        mine, other = word(), word()
        assert await first.ask(b"exec", String(f"cat; echo {mine}; exit 5"))
        assert await second.ask(b"shell")  # which nobody may in prod
        assert await third.ask(b"exec", String(f"echo {other}; exit 6"))
        denied = await second.wait()
        assert (denied[0], denied[2]) == (b"", 254)
        assert await third.wait() == (f"{other}\n".encode(), b"", 6)
        first.write(b"typed\n")
        first.end_input()
        assert await first.wait() == (f"typed\n{mine}\n".encode(), b"", 5)

    assert_whole(bastion, since=since, denials={"session.refused": 1})
    ended = await asyncio.to_thread(sessions_of, bastion, mine, other)
    assert [one["status"] for one in ended] == [5, 6]
    assert ended[0]["connection"] == ended[1]["connection"]


async def test_a04_the_eleventh_session_is_refused_and_the_ten_go_on(bastion: Bastion) -> None:
    since = now()
    async with connected(bastion) as connection:
        channels = [await open_channel(connection) for _ in range(10)]
        for number, channel in enumerate(channels):
            assert await channel.ask(b"exec", String(f"echo ready; cat; exit {number}"))
        with pytest.raises(asyncssh.ChannelOpenError):
            await open_channel(connection)
        for channel in channels:
            await channel.expect(b"ready\n")
            channel.write(b"typed\n")
        channels[0].end_input()
        assert await channels[0].wait() == (b"ready\ntyped\n", b"", 0)
        again = await open_channel(connection)  # its place is free again
        again.close()
        for number, channel in list(enumerate(channels))[1:]:
            channel.end_input()
            assert await channel.wait() == (b"ready\ntyped\n", b"", number)

    assert_whole(bastion, since=since, denials={"channel.refused": 1, "session.refused": 0})


async def shell_with_terminal(connection: asyncssh.SSHClientConnection) -> Channel:
    """A shell on a terminal of 80 by 24 that has shown its prompt."""
    channel = await open_channel(connection)
    assert await channel.ask(b"pty-req", *pty_request())
    assert await channel.ask(b"shell")
    channel.write(b"PS1=; stty -echo; echo read''y\n")
    await channel.expect(b"ready\r\n")
    return channel


async def test_a06_the_first_start_of_a_channel_wins(bastion: Bastion) -> None:
    never = word()
    async with connected(bastion) as connection:
        for first in ((b"shell",), (b"exec", String("sh"))):
            channel = await open_channel(connection)
            assert await channel.ask(*first)
            assert not await channel.ask(b"exec", String(f"echo {never}"))
            assert not await channel.ask(b"shell")
            assert not await channel.ask(b"subsystem", String("sftp"))
            channel.write(b"echo first; exit 3\n")
            assert await channel.wait() == (b"first\n", b"", 3)
    assert_whole(bastion)
    commands = await asyncio.to_thread(bastion.audit, "commands", "--limit", "5")
    assert commands
    assert not [command for command in commands if never in command["text"]]


async def test_a06_terminals_and_variables_that_come_after_the_start_are_refused(bastion: Bastion) -> None:
    async with connected(bastion) as connection:
        channel = await open_channel(connection)
        assert await channel.ask(b"env", String("LC_TIME"), String("C"))
        assert await channel.ask(b"shell")
        assert not await channel.ask(b"pty-req", *pty_request())
        assert not await channel.ask(b"env", String("LC_ALL"), String("C"))
        channel.write(b"echo ${LC_TIME-none} ${LC_ALL-none}; tty; exit 0\n")
        assert (await channel.wait())[0] == b"C none\nnot a tty\n"

        channel = await open_channel(connection)
        assert await channel.ask(b"pty-req", *pty_request(cols=81))
        assert not await channel.ask(b"pty-req", *pty_request(cols=132))
        assert await channel.ask(b"exec", String("stty size"))
        assert (await channel.wait())[0] == b"24 81\r\n"
    assert_whole(bastion)


SIZES = [(BIG, 0), (0, BIG), (0, 0), (BIG, BIG)]


async def test_a06_sizes_that_no_terminal_has_are_clamped_or_ignored(bastion: Bastion) -> None:
    async with connected(bastion) as connection:
        channel = await shell_with_terminal(connection)
        for cols, rows in SIZES:
            expected = b"65535 65535" if cols and rows else b"24 80"
            channel.forget()
            channel.tell(b"window-change", UInt32(cols), UInt32(rows), UInt32(BIG), UInt32(BIG))
            channel.write(b"while [ \"$(stty size)\" != '%s' ]; do sleep 0.05; done; stty size\n" % expected)
            await channel.expect(expected + b"\r\n")
        channel.write(b"exit 0\n")
        assert (await channel.wait())[2] == 0

        for cols, rows in SIZES:
            channel = await open_channel(connection)
            assert await channel.ask(b"pty-req", *pty_request(cols, rows))
            assert await channel.ask(b"exec", String("echo ran"))
            assert (await channel.wait())[0] == b"ran\r\n"
    assert_whole(bastion)


async def test_a06_signals_that_nobody_knows_and_breaks_reach_no_process_of_a_pipe(bastion: Bastion) -> None:
    async with connected(bastion) as connection:
        channel = await open_channel(connection)
        assert await channel.ask(b"exec", String("echo ready; cat; exit 7"))
        await channel.expect(b"ready\n")
        for name in (b"nonsense", b"", b"KILL;id", b"\xff\xfe", b"x" * 100_000):
            channel.tell(b"signal", String(name))
        channel.tell(b"break", UInt32(BIG))
        channel.write(b"after\n")
        channel.end_input()
        said, errors, status = await channel.wait()
        assert (said, status) == (b"ready\nafter\n", 7)
        assert all(b" is not known here" in line for line in errors.splitlines())
    assert_whole(bastion)


async def test_a06_unknown_and_malformed_requests_cost_the_one_who_sends_them_alone(bastion: Bastion) -> None:
    async with connected(bastion) as other, connected(bastion) as connection:
        bystander = await open_channel(other)
        assert await bystander.ask(b"exec", String("echo ready; cat"))
        channel = await open_channel(connection)
        assert not await channel.ask(b"shell@example.com")
        assert not await channel.ask(b"exec@", String("id"))
        assert not await channel.ask(b"x" * 100_000)
        channel.tell(b"exec", b"\xff\xff\xff\xff")  # a string of 4 GiB
        await channel.wait()  # closed: what cannot be parsed ends the connection
        await bystander.expect(b"ready\n")
        bystander.end_input()
        assert (await bystander.wait())[2] == 0
    assert_whole(bastion)


def test_what_the_cluster_was_asked_to_run_is_seen(bastion: Bastion) -> None:
    """Without which the invariants could not fail."""
    bastion.ssh("web.default@b", "true")
    assert bastion.last_session()["id"] in sessions_begun(bastion)
