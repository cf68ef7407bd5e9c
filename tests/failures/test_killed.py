"""The whole program, killed in the middle of everything: what its next life makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion.model import Outcome, WindowSize
from bastion.store.orphans import REASON
from support.faults import MOST_LOST, new_word, serving
from support.terminal import Terminal
from support.trips import wait_until

if TYPE_CHECKING:
    from support.faults import Faulty


def test_a_killed_bastion_loses_no_more_than_the_bound_and_its_next_start_says_so(resting: Faulty) -> None:
    faulty, done = resting, new_word()
    with (
        serving(faulty) as process,
        faulty.printing("while sleep 0.02; do echo tick; done") as ticks,
        faulty.printing("seq 1 1000000000") as bulk,
    ):
        assert faulty.ssh("web.default@b", f"echo {done}").returncode == 0
        wait_until(lambda: len(bulk.received) > 1_000_000)
        process.kill()
        for printing in (ticks, bulk):
            assert printing.ended()[0] == 255

    with serving(faulty):
        assert [entry["count"] for entry in faulty.bastion.log if entry["event"] == "sessions.incomplete"] == [2]
        for printing in (ticks, bulk):
            ended = faulty.auditor.ended(printing.word)
            assert (ended.end.outcome, ended.end.status) == (Outcome.BROKEN, 255)
            assert (ended.end.complete, ended.end.reason) == (False, REASON)
            together = min(len(ended.output), len(printing.received))
            assert ended.output[:together] == printing.received[:together]
            assert len(printing.received) - len(ended.output) <= MOST_LOST
            wait_until(lambda word=printing.word: told(faulty, word) == {"session.incomplete", "session.reaped"})  # type: ignore[misc] # mypy cannot infer a lambda with defaults
            faulty.is_whole(printing.word)
        assert faulty.auditor.ended(done).end.complete


def test_what_a_killed_bastion_left_in_a_debug_container_is_ended_by_its_next_life(resting: Faulty) -> None:
    faulty, word = resting, new_word()
    bastion = faulty.bastion
    size = WindowSize(cols=132, rows=24)
    with serving(faulty) as process:
        argv = [str(argument) for argument in bastion.ssh_argv("-t", "distroless.default@b", person="dora")]
        with Terminal(argv, size) as terminal:
            terminal.expect("/proc/1/root")
            terminal.type(f"setsid sh -c 'sleep 1000; : {word}' </dev/null >/dev/null 2>&1 &\r")
            wait_until(lambda: bastion.running(word))
            process.kill()
            terminal.wait()
    assert bastion.running(word)

    with serving(faulty):
        wait_until(lambda: not bastion.running(word))
        (reaped,) = wait_until(lambda: faulty.auditor.events("session.reaped", person="dora"))
        assert (reaped.outcome, reaped.container) == (Outcome.SUCCESS, "main")


def told(faulty: Faulty, word: str) -> set[str]:
    """What kinds of events tell of a word's session."""
    return {event.type for event in faulty.auditor.ended(word).events}
