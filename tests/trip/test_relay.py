"""Events between a person and a pod: what waits for what."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from bastion.errors import BastionError, Code
from bastion.events import ClientEvent, Exited, HungUp, Input, InputClosed, Output, Resized, Signalled
from bastion.model import Outcome, WindowSize
from bastion.relay import relay
from bastion.ssh.inbox import Inbox
from bastion.system import SystemClock
from bastion.taps import Taps
from bastion.trip import Count
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bastion.events import PodEvent, SessionEvent

SIZE = Resized(WindowSize(cols=80, rows=24))


class Person:
    """Fills `ports.Client`: what they send waits in an inbox, as it does for ssh."""

    def __init__(self) -> None:
        self.inbox = Inbox(pause=lambda: None, resume=lambda: None)
        self.is_gone = False
        self.next_event = self.inbox.next_event
        self.next_signal = self.inbox.next_signal

    async def hung_up(self) -> HungUp:
        await asyncio.Event().wait()
        raise AssertionError

    async def write(self, output: Output) -> None:
        raise AssertionError(output)

    def notice(self, text: str) -> None:
        raise AssertionError(text)

    def waiting(self, text: str) -> None:
        raise AssertionError(text)

    def exit(self, status: int) -> None:
        raise AssertionError(status)


@dataclass
class Pod:
    """Fills `ports.ExecStream`: a program that says nothing and, until it `reads`, takes no input."""

    protocol: str = ""
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[ClientEvent] = field(default_factory=list)

    async def next_event(self) -> PodEvent:
        await self.ended.wait()
        return Exited(0, Outcome.EXITED)

    async def send(self, event: ClientEvent) -> None:
        if isinstance(event, Input | InputClosed):
            await self.reads.wait()
        self.got.append(event)


@dataclass
class Tap:
    """Fills `ports.Tap` and `ports.Gate`: its gates are open, for signals only once it is told so."""

    seen: list[SessionEvent] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BastionError | None = None

    def take(self, at_us: int, event: SessionEvent) -> Tap:
        assert at_us >= 0
        self.seen.append(event)
        return self

    async def passed(self) -> None:
        if isinstance(self.seen[-1], Signalled):
            await self.opened.wait()
            if self.failure is not None:
                raise self.failure


@asynccontextmanager
async def relaying(client: Person, pod: Pod, taps: Sequence[Tap] = ()) -> AsyncIterator[asyncio.Task[Exited]]:
    async with asyncio.timeout(60):
        task = asyncio.create_task(relay(client, pod, Taps(taps, SystemClock()), Count()))
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def comes_to(found: Sequence[object], *expected: object) -> None:
    """Wait until a list has this in it, and nothing else."""

    async def equal() -> bool:
        return list(found) == list(expected)

    await eventually(equal, within=30)


async def test_signals_reach_a_program_that_does_not_read_its_input() -> None:
    person, pod = Person(), Pod()
    async with relaying(person, pod):
        for _ in range(100):
            person.inbox.put(b"x" * 100_000)
        person.inbox.signal("INT")
        await comes_to(pod.got, Signalled("INT"))
        person.inbox.signal("TERM")
        await comes_to(pod.got, Signalled("INT"), Signalled("TERM"))


async def test_input_keeps_its_order_with_its_end_and_sizes() -> None:
    person, pod = Person(), Pod()
    async with relaying(person, pod):
        person.inbox.put(b"one")
        person.inbox.resize(SIZE.size)
        person.inbox.put(b"two")
        person.inbox.close()
        person.inbox.signal("USR1")
        await comes_to(pod.got, Signalled("USR1"))
        pod.reads.set()
        await comes_to(pod.got, Signalled("USR1"), Input(b"one"), SIZE, Input(b"two"), InputClosed())


async def test_a_signal_passes_the_taps_first() -> None:
    person, pod, tap = Person(), Pod(), Tap()
    pod.reads.set()
    async with relaying(person, pod, [tap]):
        person.inbox.signal("TERM")
        await comes_to(tap.seen, Signalled("TERM"))
        assert pod.got == []
        tap.opened.set()
        await comes_to(pod.got, Signalled("TERM"))


async def test_a_signal_that_cannot_be_recorded_ends_the_session_undelivered() -> None:
    person, pod, tap = Person(), Pod(), Tap(failure=BastionError(Code.RECORD_UNAVAILABLE, "no"))
    async with relaying(person, pod, [tap]) as task:
        person.inbox.put(b"unread")
        person.inbox.signal("TERM")
        tap.opened.set()
        with pytest.raises(BastionError):
            await task
    assert pod.got == []


async def test_a_person_who_is_gone_signals_nothing_any_more() -> None:
    person, pod, tap = Person(), Pod(), Tap()
    async with relaying(person, pod, [tap]) as task:
        person.inbox.signal("TERM")
        await comes_to(tap.seen, Signalled("TERM"))
        person.is_gone = True
        tap.opened.set()
        pod.ended.set()
        assert (await task).status == 0
    assert pod.got == []
