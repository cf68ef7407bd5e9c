"""Connections to the cluster that die without a word: found out by our own pings, told, and cleaned up after.

That takes half a minute, so all of it happens at once: each way to lose one connection on one bastion, an API server
that is gone altogether on another. While output arrives a connection is alive to us, whatever became of our own bytes.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bastion.model import Outcome
from support.faultproxy import Way
from support.faults import SLOWER_BY_S, TOLD_WITHIN_S
from support.trips import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from support.faults import Ended, Faulty, Printing

TICKS = "while sleep 0.02; do echo tick; done"
IDLE = "echo started; sleep 1000"
SINK = "echo started; cat >/dev/null"

LOST = {
    "idle, both ways": (IDLE, (Way.UP, Way.DOWN)),
    "printing, both ways": (TICKS, (Way.UP, Way.DOWN)),
    "idle, only to the pod": (IDLE, (Way.UP,)),
    "printing, only from the pod": (TICKS, (Way.DOWN,)),
    "uploading, both ways": (SINK, (Way.UP, Way.DOWN)),
}

SILENCE = (
    b"no answer from the API server for 20 s, though pod web is well; the API server may have been restarted:"
    b" connect again"
)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How one session ended for the person, and what the record says of it."""

    word: str
    status: int
    errors: bytes
    received: bytes
    after_s: float
    record: Ended


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of everybody."""

    lost: dict[str, Cut]
    beginner: subprocess.CompletedProcess[bytes]
    """who asks for a session while the API server is gone altogether"""


@pytest.fixture(scope="module")
def seen(bastions: Callable[[str], Faulty]) -> Seen:
    """All of it, at once."""
    one, other = bastions("postgresql"), bastions("sqlite")
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        printing, cut_at = {}, {}
        for name, (command, ways) in LOST.items():
            printing[name] = stack.enter_context(one.printing(command))
            if command == SINK:
                stack.enter_context(_uploading(printing[name]))
            cut_at[name] = time.monotonic()
            one.api.swallow_newest(*ways)
        other.api.swallow(*Way)
        beginner = pool.submit(other.ssh, "web.default@b", "echo ran")
        lost = {name: _cut(one, session, cut_at[name]) for name, session in printing.items()}
        return Seen(lost=lost, beginner=beginner.result())


def _cut(faulty: Faulty, printing: Printing, at: float) -> Cut:
    status, errors = printing.ended()
    record = faulty.auditor.ended(printing.word)
    return Cut(
        word=printing.word,
        status=status,
        errors=errors,
        received=printing.received,
        after_s=printing.ended_at - at,
        record=record,
    )


@contextmanager
def _uploading(printing: Printing) -> Iterator[None]:
    """Input without end, for as long as the client takes it."""

    def upload() -> None:
        with suppress(OSError, ValueError):
            while True:
                printing.type(bytes(65536))

    thread = threading.Thread(target=upload)
    thread.start()
    yield
    printing.ssh.kill()
    thread.join()


@pytest.mark.parametrize("which", LOST)
def test_the_session_ends_with_255_and_the_cause(seen: Seen, which: str) -> None:
    cut = seen.lost[which]

    assert (cut.status, cut.errors) == (255, b"bastion: " + SILENCE + b"\n")
    assert (cut.record.end.status, cut.record.end.outcome, cut.record.end.complete) == (255, Outcome.BROKEN, True)
    assert cut.record.end.reason.encode() == SILENCE
    assert cut.record.output == cut.received
    assert cut.after_s < TOLD_WITHIN_S + SLOWER_BY_S


@pytest.mark.parametrize("which", LOST)
def test_what_it_left_in_the_pod_is_ended(seen: Seen, bastions: Callable[[str], Faulty], which: str) -> None:
    word = seen.lost[which].word
    wait_until(lambda: not bastions("postgresql").bastion.running(word))


def test_who_comes_while_the_api_server_is_gone_is_told(seen: Seen, bastions: Callable[[str], Faulty]) -> None:
    expected = b"bastion: the cluster's API server cannot be reached; try again in a moment\n"

    assert (seen.beginner.returncode, seen.beginner.stdout, seen.beginner.stderr) == (255, b"", expected)
    bastions("sqlite").resume()
    bastions("sqlite").is_whole()
