"""A database that is away for less than the record may take: sessions are held, and go on as if nothing had been."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from bastion.model import Outcome
from support import outages
from support.faults import MOST_LOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.faults import Faulty

COUNT = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo $i; [ -e /tmp/{word} ] && break; sleep 0.01; done; :"

SHORT = [
    ("postgresql", outages.refusing),  # as a server that is started anew
    ("postgresql", outages.stalling),
    ("postgresql", outages.read_only),  # as a failover
    ("sqlite", outages.file_locked),
    ("sqlite", outages.file_moved),
]


@pytest.mark.parametrize(("engine", "outage"), SHORT, ids=[f"{on}-{way.__name__}" for on, way in SHORT])
def test_sessions_are_held_while_it_lasts_and_not_a_byte_is_missing(
    bastions: Callable[[str], Faulty], engine: str, outage: outages.Outage
) -> None:
    faulty = bastions(engine)
    stop = f"stop-{time.monotonic_ns()}"
    with faulty.master(), faulty.printing(COUNT.format(word=stop)) as counting, ThreadPoolExecutor() as pool:
        with outage(faulty):
            before = len(counting.received)
            beginner = pool.submit(faulty.ssh, "web.default@b", f"touch /tmp/{stop}")
            held = counting.quiet()
            assert not beginner.done()
        assert beginner.result().returncode == 0  # who begins meanwhile waits, and then begins
        status, errors = counting.ended()

    ended = faulty.auditor.ended(counting.word)
    assert held - before <= MOST_LOST
    assert (status, errors) == (0, b"")
    lines = counting.received.split()
    assert lines == [b"%d" % number for number in range(1, len(lines) + 1)]
    assert ended.output == counting.received
    assert (ended.end.outcome, ended.end.complete) == (Outcome.EXITED, True)
