"""Clients that stop answering without a word: their sessions end, and the record says so."""

from __future__ import annotations

import signal
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from support.clients_matrix import PROGRAMS
from support.trips import wait_until

if TYPE_CHECKING:
    from clients.conftest import Doors
    from support.clients_programs import Program
    from support.trips import Bastion


def session_of(house: Bastion, word: str) -> dict[str, Any]:
    """The session whose command holds a word."""
    commands = house.audit("commands", "--limit", "20")
    session = next(command["session"] for command in commands if word in command["text"])
    return next(one for one in house.audit("sessions", "--limit", "20") if one["id"] == session)


@pytest.fixture(scope="module")
def stopped(house: Bastion, doors: Doors) -> dict[str, str]:
    """A word of the command that each client ran when it was stopped; all at once, as their ends take seconds."""
    words = {client.name: f"word-{uuid.uuid4().hex}" for client in PROGRAMS}
    with ExitStack() as stack:
        for client in PROGRAMS:
            word = words[client.name]
            process = stack.enter_context(client.started(doors(), f"echo started; exec sh -c 'sleep 1000; : {word}'"))
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            wait_until(lambda word=word: house.running(word))  # type: ignore[misc]  # mypy cannot infer such a lambda
            process.send_signal(signal.SIGSTOP)
        wait_until(lambda: not any(house.running(word) for word in words.values()))
        wait_until(lambda: all(session_of(house, word)["ended_at"] for word in words.values()))
    return words


@pytest.mark.parametrize("client", PROGRAMS, ids=str)
def test_a_client_that_answers_no_more_is_cut_and_recorded_as_gone(
    client: Program, stopped: dict[str, str], house: Bastion
) -> None:
    session = session_of(house, stopped[client.name])

    assert session["outcome"] == "hung_up"
    assert session["end_reason"]
    assert session["complete"] is True
