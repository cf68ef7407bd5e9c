"""An API server that speaks v4 only, which cannot say that input ended."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion, Starter


@pytest.fixture(scope="module")
def old(start: Starter) -> Iterator[Bastion]:
    """A bastion in front of a cluster that refuses v5."""
    with start("--subprotocols", "v4") as bastion:
        yield bastion


def test_the_end_of_input_reaches_the_command_all_the_same(old: Bastion) -> None:
    done = old.ssh("web.default@b", "wc -l; exit 3", stdin=b"a\nb\n")

    assert (done.stdout.strip(), done.stderr, done.returncode) == (b"2", b"", 3)


def test_binary_input_arrives_whole(old: Bastion) -> None:
    data = os.urandom(10_000_000)

    done = old.ssh("web.default@b", "sha256sum", stdin=data)

    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_command_that_reads_a_part_of_much_input_ends_with_its_own_status(old: Bastion) -> None:
    done = old.ssh("web.default@b", "head -c 100000 | wc -c; exit 3", stdin=bytes(3_000_000))

    assert (done.stdout.strip(), done.stderr, done.returncode) == (b"100000", b"", 3)


def test_what_passes_input_on_ends_with_the_session(old: Bastion) -> None:
    argv = old.ssh_argv("web.default@b", "sleep 1000.25")
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as ssh:
        assert ssh.stdin is not None
        ssh.stdin.write(bytes(200_000))
        ssh.stdin.flush()
        wait_until(lambda: old.running("iflag=fullblock"))
        ssh.kill()

    wait_until(lambda: not old.running("1000.25"))
    wait_until(lambda: not old.running("iflag=fullblock"))


def test_a_command_that_reads_nothing_ends(old: Bastion) -> None:
    done = old.ssh("api.shop@b", "echo done; exit 3", stdin=b"unread\n" * 1_000_000)

    assert (done.stdout, done.returncode) == (b"done\n", 3)


def test_a_terminal_works_as_ever(old: Bastion) -> None:
    argv = [os.fsdecode(one) for one in old.ssh_argv("web.default@b")]
    with Terminal(argv, WindowSize(cols=90, rows=30)) as terminal:
        terminal.expect(r"[$#] ")
        terminal.type("stty size; exit 4\r")
        terminal.expect("30 90\r\n")
        assert terminal.wait() == 4


def test_a_program_without_a_shell_is_told_that_its_input_cannot_end(old: Bastion) -> None:
    done = old.ssh("distroless.default@b", "app one", stdin=b"x")

    assert done.stdout == b"one\n"
    assert done.returncode == 0
