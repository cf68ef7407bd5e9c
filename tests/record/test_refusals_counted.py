"""Refusals are events; floods of them, and those that could not be written, are one event with a count."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import structlog

from bastion.model import Outcome
from bastion.records import AuditEvent
from bastion.refusals import EACH_MINUTE, Refusals
from support.events import Events

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


def refused(source: str = "203.0.113.1", kind: str = "session.refused") -> AuditEvent:
    return AuditEvent(
        id="e",
        at=datetime.fromtimestamp(0, UTC),
        type=kind,
        outcome=Outcome.DENIED,
        actor="a",
        source=source,
        reason="no",
    )


def refusals(events: Events, clock: Clock) -> Refusals:
    tasks: set[asyncio.Task[None]] = set()

    def start(work: Coroutine[Any, Any, None], name: str) -> None:
        tasks.add(asyncio.create_task(work, name=name))

    numbers = count()
    log = structlog.get_logger("test")
    return Refusals(events, clock=clock, new_id=lambda: f"id{next(numbers)}", log=log, start=start)


async def test_a_flood_from_one_source_is_ten_events_and_a_count() -> None:
    events, clock = Events(), Clock()
    writer = refusals(events, clock)
    for _ in range(1000):
        await writer.write(refused())
    before = len(events.written)
    clock.seconds = 61
    await writer.flush()
    await writer.close()

    assert before == EACH_MINUTE
    assert len(events.written) == EACH_MINUTE + 1
    assert events.written[-1].detail["count"] == 1000 - EACH_MINUTE
    assert "the last: no" in events.written[-1].reason


async def test_other_sources_and_kinds_are_counted_apart_and_a_new_minute_begins_anew() -> None:
    events, clock = Events(), Clock()
    writer = refusals(events, clock)
    for number in range(50):
        await writer.write(refused(f"203.0.113.{number}"))
        await writer.write(refused(kind="login.refused"))
    clock.seconds = 61
    await writer.flush()
    await writer.write(refused(kind="login.refused"))
    await writer.close()

    assert len([event for event in events.written if event.type == "session.refused"]) == 50
    assert len([event for event in events.written if event.type == "login.refused"]) == EACH_MINUTE + 1 + 1


async def test_what_could_not_be_written_is_one_event_with_the_count_once_the_record_is_back() -> None:
    events, clock = Events(), Clock()
    writer = refusals(events, clock)
    events.broken = True
    for _ in range(4):
        await writer.write(refused())
    await writer.flush()
    events.broken = False
    await writer.flush()
    await writer.write(refused())
    await writer.close()

    assert [event.detail.get("count") for event in events.written] == [4, None]


async def test_the_end_writes_what_is_held() -> None:
    events, clock = Events(), Clock()
    writer = refusals(events, clock)
    for _ in range(EACH_MINUTE + 3):
        await writer.write(refused())
    await writer.close()

    assert events.written[-1].detail["count"] == 3


async def test_a_source_is_forgotten_when_its_minute_is_over() -> None:
    events, clock = Events(), Clock()
    writer = refusals(events, clock)
    for number in range(100):
        await writer.write(refused(f"203.0.113.{number}"))
    clock.seconds = 61
    await writer.flush()
    await writer.close()

    assert len(events.written) == 100
    assert writer._windows == {}
