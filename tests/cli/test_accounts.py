"""People and keys on the command line, in a real database: what changes, and the event that tells of it."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support.commands import Bastion

if TYPE_CHECKING:
    from pathlib import Path

ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


@pytest.fixture
def bastion(tmp_path: Path) -> Bastion:
    command = Bastion(folder=tmp_path)
    command.ok("db", "upgrade")
    return command


@pytest.fixture
def public(tmp_path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f", tmp_path / "id"], check=True)
    return tmp_path / "id.pub"


def fingerprint(public: Path) -> str:
    printed = subprocess.run(["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True)
    return printed.stdout.split()[1]


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_person_comes_is_locked_let_in_again_and_goes(bastion: Bastion) -> None:
    bastion.ok("people", "add", "alice", "--group", "engineers", "--group", "admins")
    bastion.ok("people", "add", "carl")
    assert rows(bastion.ok("people", "list", "--json")) == [
        {"person": "alice", "groups": ["admins", "engineers"], "locked": False},
        {"person": "carl", "groups": [], "locked": False},
    ]

    bastion.ok("people", "lock", "alice")
    bastion.ok("people", "remove", "carl")
    assert rows(bastion.ok("people", "list", "--json")) == [
        {"person": "alice", "groups": ["admins", "engineers"], "locked": True}
    ]

    bastion.ok("people", "unlock", "alice")
    assert bastion.ok("people", "list") == "PERSON  GROUPS            STATE\nalice   admins engineers\n"


def test_a_key_comes_from_standard_input_or_a_file_and_goes_by_its_fingerprint(bastion: Bastion, public: Path) -> None:
    name = fingerprint(public)
    bastion.ok("people", "add", "alice")
    bastion.ok("keys", "add", "alice", stdin=public.read_text())
    key = {"person": "alice", "credential": name, "comment": "laptop", "locked": False}
    assert rows(bastion.ok("keys", "list", "--json")) == [key]
    assert rows(bastion.ok("keys", "list", "--json", "--person", "carl")) == []

    bastion.ok("keys", "remove", name)
    assert bastion.ok("keys", "list") == ""
    bastion.ok("keys", "add", "alice", "--file", str(public))
    bastion.ok("people", "lock", "alice")
    assert rows(bastion.ok("keys", "list", "--json", "--person", "alice")) == [key | {"locked": True}]


def test_each_change_is_told_by_an_event_that_names_who_made_it(bastion: Bastion, public: Path) -> None:
    bastion.ok("people", "add", "alice", "--group", "engineers")
    bastion.ok("keys", "add", "alice", "--file", str(public))
    bastion.ok("people", "lock", "alice")
    bastion.ok("people", "unlock", "alice")
    bastion.ok("keys", "remove", fingerprint(public))
    bastion.ok("people", "remove", "alice")

    told = [event for event in rows(bastion.ok("audit", "events", "--json")) if event["person"] == "alice"]
    assert sorted(event["type"] for event in told) == [
        "key.added",
        "key.removed",
        "person.added",
        "person.locked",
        "person.removed",
        "person.unlocked",
    ]
    assert {event["actor"] for event in told} == {ME}
    assert {event["credential"] for event in told if event["type"].startswith("key.")} == {fingerprint(public)}


def test_the_actor_is_who_runs_the_process_and_not_what_the_environment_says(bastion: Bastion) -> None:
    bastion.run("people", "add", "alice", LOGNAME="mallory", USER="mallory")

    told = [event for event in rows(bastion.ok("audit", "events", "--json")) if event["person"] == "alice"]
    assert [event["actor"] for event in told] == [ME]


def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(bastion: Bastion, public: Path) -> None:
    bastion.ok("people", "add", "alice")
    bastion.ok("keys", "add", "alice", "--file", str(public))
    private = public.with_suffix("").read_text()
    for arguments, stdin, status, says in (
        (("people", "add", "alice"), "", 1, "alice"),
        (("people", "lock", "bob"), "", 1, "bob"),
        (("people", "remove", "bob"), "", 1, "bob"),
        (("keys", "add", "bob"), public.read_text(), 1, "bob"),
        (("keys", "add", "alice"), public.read_text(), 1, "alice already"),
        (("keys", "remove", "SHA256:none"), "", 1, "SHA256:none"),
        (("keys", "add", "alice"), private, 2, "this is a PRIVATE key"),
        (("keys", "add", "alice"), "", 2, "there is no key"),
        (("people", "add", "reaper"), "", 2, "bastion: the subject reaper is reserved"),
        (("people", "add", "z" * 129), "", 2, "1 to 128 printable ASCII characters"),
        (("people", "add", "zoë"), "", 2, "1 to 128 printable ASCII characters"),
    ):
        done = bastion.run(*arguments, stdin=stdin)
        assert done.returncode == status, (arguments, done.stderr)
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert "PRIVATE KEY-----" not in done.stderr
    assert rows(bastion.ok("people", "list", "--json")) == [{"person": "alice", "groups": [], "locked": False}]
    assert len(rows(bastion.ok("keys", "list", "--json"))) == 1
