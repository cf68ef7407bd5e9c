"""A flood of refusals from many sources becomes neither many rows nor many tasks nor much memory."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from bastion.model import Outcome
from bastion.records import AuditEvent
from bastion.refusals import EACH_MINUTE, MAX_SOURCES, Refusals
from support.events import Events
from support.records import START, SettableClock, counted_ids

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Running:
    """What runs beside the caller, waited for."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.most = 0

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.most = max(self.most, len(self.tasks))

    async def done(self) -> None:
        while self.tasks:
            await asyncio.wait(set(self.tasks))


def refused(source: str, kind: str = "connection.refused") -> AuditEvent:
    return AuditEvent(id="e", at=START, type=kind, outcome=Outcome.DENIED, actor="a", source=source, reason="no")


def writer(events: Events, clock: SettableClock, running: Running) -> Refusals:
    log = structlog.get_logger("test")
    return Refusals(events, clock=clock, new_id=counted_ids(), log=log, start=running.start)


async def test_what_is_only_counted_costs_no_task() -> None:
    events, running = Events(), Running()
    refusals = writer(events, SettableClock(), running)
    for _ in range(10_000):
        refusals.note(refused("203.0.113.1"))

    assert running.most == EACH_MINUTE
    await running.done()
    await refusals.close()
    assert len(events.written) == EACH_MINUTE + 1
    assert events.written[-1].detail["count"] == 10_000 - EACH_MINUTE
    assert events.written[-1].source == "203.0.113.1"


async def test_many_sources_are_counted_together_beyond_the_first_ones_of_each_kind() -> None:
    events, running = Events(), Running()
    refusals = writer(events, SettableClock(), running)
    for number in range(50_000):
        refusals.note(refused(f"2001:db8::{number:x}"))
    refusals.note(refused("2001:db8::1", kind="session.refused"))
    await running.done()
    await refusals.close()

    assert running.most <= MAX_SOURCES + EACH_MINUTE + 1
    assert sum(map(len, refusals._windows.values())) <= MAX_SOURCES + 2
    kinds = [event.type for event in events.written]
    assert kinds.count("connection.refused") == MAX_SOURCES + EACH_MINUTE + 1
    assert kinds.count("session.refused") == 1
    (counted,) = [event for event in events.written if "count" in event.detail]
    assert counted.detail["count"] == 50_000 - MAX_SOURCES - EACH_MINUTE
    assert (counted.source, "from many sources" in counted.reason) == ("", True)


async def test_while_the_record_is_away_a_look_at_what_waits_costs_one_try_and_nothing_is_lost() -> None:
    events, running, clock = Events(), Running(), SettableClock()
    refusals = writer(events, clock, running)
    events.broken = True
    for number in range(100):
        refusals.note(refused(f"203.0.113.{number}"))
    await running.done()
    asked = events.asked
    await asyncio.gather(refusals.flush(), refusals.flush())
    assert events.asked == asked + 2
    events.broken = False
    await refusals.flush()
    await refusals.close()

    assert len(events.written) == 100
    assert {event.detail["count"] for event in events.written} == {1}
    with contextlib.suppress(asyncio.CancelledError):
        await running.done()
