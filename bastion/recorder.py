"""The tap that keeps evidence: takes each event of a session before it is forwarded; opened by session for each trip.

What was taken is durable within 250 ms or 64 KiB, whichever comes first: a chunk is written
200 ms after its first byte, or when it has 32 KiB, and whoever would have more
than 64 KiB on the way waits. So a bastion that is killed loses no more than
that, and no process in a pod runs ahead of its record.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.capture.echo import EchoGate, Hidden, Released
from bastion.errors import BastionError, Code
from bastion.events import Exited, HungUp, Input, InputClosed, Output, Resized, Signalled
from bastion.model import Stream
from bastion.wire.transcript import Frame, Kind, encode_frame, pack, resize_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.events import SessionEvent
    from bastion.model import Chunk, RecordRules
    from bastion.ports import AuditLog

MAX_LOSS_BYTES = 64 * 1024
"""How much of a session may have been taken and not be durable."""

FLUSH_BYTES = 32 * 1024
FLUSH_AFTER_S = 0.2

_INLINE_BYTES = 4 * 1024  # compressing so much takes less than handing it to a thread
_UNAVAILABLE = "The record of this session cannot be kept, so it ends here."


class Recorder:
    """Implements `ports.Recorder` on an audit log."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._work: set[asyncio.Task[None]] = set()

    def open(self, session: str, rules: RecordRules, *, pty: bool) -> Recording:
        """A recording for a session whose row is committed."""
        return Recording(self._audit, session, _taker(rules, pty=pty), self._work)

    async def drain(self) -> None:
        """Wait until every flush that was begun has ended; also those whose session is gone."""
        while self._work:
            await asyncio.wait(set(self._work))


class Recording:
    """Implements `ports.Recording`. After a failed write everything raises RECORD_UNAVAILABLE, for good."""

    def __init__(self, audit: AuditLog, session: str, taker: Taker, work: set[asyncio.Task[None]]) -> None:
        self._audit = audit
        self._session = session
        self._taker = taker
        self._work = work  # keeps the running flushes alive, whatever becomes of their session
        self._buffer = _Buffer()
        self._seq = 0
        self._at_risk = 0  # payload bytes that were taken and are not durable
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._due = False  # what is buffered must be written now
        self._settled = asyncio.Event()  # a flush ended, well or not
        self._error: BastionError | None = None
        self._closed = False

    async def on_event(self, at_us: int, event: SessionEvent) -> None:
        """Take an event; returns when it may be forwarded. Raises BastionError(RECORD_UNAVAILABLE)."""
        size = len(event.data) if isinstance(event, Input | Output) else 0
        while self._error is None and self._at_risk and self._at_risk + size > MAX_LOSS_BYTES:
            self._flush()
            self._settled.clear()
            await self._settled.wait()
        self._raise_if_over()
        for frame in self._taker.take(at_us, event):
            self._buffer.add(frame)
            self._at_risk += len(frame.data)
        if self._buffer.size >= FLUSH_BYTES:
            self._flush()
        elif self._buffer.size and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._flush)

    async def close(self) -> None:
        """Make everything that was taken durable; goes on if its caller is cancelled. Raises RECORD_UNAVAILABLE."""
        self._closed = True
        while self._error is None and (self._buffer.size or self._flushing is not None):
            self._flush()
            if self._flushing is not None:
                await asyncio.shield(self._flushing)
        if self._error is not None:
            raise self._told()

    def _flush(self) -> None:
        """Begin to write what is buffered; if that is under way already, have it go on with what came since."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = True
        if self._flushing is None and self._error is None and self._buffer.size:
            self._flushing = asyncio.create_task(self._write(), name=f"flush {self._session}")
            self._work.add(self._flushing)
            self._flushing.add_done_callback(self._work.discard)

    async def _write(self) -> None:
        """Write what is buffered, and again for as long as more of it is due."""
        try:
            while self._buffer.size and self._due:
                self._due = False
                payload = self._buffer.payload
                await self._audit.append([await self._next_chunk()])
                self._at_risk -= payload
                self._settled.set()
        except BastionError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may go on unrecorded
            self._error = BastionError(Code.RECORD_UNAVAILABLE, _UNAVAILABLE, detail=repr(error))
        finally:
            self._flushing = None
            self._settled.set()

    async def _next_chunk(self) -> Chunk:
        full, self._buffer = self._buffer, _Buffer()
        seq, self._seq = self._seq, self._seq + 1
        if full.size <= _INLINE_BYTES:
            return full.chunk(self._session, seq)
        return await asyncio.to_thread(full.chunk, self._session, seq)

    def _raise_if_over(self) -> None:
        if self._error is not None:
            raise self._told()
        if self._closed:
            raise BastionError(Code.RECORD_UNAVAILABLE, _UNAVAILABLE, detail="the recording is closed")

    def _told(self) -> BastionError:
        assert self._error is not None
        return BastionError(Code.RECORD_UNAVAILABLE, _UNAVAILABLE, detail=str(self._error))


class _Buffer:
    """Encoded frames that will be one chunk."""

    def __init__(self) -> None:
        self._frames = bytearray()
        self._t0_us = self._t1_us = 0
        self.payload = 0  # bytes of data in the frames

    @property
    def size(self) -> int:
        """Encoded bytes."""
        return len(self._frames)

    def add(self, frame: Frame) -> None:
        """Put a frame at the end."""
        if not self._frames:
            self._t0_us = self._t1_us = frame.at_us
        self._frames += encode_frame(frame, self._t1_us)
        self._t1_us = max(self._t1_us, frame.at_us)
        self.payload += len(frame.data)

    def chunk(self, session: str, seq: int) -> Chunk:
        """All of it as a chunk; compresses, so a big one belongs into a thread."""
        return pack(session, seq, bytes(self._frames), t0_us=self._t0_us, t1_us=self._t1_us)


# --- which frames an event makes -------------------------------------------------


class Taker:
    """Turns events into the frames that are kept: output, sizes, and markers for ends and signals; no input."""

    def take(self, at_us: int, event: SessionEvent) -> Sequence[Frame]:  # noqa: PLR0911 - one for each kind of event
        """The frames of one event."""
        match event:
            case Output():
                kind = Kind.STDOUT if event.stream is Stream.STDOUT else Kind.STDERR
                return self.output(Frame(at_us=at_us, kind=kind, data=event.data)) if event.data else ()
            case Input():
                return self.input(at_us, event.data)
            case Resized():
                return [Frame(at_us=at_us, kind=Kind.RESIZE, data=resize_data(event.size))]
            case Signalled():
                return [_marker(at_us, f"signal {event.name}")]
            case HungUp():
                return [_marker(at_us, f"hung up: {event.reason}")]
            case Exited():
                return [_marker(at_us, f"exit {event.status}" + (f": {event.message}" if event.message else ""))]
            case InputClosed():
                return ()

    def output(self, frame: Frame) -> Sequence[Frame]:
        """The frames of output."""
        return [frame]

    def input(self, _at_us: int, _data: bytes) -> Sequence[Frame]:
        """The frames of input."""
        return ()


class _InputTaker(Taker):
    """Keeps input as it is; for sessions without a terminal, where nobody types passwords blind."""

    def input(self, at_us: int, data: bytes) -> Sequence[Frame]:
        return [Frame(at_us=at_us, kind=Kind.INPUT, data=data)] if data else ()


class _EchoedInputTaker(Taker):
    """Keeps typed lines that the terminal showed, and only those."""

    def __init__(self) -> None:
        self._gate = EchoGate()

    def input(self, at_us: int, data: bytes) -> Sequence[Frame]:
        return [_typed(at_us, verdict) for verdict in self._gate.typed(data)]

    def output(self, frame: Frame) -> Sequence[Frame]:
        return [frame, *(_typed(frame.at_us, verdict) for verdict in self._gate.shown(frame.data))]


def _taker(rules: RecordRules, *, pty: bool) -> Taker:
    if not rules.input:
        return Taker()
    return _EchoedInputTaker() if pty else _InputTaker()


def _typed(at_us: int, verdict: Released | Hidden) -> Frame:
    if isinstance(verdict, Released):
        return Frame(at_us=at_us, kind=Kind.INPUT, data=verdict.data)
    return _marker(at_us, f"input hidden ({verdict.keys} keys)")


def _marker(at_us: int, text: str) -> Frame:
    return Frame(at_us=at_us, kind=Kind.MARKER, data=text.encode(errors="backslashreplace"))
