"""What a person sent on a channel and nobody took yet, bounded, signals apart; kept by ssh.channel."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from bastion.events import Input, InputClosed, Resized, Signalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.events import ClientEvent
    from bastion.model import WindowSize

INPUT_LIMIT = 256 * 1024
"""Bytes a person may send ahead of the pod."""

ONE_INPUT = 32 * 1024
"""The most bytes of one Input event."""

SMALLEST_WEIGHT = 512
"""What an Input counts for at least: many small ones cost more than their bytes."""

MAX_EVENTS = 10_000


class Inbox:
    """Events in order, save that signals overtake the rest: sshd delivers them at once, whatever it has yet to write.

    Sizes keep their place. In the connection to the pod they travel behind the same bytes anyway.
    """

    def __init__(self, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """`pause` is called when too much input waits, `resume` when there is room again."""
        self._pause = pause
        self._resume = resume
        self._events: deque[Input | InputClosed | Resized] = deque()
        self._waiting = 0
        self._paused = False
        self._signals: deque[Signalled] = deque()
        self._signals_apart = False
        self._news = asyncio.Event()
        self._signal = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Take input."""
        for at in range(0, len(data), ONE_INPUT):
            event = Input(data[at : at + ONE_INPUT])
            self._events.append(event)
            self._waiting += _weight(event)
        if self._waiting >= INPUT_LIMIT and not self._paused:
            self._paused = True
            self._pause()
        self._news.set()

    def close(self) -> None:
        """Take the end of input."""
        self._events.append(InputClosed())
        self._news.set()

    def resize(self, size: WindowSize) -> None:
        """Take a size; of several in a row the last one wins."""
        if self._events and isinstance(self._events[-1], Resized):
            self._events[-1] = Resized(size)
        elif len(self._events) < MAX_EVENTS:  # a flood of them means nothing, and must cost nothing
            self._events.append(Resized(size))
            self._news.set()

    def signal(self, name: str) -> None:
        """Take a signal."""
        if len(self._signals) < MAX_EVENTS:  # as above
            self._signals.append(Signalled(name))
            self._signal.set()
            self._news.set()

    async def next_event(self) -> ClientEvent:
        """Wait for what comes first: a signal, unless `next_signal` gives them, or else the oldest of the rest."""
        while not self._events and (self._signals_apart or not self._signals):
            self._news.clear()
            await self._news.wait()
        if self._signals and not self._signals_apart:
            return self._signals.popleft()
        event = self._events.popleft()
        if isinstance(event, Input):
            self._waiting -= _weight(event)
            if self._paused and self._waiting < INPUT_LIMIT // 2:
                self._paused = False
                self._resume()
        return event

    async def next_signal(self) -> Signalled:
        """Wait for the next signal. Once this was asked for, it alone gives signals."""
        self._signals_apart = True
        while not self._signals:
            self._signal.clear()
            await self._signal.wait()
        return self._signals.popleft()


def _weight(event: Input) -> int:
    return max(len(event.data), SMALLEST_WEIGHT)
