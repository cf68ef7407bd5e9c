"""What a person sent waits in order and within bounds, and signals overtake it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastion.events import ClientEvent, Input, InputClosed, Resized, Signalled
from bastion.model import WindowSize
from bastion.ssh.inbox import INPUT_LIMIT, MAX_EVENTS, ONE_INPUT, Inbox

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL, LARGE = WindowSize(cols=80, rows=24), WindowSize(cols=200, rows=60)


@dataclass
class Reading:
    """Whether the channel is read from."""

    told: list[str] = field(default_factory=list)

    def inbox(self) -> Inbox:
        return Inbox(pause=lambda: self.told.append("pause"), resume=lambda: self.told.append("resume"))


async def everything(inbox: Inbox) -> list[ClientEvent]:
    """What `next_event` gives without waiting."""
    found: list[ClientEvent] = []
    while True:
        task = asyncio.ensure_future(inbox.next_event())
        await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            return found
        found.append(task.result())


async def test_a_signal_overtakes_input_its_end_and_sizes() -> None:
    inbox = Reading().inbox()
    inbox.put(b"typed")
    inbox.resize(SMALL)
    inbox.close()
    inbox.signal("INT")
    inbox.signal("TERM")

    assert await everything(inbox) == [
        Signalled("INT"),
        Signalled("TERM"),
        Input(b"typed"),
        Resized(SMALL),
        InputClosed(),
    ]


async def test_whoever_asks_for_signals_gets_all_of_them_and_the_rest_is_left_where_it_is() -> None:
    inbox = Reading().inbox()
    first = asyncio.ensure_future(inbox.next_signal())
    event = asyncio.ensure_future(inbox.next_event())
    await asyncio.sleep(0)
    for name in ("INT", "TERM", "KILL"):
        inbox.signal(name)
    inbox.put(b"typed")

    assert await first == Signalled("INT")
    assert [await inbox.next_signal(), await inbox.next_signal()] == [Signalled("TERM"), Signalled("KILL")]
    assert await event == Input(b"typed")


@pytest.mark.parametrize("apart", [False, True])
async def test_a_signal_wakes_whoever_waits(apart: bool) -> None:  # noqa: FBT001 - a parameter of the test
    inbox = Reading().inbox()
    waiting = asyncio.ensure_future(inbox.next_signal() if apart else inbox.next_event())
    await asyncio.sleep(0)
    inbox.signal("HUP")

    assert await asyncio.wait_for(waiting, 30) == Signalled("HUP")


async def test_of_sizes_in_a_row_the_last_one_counts() -> None:
    inbox = Reading().inbox()
    inbox.resize(SMALL)
    inbox.signal("USR1")
    inbox.resize(LARGE)
    inbox.put(b"x")
    inbox.resize(SMALL)

    assert await everything(inbox) == [Signalled("USR1"), Resized(LARGE), Input(b"x"), Resized(SMALL)]


async def test_a_flood_of_signals_or_sizes_takes_no_more_than_its_room() -> None:
    inbox = Reading().inbox()
    for number in range(2 * MAX_EVENTS):
        inbox.signal(str(number))
    assert len(await everything(inbox)) == MAX_EVENTS

    for _ in range(MAX_EVENTS):
        inbox.put(b"x")
    inbox.resize(SMALL)
    assert Resized(SMALL) not in await everything(inbox)


async def test_reading_stops_while_too_much_waits_however_small_its_pieces() -> None:
    reading = Reading()
    inbox = reading.inbox()
    for _ in range(INPUT_LIMIT // 512):
        assert reading.told == []
        inbox.put(b"x")
    inbox.put(b"x")
    assert reading.told == ["pause"]

    for _ in range(INPUT_LIMIT // 512 // 2):
        assert reading.told == ["pause"]
        await inbox.next_event()
    await inbox.next_event()
    await inbox.next_event()
    assert reading.told == ["pause", "resume"]


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 3 * ONE_INPUT)),
    st.tuples(st.just("resize"), st.integers(1, 500)),
    st.tuples(st.just("signal"), st.integers(0, 9)),
    st.tuples(st.just("take"), st.integers(1, 5)),
)


@given(st.lists(STEPS, max_size=60), st.booleans())
@settings(max_examples=200)
def test_nothing_is_lost_and_all_but_signals_keeps_its_order(steps: list[tuple[str, int]], apart: bool) -> None:  # noqa: FBT001 - drawn
    asyncio.run(_nothing_is_lost(steps, apart=apart))


async def _nothing_is_lost(steps: list[tuple[str, int]], *, apart: bool) -> None:
    reading = Reading()
    inbox = reading.inbox()
    sent: list[ClientEvent] = []
    signals: list[Signalled] = []
    taken: list[ClientEvent] = []
    heard: list[Signalled] = []
    listening = asyncio.ensure_future(_listen(inbox, heard)) if apart else None
    await asyncio.sleep(0)
    for number, (step, size) in enumerate(steps):
        if step == "put":
            sent.append(Input(bytes([number]) * size))
            inbox.put(bytes([number]) * size)
        elif step == "resize":
            sent.append(Resized(WindowSize(cols=size, rows=1)))
            inbox.resize(WindowSize(cols=size, rows=1))
        elif step == "signal":
            signals.append(Signalled(str(number)))
            inbox.signal(str(number))
        else:
            taken += [await inbox.next_event() for _ in range(min(size, _waiting(inbox)))]
    taken += await everything(inbox)
    if listening is not None:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    assert [event for event in [*heard, *taken] if isinstance(event, Signalled)] == signals
    assert not apart or len(heard) == len(signals)
    rest = [event for event in taken if not isinstance(event, Signalled)]
    assert _bytes(rest) == _bytes(sent)
    assert all(len(event.data) <= ONE_INPUT for event in rest if isinstance(event, Input))
    sizes = [event for event in sent if isinstance(event, Resized)]
    assert [event for event in rest if isinstance(event, Resized)][-1:] == sizes[-1:]
    assert [word for word, _ in groupby(reading.told)] == reading.told  # in turns
    assert reading.told[-1:] != ["pause"]  # all was taken


async def _listen(inbox: Inbox, heard: list[Signalled]) -> None:
    while True:
        heard.append(await inbox.next_signal())


def _waiting(inbox: Inbox) -> int:
    return len(inbox._events)


def _bytes(events: Sequence[ClientEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Input))
