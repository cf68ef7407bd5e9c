"""A database that fails in all its ways: before a session, in the middle of one, and at its end.

For each way, people are there in every stage while it lasts; the tests look at what became of each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bastion.lifecycle import LOSS
from bastion.model import Outcome
from support import outages
from support.faults import MOST_LOST, Ended, new_word
from support.trips import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from support.faults import Faulty

UNAVAILABLE = b"The record cannot be kept now, so nothing may go on. Try again later."
LOST = b"bastion: the record of this session could not be kept, so the session was ended; try again later\n"

TICKS = "while sleep 0.02; do echo tick; done"
BULK = "seq 1 1000000000"

ON = {
    "postgresql": {
        "refuses": outages.refusing,
        "stalls": outages.stalling,
        "vanished": outages.vanished,
        "locked": outages.tables_locked,  # after that one: whoever vanished in a transaction must not hold its locks
        "read-only": outages.read_only,
        "full": outages.out_of_space,
    },
    "sqlite": {
        "locked": outages.file_locked,
        "moved": outages.file_moved,
        "broken": outages.writes_failing,
        "full": outages.disk_full,
    },
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A session that was running: how it ended for the person, what they had received, and what the record says."""

    status: int
    errors: bytes
    received: bytes
    record: Ended


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of everybody in one outage."""

    faulty: Faulty
    beginner: subprocess.CompletedProcess[bytes]
    """who asks for a session over a connection that is there"""
    newcomer: subprocess.CompletedProcess[bytes]
    """who logs in"""
    ticks: Cut
    bulk: Cut
    ending: Cut
    """whose program ends meanwhile"""
    words: tuple[str, str, str]
    """of the three sessions"""
    began: str
    """the file that the beginner's command would have made"""


@pytest.fixture(scope="module", params=[(on, way) for on, ways in ON.items() for way in ways], ids="-".join)
def seen(request: pytest.FixtureRequest, bastions: Callable[[str], Faulty]) -> Seen:
    """One outage, and everybody in it."""
    engine, way = request.param
    faulty, outage = bastions(engine), ON[engine][way]
    began = new_word()
    with (
        faulty.master(),
        faulty.printing(TICKS) as ticks,
        faulty.printing("echo ready; read line; echo last") as ending,
        faulty.printing(BULK) as bulk,
    ):
        with outage(faulty):
            ending.type(b"go\n")
            with ThreadPoolExecutor() as pool:
                beginner = pool.submit(faulty.ssh, "web.default@b", f"touch /tmp/{began}")
                newcomer = pool.submit(faulty.ssh, "-o", "ControlPath=none", "web.default@b", "echo ran")
            ends = [one.ended() for one in (ticks, bulk, ending)]
        cuts = [
            Cut(status=status, errors=errors, received=one.received, record=faulty.auditor.ended(one.word))
            for one, (status, errors) in zip((ticks, bulk, ending), ends, strict=True)
        ]
    return Seen(
        faulty=faulty,
        beginner=beginner.result(),
        newcomer=newcomer.result(),
        ticks=cuts[0],
        bulk=cuts[1],
        ending=cuts[2],
        words=(ticks.word, bulk.word, ending.word),
        began=began,
    )


def test_nothing_begins_and_the_person_is_told_what_to_do(seen: Seen) -> None:
    assert (seen.beginner.returncode, seen.beginner.stderr) == (254, b"bastion: " + UNAVAILABLE + b"\n")
    assert seen.faulty.ssh("web.default@b", f"test -e /tmp/{seen.began}").returncode == 1


def test_nobody_new_comes_in_and_they_are_told_why(seen: Seen) -> None:
    assert seen.newcomer.returncode in {254, 255}  # on SQLite people can still be looked up when nothing can be written
    assert UNAVAILABLE in seen.newcomer.stderr
    assert seen.newcomer.stdout == b""


@pytest.mark.parametrize("which", ["ticks", "bulk", "ending"])
def test_a_running_session_is_ended_and_the_person_is_told(seen: Seen, which: str) -> None:
    cut: Cut = getattr(seen, which)

    assert (cut.status, cut.errors) == (254, LOST)
    assert (cut.record.end.status, cut.record.end.outcome) == (254, Outcome.UNRECORDED)
    assert not cut.record.end.complete
    assert cut.record.end.reason.endswith(LOSS)


@pytest.mark.parametrize("which", ["ticks", "bulk", "ending"])
def test_the_record_holds_what_was_forwarded_but_for_the_bound(seen: Seen, which: str) -> None:
    cut: Cut = getattr(seen, which)
    # What was recorded and not forwarded any more is no loss.
    together = min(len(cut.received), len(cut.record.output))

    assert cut.received[:together] == cut.record.output[:together]
    assert len(cut.received) - len(cut.record.output) <= MOST_LOST


def test_afterwards_all_is_well_and_nothing_is_left(seen: Seen) -> None:
    for word in seen.words:
        wait_until(lambda word=word: not seen.faulty.bastion.running(word))  # type: ignore[misc] # mypy infers no lambda with a default
    seen.faulty.is_whole()
