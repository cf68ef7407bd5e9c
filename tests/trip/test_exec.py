"""Commands without a terminal, as the OpenSSH client sends them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import asyncssh
import pytest

from support.bastions import EVERY_WAY

if TYPE_CHECKING:
    from support.trips import Bastion

pytestmark = pytest.mark.parametrize("bastion", EVERY_WAY, indirect=True, scope="session")


def test_output_and_errors_come_apart_with_the_status_and_nothing_of_ours(bastion: Bastion) -> None:
    done = bastion.ssh("web.default@b", "echo out; echo err >&2; exit 3")

    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)


@pytest.mark.parametrize("status", [0, 1, 2, 126, 127, 128, 253, 254, 255])
def test_the_exit_status_is_the_commands_own(bastion: Bastion, status: int) -> None:
    assert bastion.ssh("web.default@b", f"exit {status}").returncode == status


def test_a_command_that_is_killed_has_the_shells_status_for_it(bastion: Bastion) -> None:
    done = bastion.ssh("web.default@b", "kill -9 $$")

    assert done.returncode == 137


def test_the_end_of_input_reaches_the_command(bastion: Bastion) -> None:
    done = bastion.ssh("web.default@b", "wc -l", stdin=b"a\nb\n")

    assert done.stdout.strip() == b"2"


def test_input_that_ended_before_anything_was_open_is_neither_lost_nor_reordered(bastion: Bastion) -> None:
    data = b"".join(b"%06d\n" % number for number in range(20_000))

    done = bastion.ssh("web.default@b", "cat", stdin=data)

    assert done.stdout == data
    assert done.returncode == 0


@pytest.mark.parametrize(("command", "said", "status"), [("head -c 5; exit 3", b"aaaaa", 3), ("kill -9 $$", b"", 137)])
def test_a_command_that_leaves_most_of_its_input_ends_with_its_own_status(
    bastion: Bastion, command: str, said: bytes, status: int
) -> None:
    done = bastion.ssh("web.default@b", command, stdin=b"a" * 8_000_000)

    assert (done.stdout, done.stderr, done.returncode) == (said, b"", status)


@pytest.mark.parametrize("group", ["0", "-- -$$"])
def test_what_a_command_sends_to_its_process_group_is_for_itself_alone(bastion: Bastion, group: str) -> None:
    done = bastion.ssh("web.default@b", f"trap 'echo told' TERM; kill -s TERM {group}; exit 6")

    assert (done.stdout, done.stderr, done.returncode) == (b"told\n", b"", 6)


def test_a_hundred_megabytes_up_are_byte_exact(bastion: Bastion) -> None:
    data = os.urandom(1 << 20) * 95 + os.urandom(5_000_000)

    done = bastion.ssh("web.default@b", "sha256sum", stdin=data)

    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_hundred_megabytes_down_are_byte_exact_for_a_reader_that_lags(bastion: Bastion) -> None:
    expected = hashlib.sha256(b"".join(b"%015d\n" % number for number in range(6_250_000))).hexdigest()
    command = "awk 'BEGIN { for (i = 0; i < 6250000; i++) printf \"%015d\\n\", i }'"
    argv = bastion.ssh_argv("web.default@b", command)
    seen, size = hashlib.sha256(), 0

    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as ssh:
        assert ssh.stdout is not None
        while data := ssh.stdout.read(1 << 20):
            seen.update(data)
            size += len(data)
        status = ssh.wait()

    assert (size, status) == (100_000_000, 0)
    assert seen.hexdigest() == expected


@pytest.mark.parametrize(
    "command",
    [
        b"printf %s 'gr\xfc\xdfe'",
        b"printf %s '\x80\xff\xfe' | od -c",
        b"printf %s \"a  'b'\" '$HOME' \\\\",
        "printf é".encode(),
    ],
)
def test_the_command_string_reaches_sh_unchanged_also_when_it_is_not_utf8(bastion: Bastion, command: bytes) -> None:
    expected = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout

    assert bastion.ssh("web.default@b", command).stdout == expected


async def test_a_command_of_200_kilobytes_arrives_whole(bastion: Bastion) -> None:
    text = "0123456789abcdef" * 12_500
    async with asyncssh.connect(
        "127.0.0.1",
        bastion.port,
        username=bastion.login("web.default"),
        client_keys=[str(bastion.folder / "alice")],
        known_hosts=None,
        config=None,
    ) as connection:
        done = await connection.run(f"printf %s '{text}' | sha256sum; echo $#")

    assert done.stdout == hashlib.sha256(text.encode()).hexdigest() + "  -\n0\n"


def test_the_language_reaches_the_process_and_the_rest_is_refused_and_recorded_by_name(bastion: Bastion) -> None:
    env = (
        "LANG=de_DE.UTF-8",
        "LC_TIME=C",
        "COLORTERM=truecolor",
        "LD_PRELOAD=/evil.so",
        "BASH_ENV=/evil",
        "PATH=/evil",
    )

    done = bastion.ssh("-o", "SetEnv=" + " ".join(env), "web.default@b", "env")

    lines = set(done.stdout.decode().splitlines())
    assert {"LANG=de_DE.UTF-8", "LC_TIME=C", "COLORTERM=truecolor"} <= lines
    assert not [line for line in lines if "evil" in line]
    assert done.stderr == b""
    assert sorted(bastion.last_session()["refused_env"]) == ["BASH_ENV", "LD_PRELOAD", "PATH"]


@pytest.mark.parametrize(
    ("login", "hostname"),
    [
        ("web.default", "web"),
        ("multi.default", "multi"),
        ("multi.default+sidecar", "multi"),
        ("api.shop", "api-"),
        ("deploy_api.shop", "api-"),
        ("deploy/api.shop", "api-"),
    ],
)
def test_a_login_leads_to_its_pod(bastion: Bastion, login: str, hostname: str) -> None:
    done = bastion.ssh("-l", login, "b", "hostname")

    assert done.stdout.decode().startswith(hostname)
    assert done.returncode == 0


def test_the_annotation_names_the_default_container(bastion: Bastion) -> None:
    assert bastion.ssh("multi.default@b", "true").returncode == 0
    assert bastion.last_session()["container"] == "app"
    assert bastion.ssh("multi.default+sidecar@b", "true").returncode == 0
    assert bastion.last_session()["container"] == "sidecar"


def test_a_container_without_a_shell_runs_its_own_program_by_argv(bastion: Bastion) -> None:
    done = bastion.ssh("distroless.default@b", "app one 'two  three' $HOME")

    assert done.stdout == b"one\ntwo  three\n$HOME\n"
    assert (done.stderr, done.returncode) == (b"", 0)


def test_a_container_without_a_shell_gets_input_whole(bastion: Bastion) -> None:
    assert bastion.ssh("distroless.default@b", "app --cat", stdin=b"some input\n").stdout == b"some input\n"


def test_a_program_that_a_container_without_a_shell_does_not_have_says_so(bastion: Bastion) -> None:
    done = bastion.ssh("distroless.default@b", "ls /")

    assert done.returncode == 126
    assert done.stdout == b""
    assert done.stderr.startswith(b"bastion: ")
    assert b'"ls"' in done.stderr


def test_sessions_on_one_connection_stand_alone(bastion: Bastion) -> None:
    master = ["-o", f"ControlPath={bastion.sockets}/mux-%C"]
    bastion.ssh(*master, "-o", "ControlMaster=yes", "-o", "ControlPersist=30", "web.default@b", "true")
    argv = [bastion.ssh_argv(*master, "web.default@b", f"cat; echo end {n} >&2; exit {n}") for n in range(5)]

    running = [
        subprocess.Popen(one, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for one in argv
    ]
    ended = [process.communicate(b"input %d" % number, timeout=30) for number, process in enumerate(running)]

    assert ended == [(b"input %d" % number, b"end %d\n" % number) for number in range(5)]
    assert [process.returncode for process in running] == list(range(5))
    sessions = bastion.audit("sessions", "--limit", "6")
    assert len({session["connection"] for session in sessions}) == 1
    bastion.ssh(*master, "-O", "exit", "web.default@b")


def test_a_large_output_of_small_writes_on_both_streams_is_complete(bastion: Bastion) -> None:
    done = bastion.ssh("web.default@b", "i=0; while [ $i -lt 3000 ]; do echo $i; echo e$i >&2; i=$((i+1)); done")

    assert done.stdout.split() == [b"%d" % number for number in range(3000)]
    assert done.stderr.split() == [b"e%d" % number for number in range(3000)]
