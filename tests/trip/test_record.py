"""What the record says of what happened, read as an auditor reads it."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

from bastion.model import WindowSize
from support.terminal import Terminal
from support.trips import PEOPLE

if TYPE_CHECKING:
    from pathlib import Path

    from support.trips import Bastion


def frames(bastion: Bastion, session: str, kind: str) -> bytes:
    """The bytes of one kind of a session's transcript."""
    done = bastion.command("audit", "export", session, "--format", "json")
    found = [frame for frame in map(json.loads, done.stdout.splitlines()) if frame.get("kind") == kind]
    return b"".join(
        base64.b64decode(frame["text_base64"]) if "text_base64" in frame else frame["text"].encode() for frame in found
    )


def test_every_byte_of_output_is_in_the_transcript_and_the_chain_holds(bastion: Bastion) -> None:
    done = bastion.ssh("web.default@b", "seq 1 20000; printf '\\377\\000' ; echo oops >&2")

    session = bastion.last_session()["id"]

    assert frames(bastion, session, "stdout") == done.stdout
    assert frames(bastion, session, "stderr") == b"oops\n"
    assert b"Chain     verified" in bastion.command("audit", "show", session).stdout


def test_a_command_line_is_listed_with_person_target_times_and_status(bastion: Bastion) -> None:
    bastion.ssh("multi.default+sidecar@b", "echo \x1b]0;title\x07 'two  words'; exit 9")

    command = bastion.audit("commands", "--limit", "1")[0]

    assert command["text"] == "echo \x1b]0;title\x07 'two  words'; exit 9"
    assert (command["person"], command["status"]) == ("alice", 9)
    assert (command["namespace"], command["pod"], command["container"]) == ("default", "multi", "sidecar")
    assert command["started_at"] < command["ended_at"]
    shown = bastion.command("audit", "commands", "--limit", "1").stdout
    assert b"\x1b" not in shown
    assert b"\x07" not in shown


def test_a_terminals_size_is_recorded_columns_first_and_a_password_never(bastion: Bastion, tmp_path: Path) -> None:
    argv = [os.fsdecode(one) for one in bastion.ssh_argv("web.default@b", person="ines")]
    with Terminal(argv, WindowSize(cols=101, rows=33)) as terminal:
        terminal.expect(r"[$#] ")
        terminal.resize(WindowSize(cols=120, rows=40))
        terminal.type("until stty size | grep -x '40 120'; do sleep 0.05; done\r")
        terminal.expect("40 120\r\n")  # a line editor would draw its line anew
        terminal.type("stty -echo; echo asking; read -r secret; stty echo; echo got ${#secret}\r")
        terminal.expect("[\r\n]asking\r\n")
        terminal.type("hunter2-hunter2\r")
        terminal.expect("got 15\r\n.*[$#] ")
        terminal.type("echo visible-input\r")
        terminal.expect("[\r\n]visible-input\r\n")
        terminal.type("exit\r")
        assert terminal.wait() == 0
    session = bastion.last_session()["id"]

    bastion.command("audit", "export", session, "--format", "asciicast", "--output", str(tmp_path / "s.cast"))
    cast = [json.loads(line) for line in (tmp_path / "s.cast").read_text().splitlines()]

    assert (cast[0]["width"], cast[0]["height"]) == (101, 33)
    assert [event[2] for event in cast[1:] if event[1] == "r"][-1:] == ["120x40"]
    typed = frames(bastion, session, "input")
    assert b"echo visible-input" in typed
    assert b"hunter2" not in (tmp_path / "s.cast").read_bytes() + typed


def test_the_demo_people_and_what_was_done_with_them_are_events(bastion: Bastion) -> None:
    added = [event for event in bastion.audit("events", "--limit", "1000") if event["type"] == "person.added"]

    assert {event["person"] for event in added} == set(PEOPLE)
    assert all(event["actor"].startswith("cli:") for event in added)
