"""An API server that speaks v4 only, which cannot say that input ended."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal

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
    data = os.urandom(300_000)

    done = old.ssh("web.default@b", "sha256sum", stdin=data)

    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_command_that_reads_nothing_ends(old: Bastion) -> None:
    assert old.ssh("api.shop@b", "echo done", stdin=b"unread\n" * 1000).stdout == b"done\n"


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
