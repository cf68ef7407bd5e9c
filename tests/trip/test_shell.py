"""People at terminals, with the OpenSSH client on a real pseudo-terminal."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bastion.model import WindowSize
from support.bastions import EVERY_WAY
from support.terminal import Terminal
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion

SIZE = WindowSize(cols=101, rows=33)

pytestmark = pytest.mark.parametrize("bastion", EVERY_WAY, indirect=True, scope="session")


@contextmanager
def at(bastion: Bastion, *arguments: str, person: str = "alice", term: str = "xterm-256color") -> Iterator[Terminal]:
    """Somebody's terminal with ssh on it."""
    env = {**os.environ, "TERM": term}
    with Terminal([os.fsdecode(one) for one in bastion.ssh_argv(*arguments, person=person)], SIZE, env) as terminal:
        yield terminal


def test_a_shell_has_the_terminals_type_and_its_size_from_the_first_look(bastion: Bastion) -> None:
    with at(bastion, "-tt", "web.default@b", "stty size; echo $TERM") as terminal:
        terminal.expect("33 101\r\nxterm-256color\r\n")
        assert terminal.wait() == 0


def test_a_shell_follows_the_window_and_ignores_a_size_of_zero(bastion: Bastion) -> None:
    with at(bastion, "web.default@b") as terminal:
        terminal.expect(r"[$#] ")
        terminal.type("stty size\r")
        terminal.expect("33 101\r\n")
        for size in (WindowSize(cols=80, rows=24), WindowSize(cols=0, rows=0), WindowSize(cols=120, rows=50)):
            terminal.resize(size)
        terminal.type("until stty size | grep -x '50 120'; do sleep 0.1; done\r")
        terminal.expect("50 120\r\n")  # a line editor may draw its line anew, over the answer's beginning
        terminal.type("exit\r")
        assert terminal.wait() == 0


def test_bash_is_the_shell_where_there_is_one_and_sh_elsewhere(bastion: Bastion) -> None:
    with at(bastion, "web.default@b") as terminal:
        terminal.expect(r"[$#] ")
        terminal.type("echo is=${BASH_VERSION:+bash}.\r")
        terminal.expect("[\r\n]is=bash[.]")
    with at(bastion, "api.shop@b") as terminal:
        terminal.expect(r"[$#] ")
        terminal.type("echo is=${BASH_VERSION:+bash}.\r")
        terminal.expect("[\r\n]is=[.]")


def test_control_c_z_and_d_do_what_they_do(bastion: Bastion) -> None:
    with at(bastion, "web.default@b") as terminal:
        terminal.expect(r"[$#] ")
        terminal.type("sleep 1000; echo status=$?\r")
        wait_until(lambda: bastion.running("sleep 1000"))
        terminal.type("\x03")
        terminal.expect(r"[\r\n][^\r\n]*[$#] ")
        terminal.type("sleep 1001\r")
        wait_until(lambda: bastion.running("sleep 1001"))
        terminal.type("\x1a")
        terminal.expect("Stopped.*[$#] ")
        terminal.type("kill %1; echo cat; cat; echo after\r")
        terminal.expect("[\r\n]cat\r\n")
        terminal.type("typed\r")
        terminal.expect("typed\r\ntyped\r\n")
        terminal.type("\x04")
        terminal.expect("after")
        terminal.expect(r"[$#] ")
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_the_status_of_a_shell_is_that_of_its_exit(bastion: Bastion) -> None:
    with at(bastion, "web.default@b") as terminal:
        terminal.expect(r"[$#] ")
        terminal.type("exit 7\r")
        assert terminal.wait() == 7


def test_a_container_without_a_shell_says_so_with_126(bastion: Bastion) -> None:
    with at(bastion, "distroless.default@b") as terminal:
        terminal.expect(r"bastion: this container has no shell\. .*run a program of its image")
        assert terminal.wait() == 126


def test_a_choice_among_pods_is_told_on_stderr(bastion: Bastion) -> None:
    with at(bastion, "-tt", "api.shop@b", "true") as terminal:
        terminal.expect(r"bastion: api-[a-z0-9]+-[a-z0-9]{5} of deploy/api\r\n")
        assert terminal.wait() == 0

    done = bastion.ssh("api.shop@b", "hostname")
    assert done.stderr == b"bastion: " + done.stdout.strip() + b" of deploy/api\n"
    assert bastion.ssh("web.default@b", "true").stderr == b""


def test_input_that_ends_ends_a_shell_on_a_terminal_too(bastion: Bastion) -> None:
    done = bastion.ssh("-tt", "web.default@b", stdin=b"echo typed-$((1+1))\n")

    assert b"\rtyped-2\r\n" in done.stdout
    assert done.returncode == 0


def test_keys_typed_before_the_shell_is_there_are_not_lost(bastion: Bastion) -> None:
    with at(bastion, "web.default@b") as terminal:
        terminal.type("echo early-$((20+22))\r")
        terminal.expect("[\r\n]early-42\r\n")


def test_a_shell_without_a_terminal_runs_what_it_is_sent(bastion: Bastion) -> None:
    done = bastion.ssh("-T", "web.default@b", stdin=b"echo $((6*7)); exit 5\n")

    assert (done.stdout, done.returncode) == (b"42\n", 5)
