"""What sessions left in their pods when the bastion ended: its next life ends it, and the record tells of it."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
import structlog
from structlog.testing import capture_logs

from bastion import app, leftovers
from bastion.errors import BastionError, Code
from bastion.leftovers import APART_S, ENDED_FIRST, SETTLED, Leftovers, in_turn
from bastion.metrics import Metrics
from bastion.model import Outcome, Reaped
from bastion.store import Store, open_store
from bastion.store.migrate import upgrade
from bastion.store.orphans import Left
from bastion.store.views import Filter
from support import records
from support.databases import sqlite_url
from support.faults import new_word, serving
from support.records import START, SettableClock, counted_ids
from support.trips import wait_until
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bastion.model import Target
    from bastion.ports import Pods
    from bastion.records import AuditEvent
    from support.faults import Faulty, Printing

SESSION = records.session("sess1")
WHERE = dataclasses.replace(SESSION.target, container="bastion-debug-1", ephemeral=True, beside="app")
AWAY = BastionError(Code.CLUSTER_UNAVAILABLE, "the cluster's API server cannot be reached")


# --- the whole program --------------------------------------------------------------------


def test_what_was_left_just_before_a_bastion_was_killed_is_ended_by_its_next_life(resting: Faulty) -> None:
    faulty, api = resting, resting.api.upstream
    word = new_word()
    leaves = f"setsid sh -c 'sleep 1000; : {word}' </dev/null >/dev/null 2>&1 & echo started; read line"
    with (
        serving(faulty) as process,
        socket.create_server(("127.0.0.1", 0)) as silent,
        faulty.printing(leaves) as in_vain,
        faulty.printing(leaves) as unknown,
    ):
        faulty.api.refuse()
        ends_well(in_vain)
        wait_until(lambda: told(faulty, in_vain) == ["session.not_reaped"])
        faulty.api.upstream = silent.getsockname()
        faulty.api.resume()
        ends_well(unknown)
        process.kill()
    faulty.api.upstream = api
    assert told(faulty, unknown) == []
    assert len(faulty.bastion.running(word)) == 2

    with serving(faulty):
        wait_until(lambda: not faulty.bastion.running(word))
        wait_until(lambda: told(faulty, in_vain) == ["session.not_reaped", "session.reaped"])
        wait_until(lambda: told(faulty, unknown) == ["session.reaped"])
        assert all(entry["event"] != "sessions.incomplete" for entry in faulty.bastion.log)
    assert looks(faulty, in_vain, unknown) == 1  # for both, as they were in one container

    with serving(faulty):
        faulty.is_whole()
    assert looks(faulty, in_vain, unknown) == 1


def looks(faulty: Faulty, *printing: Printing) -> int:
    """How often the container was looked into for the first of some sessions, and perhaps others."""
    ids = {faulty.auditor.ended(one.word).id for one in printing}
    execs = faulty.bastion.control({"do": "execs"})["execs"]
    return sum(one["argv"][4:6] in (["", id_] for id_ in ids) for one in execs)


def ends_well(printing: Printing) -> None:
    printing.type(b"\n")
    assert printing.ended() == (0, b"")


def told(faulty: Faulty, printing: Printing) -> list[str]:
    """The types of a session's events, in order."""
    return [event.type for event in reversed(faulty.auditor.ended(printing.word).events)]


# --- its end ------------------------------------------------------------------------------


class Looked:
    """Fills the part of `ports.Pods` that is used here: each look gives the next answer, and hangs after the last."""

    def __init__(self, *answers: Reaped | BastionError) -> None:
        self.answers = list(answers)
        self.looks = 0

    async def reap(self, target: Target, marker: str, *, lingering: bool) -> Reaped:
        assert (target, marker, lingering) == (WHERE, SESSION.id, False)
        self.looks += 1
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, BastionError):
            raise answer
        return answer


@asynccontextmanager
async def looking(folder: Path, *answers: Reaped | BastionError) -> AsyncIterator[tuple[Leftovers, Looked, Store]]:
    """What looks after a session that has ended, and its record."""
    url = sqlite_url(folder / "bastion.db")
    await asyncio.to_thread(asyncio.run, upgrade(url))
    clock, pods = SettableClock(), Looked(*answers)
    async with open_store(url, name="bastion-0", clock=clock, new_id=counted_ids("w")) as store:
        yield (
            Leftovers(
                pods=cast("Pods", pods),
                audit=store.writer,
                clock=clock,
                new_id=counted_ids(),
                log=structlog.get_logger("test"),
                metrics=Metrics(),
            ),
            pods,
            store,
        )


async def events(store: Store) -> list[AuditEvent]:
    """What is told of the session, in order."""
    found = [view.record for view in await store.reader.events(Filter(), limit=50)]
    return [event for event in reversed(found) if event.session == SESSION.id]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "REAP_AGAIN_S", (0.01, 0.01))
    monkeypatch.setattr(app, "DRAIN_WITHIN_S", 0.3)


@pytest.mark.usefixtures("hurried")
async def test_a_bastion_that_ends_before_it_had_looked_says_so(tmp_path: Path) -> None:
    async with looking(tmp_path) as (work, pods, store):
        tasks = app.Tasks()
        tasks.start(work.reap(SESSION, Outcome.EXITED, where=WHERE), "reap")
        tasks.start(work.reap_again(left(is_told=True), lingering=False, after_s=0), "told already")
        tasks.start(work.reap_again(left(), lingering=False, after_s=60), "in its turn")

        assert await tasks.drain() == 3
        assert pods.looks == 2
        said = [(event.type, event.outcome, event.reason) for event in await events(store)]
        assert said == [("session.not_reaped", Outcome.FAILED, ENDED_FIRST)] * 2


@pytest.mark.usefixtures("hurried")
async def test_what_is_told_already_is_not_told_again_at_the_end(tmp_path: Path) -> None:
    async with looking(tmp_path, AWAY, AWAY) as (work, pods, store):
        tasks = app.Tasks()
        tasks.start(work.reap(SESSION, Outcome.EXITED, where=WHERE), "reap")

        async def hangs() -> bool:
            return pods.looks == 3

        await eventually(hangs, within=30)
        assert await tasks.drain() == 1
        assert [(event.type, event.reason) for event in await events(store)] == [("session.not_reaped", str(AWAY))]


@pytest.mark.usefixtures("hurried")
async def test_an_end_is_not_held_up_by_a_record_that_is_away(tmp_path: Path) -> None:
    async with looking(tmp_path) as (work, _, store):
        tasks = app.Tasks()
        tasks.start(work.reap(SESSION, Outcome.EXITED, where=WHERE), "reap")
        await store.writer.close()
        with capture_logs() as logs:
            assert await tasks.drain() == 1

    assert [(line["event"], line["session"]) for line in logs] == [("reap.unknown", SESSION.id)]


@pytest.mark.usefixtures("hurried")
async def test_a_look_that_takes_too_long_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "REAP_WITHIN_S", 0.01)
    async with looking(tmp_path) as (work, pods, store):
        await work.reap(SESSION, Outcome.EXITED, where=WHERE)
        told = await events(store)

    assert pods.looks == 3  # it may pass
    assert [event.type for event in told] == ["session.not_reaped"]
    assert "what the session left was not known after 0 s" in told[0].reason


# --- the next life ------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("is_told", "answers", "types"),
    [
        (False, [Reaped(ended=0, left=0)], []),
        (False, [Reaped(ended=2, left=0)], ["session.reaped"]),
        (False, [AWAY, Reaped(ended=0, left=0)], ["session.not_reaped", "session.reaped"]),
        (True, [Reaped(ended=0, left=0)], ["session.reaped"]),
        (True, [AWAY, AWAY, Reaped(ended=1, left=0)], ["session.reaped"]),
        (True, [AWAY, AWAY, AWAY], []),
        (False, [AWAY, BastionError(Code.TARGET_MISSING, "the pod is gone")], ["session.not_reaped"]),
        (False, [BastionError(Code.TARGET_MISSING, "the pod is gone")], []),
        (True, [BastionError(Code.TARGET_MISSING, "the pod is gone")], []),
        (False, [BastionError(Code.NO_SHELL, "no shell")], []),
    ],
)
async def test_a_new_life_tells_what_is_news(
    tmp_path: Path, *, is_told: bool, answers: list[Reaped | BastionError], types: list[str]
) -> None:
    async with looking(tmp_path, *answers) as (work, pods, store):
        await work.reap_again(left(is_told=is_told), lingering=False, after_s=0)
        assert not pods.answers
        assert [event.type for event in await events(store)] == types


def left(id_: str = SESSION.id, *, pod: str = "", is_told: bool = False) -> Left:
    """A session that ended."""
    return Left(
        session=dataclasses.replace(SESSION, id=id_),
        where=dataclasses.replace(WHERE, pod_uid=pod or WHERE.pod_uid),
        roles=frozenset({SESSION.role}),
        outcome=Outcome.EXITED,
        ended_at=START,
        was_open=False,
        is_told=is_told,
    )


def at(seconds: float, *, was_open: bool = False) -> Callable[[Left], Left]:
    """When it ended."""
    return lambda one: dataclasses.replace(one, ended_at=START + timedelta(seconds=seconds), was_open=was_open)


def test_who_ended_long_before_the_last_sign_of_life_is_settled() -> None:
    settled_s = SETTLED.total_seconds()
    ended = [
        at(-9 * settled_s, was_open=True)(left("open")),
        at(2 * settled_s)(left("in the future")),
        at(0)(left("last")),
        at(-settled_s)(left("just")),
        at(-settled_s - 1)(left("settled")),
    ]
    for now in (START, START + timedelta(days=3)):
        kept = [one.session.id for _, one in in_turn(ended[:1] + ended[2:], now)]
        assert kept == ["open", "last", "just"]
    assert [one.session.id for _, one in in_turn(ended, START)] == ["open", "in the future", "last", "just"]
    assert list(in_turn([], START)) == []


def test_one_container_is_looked_into_after_the_other_and_each_once() -> None:
    ended = [left("a", pod="u1"), left("b", pod="u2"), left("c", pod="u1"), left("d", pod="u3")]

    turns = {one.session.id: after_s for after_s, one in in_turn(ended, START)}

    assert turns == {"a": 0.0, "b": APART_S, "c": 0.0, "d": 2 * APART_S}
