"""What is looked at as streams that a session can carry and record; made by console.looks.

A look is a session: what it shows passes the recorder like a process's output, so it comes as a process's stream.
"""

from __future__ import annotations

import asyncio
import codecs
import io
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion import printable
from bastion.events import Exited, Input, Output, Signalled
from bastion.model import Outcome, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from bastion.events import ClientEvent, PodEvent
    from bastion.ports import ExecStream

PIECE = 32 * 1024
"""The most bytes of one Output event."""

INTERRUPTED = 130
"""The status of what a person ends with Ctrl-C, as shells have it: 128 and SIGINT."""

_CTRL_C = b"\x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All that is to be said, and the exit status."""

    out: bytes = b""
    err: bytes = b""
    status: int = 0


@asynccontextmanager
async def answering(ask: Callable[[], Awaitable[Answer]]) -> AsyncIterator[ExecStream]:
    """A stream that says an answer and exits; entering asks for the answer and raises what that raises."""
    yield _Said(await ask())


class _Said:
    """An answer as a stream."""

    protocol = ""

    def __init__(self, answer: Answer) -> None:
        self._events: deque[PodEvent] = deque(
            (*_outputs(Stream.STDOUT, answer.out), *_outputs(Stream.STDERR, answer.err))
        )
        self._end = Exited(answer.status, Outcome.EXITED)

    async def next_event(self) -> PodEvent:
        """The next piece, or the end."""
        return self._events.popleft() if self._events else self._end

    async def send(self, event: ClientEvent) -> None:
        """Nobody listens."""


@asynccontextmanager
async def followed(source: AbstractAsyncContextManager[ExecStream], *, terminal: bool) -> AsyncIterator[ExecStream]:
    """A stream that a person may end with Ctrl-C or a signal; for a terminal it is made harmless."""
    async with source as stream:
        yield _Followed(stream, Harmless() if terminal else None)


class _Followed:
    """A stream, until it ends or the person does not want more of it."""

    protocol = ""

    def __init__(self, stream: ExecStream, harmless: Harmless | None) -> None:
        self._stream = stream
        self._harmless = harmless
        self._ended = asyncio.Event()
        self._ready: deque[PodEvent] = deque()

    async def next_event(self) -> PodEvent:
        """The next piece of it, or the end."""
        while not self._ready:
            event = await self._coming()
            self._ready.extend(self._shown(event))
        return self._ready.popleft()

    async def _coming(self) -> PodEvent:
        """What comes first: more of it, or the person's wish to end it."""
        coming = asyncio.ensure_future(self._stream.next_event())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
            return Exited(INTERRUPTED, Outcome.EXITED) if self._ended.is_set() else coming.result()
        finally:
            for task in (coming, ended):
                task.cancel()
            await asyncio.gather(coming, ended, return_exceptions=True)

    async def send(self, event: ClientEvent) -> None:
        """Take Ctrl-C on a terminal, and any signal; the rest means nothing to a log."""
        pressed = isinstance(event, Input) and self._harmless is not None and _CTRL_C in event.data
        if pressed or isinstance(event, Signalled):
            self._ended.set()

    def _shown(self, event: PodEvent) -> list[PodEvent]:
        """An event as it is shown: what is made harmless may be several times as long, or nothing for now."""
        if self._harmless is None:
            return [event]
        if isinstance(event, Exited):
            return [*_outputs(Stream.STDOUT, self._harmless.feed(b"", final=True)), event]
        return list(_outputs(event.stream, self._harmless.feed(event.data)))


class Harmless:
    r"""Makes of a stream what a terminal only shows: controls become escapes like `\x1b`, save tabs and line ends."""

    def __init__(self) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """The next piece; a character or a line end that is cut off is held back until its rest comes."""
        lines = self._decoder.decode(data, final=final).split("\n")
        return "\r\n".join("\t".join(map(printable.line, line.split("\t"))) for line in lines).encode()


def _outputs(stream: Stream, data: bytes) -> Iterator[Output]:
    return (Output(stream, data[at : at + PIECE]) for at in range(0, len(data), PIECE))
