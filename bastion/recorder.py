"""The tap that keeps evidence: takes each event of a session before it is forwarded; built by app.

An event is taken at once and in order; its gate opens when it may be forwarded. What was
forwarded is durable within 250 ms or 64 KiB, whichever comes first: what was taken is
written 200 ms after its first byte, or when it is 32 KiB, and the gate of an event
stays shut while forwarding it would put more than 64 KiB ahead of the record, and while
anything waits for its commit for longer than 250 ms. So a bastion that
is killed loses no more than that. Behind shut gates more is taken while a commit
runs (the caller bounds how much), so that bulk output shares commits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.capture.echo import EchoGate, Hidden, Released
from bastion.errors import BastionError, Code
from bastion.events import Exited, HungUp, Input, InputClosed, Output, Resized, Signalled
from bastion.model import Stream
from bastion.wire.transcript import Frame, Kind, encode_frame, pack, resize_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.events import SessionEvent
    from bastion.model import RecordRules
    from bastion.ports import AuditLog
    from bastion.records import Chunk

MAX_LOSS_BYTES = 64 * 1024
"""How much of a session may have been forwarded and not be durable."""

MAX_LOSS_S = 0.25
"""For how long something forwarded may not be durable before nothing more is."""

CHUNK_BYTES = 256 * 1024
"""A chunk is full when it has this many encoded bytes."""

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
        return Recording(self._audit, session, rules, pty=pty, work=self._work)

    async def drain(self) -> None:
        """Wait until every flush that was begun has ended; also those whose session is gone."""
        while self._work:
            await asyncio.wait(set(self._work))


class Recording:
    """Implements `ports.Recording`. After a failed write everything raises RECORD_UNAVAILABLE, for good."""

    def __init__(
        self, audit: AuditLog, session: str, rules: RecordRules, *, pty: bool, work: set[asyncio.Task[None]]
    ) -> None:
        self._audit = audit
        self._session = session
        self._rules = rules
        self._pty = pty
        self._taker = _taker(rules, pty=pty)
        self._work = work  # keeps the running flushes alive, whatever becomes of their session
        self._buffers = [_Buffer()]  # the last one takes, those before it are full
        self._seq = 0
        self._taken = 0  # payload bytes, from the beginning
        self._durable = 0  # of those
        self._at_risk_since: float | None = None  # when the oldest that is not durable was taken
        self._since_last_flush: float | None = None  # the same for what is not being written yet
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._due = False  # what is buffered must be written now
        self._settled = asyncio.Event()  # a flush ended, well or not
        self._error: BastionError | None = None
        self._closed = False

    def keep(self, rules: RecordRules) -> None:
        """Keep, from now on, what these rules ask for too."""
        if rules.input and not self._rules.input:
            self._rules, self._taker = rules, _taker(rules, pty=self._pty)

    def take(self, at_us: int, event: SessionEvent) -> Gate:
        """Take an event; its gate raises BastionError(RECORD_UNAVAILABLE) if it cannot be kept."""
        before = self._taken
        if self._error is None and not self._closed:
            for frame in self._taker.take(at_us, event):
                self._add(frame)
            if self._waiting >= FLUSH_BYTES:
                self._flush()
            elif self._waiting and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._flush)
        return Gate(self, self._taken if self._taken > before else 0)  # what is not kept waits for nothing

    async def settled(self, taken: int) -> None:
        """Return when all but the last 64 KiB of what was taken up to there is durable. Raises RECORD_UNAVAILABLE."""
        while self._error is None and taken > self._durable and self._is_too_much(taken):
            self._flush()
            self._settled.clear()
            await self._settled.wait()
        if self._error is not None:
            raise self._told()
        if self._closed:
            raise BastionError(Code.RECORD_UNAVAILABLE, _UNAVAILABLE, detail="the recording is closed")

    async def close(self) -> None:
        """Make everything that was taken durable; goes on if its caller is cancelled. Raises RECORD_UNAVAILABLE."""
        self._closed = True
        while self._error is None and (self._waiting or self._flushing is not None):
            self._flush()
            if self._flushing is not None:
                await asyncio.shield(self._flushing)
        if self._error is not None:
            raise self._told()

    @property
    def _waiting(self) -> int:
        """Encoded bytes that nobody is writing yet."""
        return sum(buffer.size for buffer in self._buffers)

    def _is_too_much(self, taken: int) -> bool:
        """Whether forwarding what was taken up to there could lose more than the bound."""
        if taken - self._durable > MAX_LOSS_BYTES:
            return True
        now = asyncio.get_running_loop().time()
        return self._at_risk_since is not None and now - self._at_risk_since > MAX_LOSS_S

    def _add(self, frame: Frame) -> None:
        if self._buffers[-1].size >= CHUNK_BYTES:
            self._buffers.append(_Buffer())
        self._buffers[-1].add(frame)
        self._taken += len(frame.data)
        if self._since_last_flush is None:
            self._since_last_flush = asyncio.get_running_loop().time()
        if self._at_risk_since is None:
            self._at_risk_since = self._since_last_flush

    def _flush(self) -> None:
        """Begin to write what is buffered; if that is under way already, have it go on with what came since."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = True
        if self._flushing is None and self._error is None and self._waiting:
            self._flushing = asyncio.create_task(self._write(), name=f"flush {self._session}")
            self._work.add(self._flushing)
            self._flushing.add_done_callback(self._work.discard)

    async def _write(self) -> None:
        """Write what is buffered, and again for as long as more of it is due."""
        try:
            while self._waiting and self._due:
                self._due = False
                taken, self._since_last_flush = self._taken, None
                await self._audit.append(await self._next_chunks())
                self._durable = taken
                self._at_risk_since = self._since_last_flush
                self._settled.set()
        except BastionError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing may go on unrecorded
            self._error = BastionError(Code.RECORD_UNAVAILABLE, _UNAVAILABLE, detail=repr(error))
        finally:
            self._flushing = None
            self._settled.set()

    async def _next_chunks(self) -> list[Chunk]:
        full, self._buffers = self._buffers, [_Buffer()]
        first, self._seq = self._seq, self._seq + len(full)
        numbered = list(enumerate(full, first))
        if sum(buffer.size for buffer in full) <= _INLINE_BYTES:
            return [buffer.chunk(self._session, seq) for seq, buffer in numbered]
        return await asyncio.to_thread(lambda: [buffer.chunk(self._session, seq) for seq, buffer in numbered])

    def _told(self) -> BastionError:
        assert self._error is not None
        return BastionError(Code.RECORD_UNAVAILABLE, _UNAVAILABLE, detail=str(self._error))


@dataclass(frozen=True, slots=True)
class Gate:
    """Implements `ports.Gate` for what a recording took up to some byte."""

    recording: Recording
    taken: int

    async def passed(self) -> None:
        """Return when the event may be forwarded. Raises BastionError(RECORD_UNAVAILABLE)."""
        await self.recording.settled(self.taken)


class _Buffer:
    """Encoded frames that will be one chunk."""

    def __init__(self) -> None:
        self._frames = bytearray()
        self._t0_us = self._t1_us = 0

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
