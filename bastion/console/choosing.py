"""Lets a person choose a place on their terminal, and hands on what they typed after that; used by console.door."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.console import menu
from bastion.console.choices import INTERRUPTED, Left, Opened
from bastion.console.keys import Typing
from bastion.console.numbered import NumberedList
from bastion.events import HungUp, Input, InputClosed, Output, Resized, Signalled
from bastion.lifecycle import BROKEN
from bastion.model import Stream, WindowSize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.console.choices import Choice
    from bastion.console.menu import Menu
    from bastion.events import ClientEvent
    from bastion.model import Pty, TargetLogin
    from bastion.ports import Client

ESCAPE_WITHIN_S = 0.2
"""How long what may be the beginning of a sequence is waited for; a lone Escape ends the menu after that."""

_USUAL = WindowSize(cols=80, rows=24)
"""For a terminal that does not say how large it is."""

_LEAST_ROWS = 4
_DUMB = {"", "dumb", "unknown", "emacs", "network", "dialup"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What came of it: a place, on a window that now has some size; typed: what was typed ahead, and belongs there."""

    login: TargetLogin
    size: WindowSize
    typed: bytes


async def choose(client: Client, choices: Sequence[Choice], pty: Pty) -> Chosen | Left:
    """Show the menu that suits the terminal until a place is chosen or the person leaves, one way or another."""
    size = pty.size if pty.size.cols and pty.size.rows else _USUAL
    if pty.term in _DUMB or size.rows < _LEAST_ROWS:
        return await _Choosing(client, NumberedList(choices=tuple(choices), size=size).begun()).run()
    return await _Choosing(client, menu.opened(choices, size)).run()


class _Choosing:
    """A menu, and the terminal that it is on."""

    def __init__(self, client: Client, first: Menu | NumberedList) -> None:
        self._client = client
        self._menu = first
        self._typing = Typing()

    async def run(self) -> Chosen | Left:
        """From the first drawing to the last."""
        events = _Events(self._client)
        try:
            await self._draw()
            while True:
                event = await events.next(ESCAPE_WITHIN_S if self._typing.may_go_on else None)
                end = await self._take(event)
                if end is not None:
                    return await self._ended(end)
        finally:
            await events.close()

    async def _take(self, event: ClientEvent | None) -> Opened | Left | None:
        """What an event, or that none came in time, makes of the menu."""
        match event:
            case Input(data=data):
                self._typing.feed(data)
                return await self._press(more=True)
            case None:
                return await self._press(more=False)
            case Resized(size=size):
                self._menu = self._menu.resized(size)
                await self._draw(anew=True)
                return None
            case InputClosed():
                return Left(0)
            case Signalled():
                return Left(INTERRUPTED)
            case HungUp():
                return Left(BROKEN)

    async def _press(self, *, more: bool) -> Opened | Left | None:
        """Take the keys that were typed; those after the one that ends it are left."""
        while True:
            key = self._typing.next(more=more)
            if key is None:
                await self._draw()
                return None
            after = self._menu.press(key)
            if isinstance(after, Opened | Left):
                return after
            self._menu = after
            await asyncio.sleep(0)  # among ten thousand pods a key takes some milliseconds, and others wait

    async def _ended(self, end: Opened | Left) -> Chosen | Left:
        await self._write(self._menu.erase())
        if isinstance(end, Left):
            return end
        return Chosen(login=end.login, size=self._menu.size, typed=self._typing.rest)

    async def _draw(self, *, anew: bool = False) -> None:
        self._menu, drawing = self._menu.draw(anew=anew)
        await self._write(drawing)

    async def _write(self, data: bytes) -> None:
        await self._client.write(Output(Stream.STDOUT, data))


class _Events:
    """What a person does, one after the other; their leaving ahead of what is still waiting."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._gone = asyncio.create_task(client.hung_up(), name="menu-gone")
        self._next: asyncio.Task[ClientEvent] | None = None

    async def next(self, timeout_s: float | None) -> ClientEvent | None:
        """The next event; None if there is none in time."""
        if self._next is None:
            self._next = asyncio.create_task(self._client.next_event(), name="menu-next")
        await asyncio.wait({self._gone, self._next}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._gone.done():
            return self._gone.result()
        if not self._next.done():
            return None
        event, self._next = self._next.result(), None
        return event

    async def close(self) -> None:
        """Wait for nothing any more."""
        tasks = [task for task in (self._gone, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Ahead:
    """A client whose first input is what was typed before; everything else is the client's own."""

    def __init__(self, client: Client, typed: bytes) -> None:
        self._client = client
        self._typed = typed

    async def next_event(self) -> ClientEvent:
        """What was typed ahead, then what the person does next."""
        if self._typed:
            typed, self._typed = self._typed, b""
            return Input(typed)
        return await self._client.next_event()

    async def next_signal(self) -> Signalled:
        """The next signal."""
        return await self._client.next_signal()

    async def hung_up(self) -> HungUp:
        """Return once the person is gone."""
        return await self._client.hung_up()

    @property
    def is_gone(self) -> bool:
        """Whether the person is gone."""
        return self._client.is_gone

    async def write(self, output: Output) -> None:
        """Send bytes."""
        await self._client.write(output)

    def notice(self, text: str) -> None:
        """One line of ours."""
        self._client.notice(text)

    def waiting(self, text: str) -> None:
        """Show what is waited for."""
        self._client.waiting(text)

    def exit(self, status: int) -> None:
        """Report the exit status."""
        self._client.exit(status)
