"""When the record cannot be kept nothing goes on, and it is said."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from support.trips import started, wait_until

if TYPE_CHECKING:
    from support.trips import Bastion

LOST = b"bastion: the record of this session could not be kept, so the session was ended; try again later\n"


def test_a_running_session_is_held_and_then_ended_and_nobody_new_comes_in(own_bastion: Bastion) -> None:
    bastion = own_bastion
    argv = bastion.ssh_argv("web.default@b", "while sleep 0.05; do echo tick; done")
    master = ("-o", f"ControlPath={bastion.sockets}/mux")
    with (
        started(bastion.ssh_argv(*master, "-M", "-N", "web.default@b")),
        started(argv) as ssh,
        closing(sqlite3.connect(bastion.folder / "bastion.db", isolation_level=None)) as other,
    ):
        assert ssh.stdout is not None
        assert ssh.stdout.readline() == b"tick\n"
        wait_until((bastion.sockets / "mux").exists)
        other.execute("BEGIN EXCLUSIVE")

        refused = bastion.ssh(*master, "web.default@b", "echo ran")
        newcomer = bastion.ssh("web.default@b", "echo new")
        output, errors = ssh.communicate(timeout=30)

        assert refused.returncode == 254
        assert refused.stdout == b""
        assert b"record cannot be kept" in refused.stderr
        assert (newcomer.returncode, newcomer.stdout) == (254, b"")
        assert ssh.returncode == 254
        assert errors == LOST
        assert len(output) <= 65536
        wait_until(lambda: not bastion.running("tick"))

        other.execute("ROLLBACK")
        assert bastion.ssh(*master, "web.default@b", "echo back").stdout == b"back\n"

    ended = wait_until(
        lambda: [one for one in bastion.audit("sessions", "--limit", "10") if one["outcome"] == "unrecorded"]
    )
    assert [(one["status"], one["complete"]) for one in ended] == [(254, False)]
    assert not [one for one in bastion.audit("commands", "--limit", "10") if one["text"] in {"echo ran", "echo new"}]
    wait_until(lambda: refused_from(bastion) >= 2)  # both are in the record, now that there is one


def refused_from(bastion: Bastion) -> int:
    """How many refusals the events tell of."""
    denied = [one for one in bastion.audit("events", "--limit", "50") if one["outcome"] == "denied"]
    return sum(int(one["detail"].get("count", 1)) for one in denied)
