"""A terminal's modes on a person's machine are those of the pod's terminal, as far as stty can set them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh
import pytest

from bastion.model import WindowSize
from support.clients_asyncssh import AsyncSsh
from support.clients_matrix import PROGRAMS

if TYPE_CHECKING:
    from support.clients import Door, Shell
    from support.clients_programs import Program

SIZE = WindowSize(cols=200, rows=33)
CHARACTERS = {"intr": "^T", "quit": "^Y", "erase": "^H", "kill": "^X", "susp": "^B", "werase": "^F", "eof": "^G"}
FLAGS = ("-icrnl", "-ixon", "-echoe", "tostop")


def shown(shell: Shell) -> str:
    """What `stty -a` says in the pod, on a terminal where Enter may not be a new line."""
    shell.expect(r"[$#] ")
    shell.type("stty -a; echo end-$((1+1))\n")
    return shell.expect("speed .*end-2")[0].decode()


@pytest.mark.parametrize("client", PROGRAMS, ids=str)
def test_the_local_terminals_modes_are_the_pods(client: Program, door: Door) -> None:
    local = [part for pair in CHARACTERS.items() for part in pair] + list(FLAGS)

    with client.shell(door, SIZE, local) as shell:
        seen = shown(shell)

    assert "rows 33; columns 200;" in seen
    assert not [f"{name} = {key};" for name, key in CHARACTERS.items() if f"{name} = {key};" not in seen]
    assert set(FLAGS) - client.unsent_modes <= set(seen.split())


def test_the_interrupt_key_that_was_chosen_interrupts(door: Door) -> None:
    with PROGRAMS[0].shell(door, SIZE, ["intr", "^T"]) as shell:
        shell.expect(r"[$#] ")
        shell.type("sh -c 'echo sleeping; exec sleep 1000'; echo status=$?\r")
        shell.expect("[\r\n]sleeping\r\n")
        shell.type("\x14")
        shell.expect(r"[\r\n][^\r\n]*[$#] ")
        shell.type("exit 3\r")
        assert shell.wait() == 3


def test_modes_that_are_out_of_every_range_harm_nobody(door: Door) -> None:
    modes = dict.fromkeys(range(1, 160), 2**32 - 1) | {asyncssh.PTY_VINTR: 3, asyncssh.PTY_IUCLC: 0}

    with AsyncSsh().shell(door, SIZE, modes) as shell:
        seen = shown(shell)

    assert "rows 33; columns 200;" in seen
    assert "intr = ^C;" in seen
    assert "erase = <undef>;" in seen


def test_a_client_that_says_nothing_of_modes_gets_the_pods_own(door: Door) -> None:
    with AsyncSsh().shell(door, SIZE) as shell:
        seen = shown(shell)

    assert "intr = ^C;" in seen
    assert {"icrnl", "echo", "icanon", "onlcr"} <= set(seen.split())
