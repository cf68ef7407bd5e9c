"""Record, then forward: what the recorder promises, on an audit log that the test holds up, lets go or breaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bastion.errors import BastionError, Code
from bastion.events import Exited, HungUp, Input, InputClosed, Output, Resized, Signalled
from bastion.model import Outcome, RecordRules, Stream, WindowSize
from bastion.recorder import FLUSH_AFTER_S, MAX_LOSS_BYTES, Recorder, Recording
from bastion.wire.transcript import Kind, frames_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.records import (
        AuditEvent,
        Chunk,
        CommandEnd,
        CommandRecord,
        ConnectionRecord,
        SessionEnd,
        SessionRecord,
    )
    from bastion.wire.transcript import Frame

BLOCK = 32 * 1024


class HeldLog:
    """Fills `ports.AuditLog` for chunks; commits while `open` is set, fails if there is an `error`."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def append(self, chunks: Sequence[Chunk]) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.chunks.extend(chunks)

    async def open_connection(self, connection: ConnectionRecord) -> None:
        raise NotImplementedError

    async def start_session(self, session: SessionRecord, command: CommandRecord | None) -> None:
        raise NotImplementedError

    async def end_session(self, end: SessionEnd, command: CommandEnd | None) -> None:
        raise NotImplementedError

    async def event(self, event: AuditEvent) -> None:
        raise NotImplementedError

    def frames(self) -> list[Frame]:
        return [frame for expected, chunk in enumerate(self.chunks) for frame in frames_of(chunk, expected)]

    def data(self) -> bytes:
        return b"".join(frame.data for frame in self.frames())


def out(data: bytes) -> Output:
    return Output(Stream.STDOUT, data)


def opened(log: HeldLog, *, record_input: bool = False, pty: bool = False) -> Recording:
    return Recorder(log).open("sess1", RecordRules(input=record_input), pty=pty)


async def test_everything_is_kept_in_order_with_its_time() -> None:
    log = HeldLog()
    recording = opened(log)
    await recording.take(5, out(b"one")).passed()
    await recording.take(1000, Output(Stream.STDERR, b"two")).passed()
    await recording.take(2000, Resized(WindowSize(cols=132, rows=43))).passed()
    await recording.take(3000, Signalled("INT")).passed()
    await recording.take(3500, InputClosed()).passed()
    await recording.take(4000, HungUp("connection lost")).passed()
    await recording.take(5000, Exited(status=255, outcome=Outcome.BROKEN, message="the stream broke")).passed()
    await recording.close()

    assert [(frame.at_us, frame.kind, frame.data) for frame in log.frames()] == [
        (5, Kind.STDOUT, b"one"),
        (1000, Kind.STDERR, b"two"),
        (2000, Kind.RESIZE, b"132x43"),
        (3000, Kind.MARKER, b"signal INT"),
        (4000, Kind.MARKER, b"hung up: connection lost"),
        (5000, Kind.MARKER, b"exit 255: the stream broke"),
    ]


async def test_bulk_output_comes_back_whole_in_chunks() -> None:
    log = HeldLog()
    recording = opened(log)
    sent = b"".join(bytes([n % 256]) * BLOCK for n in range(50))
    for n in range(50):
        await recording.take(n, out(sent[n * BLOCK : (n + 1) * BLOCK])).passed()
    await recording.close()

    assert log.data() == sent
    assert [chunk.seq for chunk in log.chunks] == list(range(len(log.chunks)))
    assert len(log.chunks) <= 50


async def test_a_little_output_is_durable_within_250_ms_and_needs_no_more_events() -> None:
    log = HeldLog()
    recording = opened(log)
    await recording.take(0, out(b"$ ")).passed()
    async with asyncio.timeout(5):
        while not log.chunks:  # noqa: ASYNC110 - the log is a plain fake, asked until the deadline
            await asyncio.sleep(0.005)

    assert log.data() == b"$ "
    assert FLUSH_AFTER_S < 0.25
    await recording.close()


async def test_keystrokes_share_chunks() -> None:
    log = HeldLog()
    recording = opened(log)
    for n in range(50):
        await recording.take(n, out(b"x")).passed()
        await asyncio.sleep(0.01)
    await recording.close()

    assert log.data() == b"x" * 50
    assert len(log.chunks) <= 8


async def test_no_more_than_64_kib_are_ever_taken_that_are_not_durable() -> None:
    log = HeldLog()
    log.open.clear()
    recording = opened(log)
    await recording.take(0, out(b"a" * BLOCK)).passed()
    await recording.take(1, out(b"b" * BLOCK)).passed()
    third = asyncio.create_task(recording.take(2, out(b"c")).passed())
    done, _ = await asyncio.wait({third}, timeout=0.4)
    assert not done
    log.open.set()
    async with asyncio.timeout(5):
        await third
    await recording.close()

    assert MAX_LOSS_BYTES == 2 * BLOCK
    assert log.data() == b"a" * BLOCK + b"b" * BLOCK + b"c"


async def test_nothing_more_is_forwarded_while_something_waits_longer_than_250_ms_for_its_commit() -> None:
    log = HeldLog()
    log.open.clear()
    recording = opened(log)
    await recording.take(0, out(b"tick 1")).passed()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 5
    held = None
    at = 0
    while held is None:
        at += 1
        tick = asyncio.create_task(recording.take(at, out(b"tick")).passed())
        done, _ = await asyncio.wait({tick}, timeout=0.05)
        held = None if done else tick
        assert loop.time() < deadline
    log.open.set()
    async with asyncio.timeout(5):
        await held
    await recording.close()

    assert log.data() == b"tick 1" + b"tick" * at


@pytest.mark.parametrize(
    "error", [BastionError(Code.RECORD_UNAVAILABLE, "gone"), RuntimeError("a fault of ours"), OSError("disk")]
)
async def test_after_a_failed_write_nothing_passes_any_more(error: Exception) -> None:
    log = HeldLog()
    log.error = error
    recording = opened(log)
    await recording.take(0, out(b"a" * BLOCK)).passed()
    async with asyncio.timeout(5):
        await recording.take(1, out(b"b" * BLOCK)).passed()
        with pytest.raises(BastionError):
            await recording.take(2, out(b"c" * BLOCK)).passed()
    log.error = None
    codes = []
    for call in (recording.take(2, out(b"c")).passed(), recording.close(), recording.close()):
        with pytest.raises(BastionError) as refused:
            await call
        codes.append(refused.value.code)

    assert codes == [Code.RECORD_UNAVAILABLE] * 3
    assert log.chunks == []


async def test_who_waits_for_room_is_told_when_the_write_fails() -> None:
    log = HeldLog()
    log.open.clear()
    log.error = OSError("disk")
    recording = opened(log)
    await recording.take(0, out(b"a" * BLOCK)).passed()
    await recording.take(1, out(b"b" * BLOCK)).passed()
    waiting = asyncio.create_task(recording.take(2, out(b"c")).passed())
    await asyncio.sleep(0)
    log.open.set()
    with pytest.raises(BastionError):
        async with asyncio.timeout(5):
            await waiting


async def test_closing_goes_on_when_its_caller_is_cancelled() -> None:
    log = HeldLog()
    log.open.clear()
    recorder = Recorder(log)
    recording = recorder.open("sess1", RecordRules(), pty=False)
    await recording.take(0, out(b"a" * BLOCK)).passed()
    await asyncio.sleep(0)  # the first chunk is on its way
    await recording.take(1, out(b"last words")).passed()
    closing = asyncio.create_task(recording.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    log.open.set()
    async with asyncio.timeout(5):
        await recorder.drain()

    assert log.data() == b"a" * BLOCK + b"last words"


async def test_a_closed_recording_takes_nothing() -> None:
    recording = opened(HeldLog())
    await recording.close()
    with pytest.raises(BastionError) as refused:
        await recording.take(0, out(b"late")).passed()

    assert refused.value.code is Code.RECORD_UNAVAILABLE


async def test_time_that_runs_backwards_stands_still() -> None:
    log = HeldLog()
    recording = opened(log)
    for at_us in (100, 50, 120):
        await recording.take(at_us, out(b"x")).passed()
    await recording.close()

    assert [frame.at_us for frame in log.frames()] == [100, 100, 120]


@pytest.mark.parametrize(("first", "then"), [(False, True), (True, False), (True, True)])
async def test_input_is_kept_from_when_a_second_rule_asks_for_it_and_a_second_rule_never_ends_that(
    *, first: bool, then: bool
) -> None:
    log = HeldLog()
    recording = opened(log, record_input=first)
    recording.take(1, Input(b"before"))
    recording.keep(RecordRules(input=then))
    recording.take(2, Input(b"after"))
    await recording.close()

    kept = [frame.data for frame in log.frames() if frame.kind is Kind.INPUT]
    assert kept == [b"before"] * first + [b"after"]


@pytest.mark.parametrize(
    ("record_input", "pty", "kept"),
    [
        (False, False, b""),
        (False, True, b""),
        (True, False, b"ls\nsecret\n"),
        (True, True, b"ls\n"),
    ],
)
async def test_input_is_kept_only_if_asked_for_and_on_a_terminal_only_if_shown(
    *, record_input: bool, pty: bool, kept: bytes
) -> None:
    log = HeldLog()
    recording = opened(log, record_input=record_input, pty=pty)
    await recording.take(0, Input(b"ls\n")).passed()
    await recording.take(1, out(b"ls\r\nfile\r\nPassword: ")).passed()
    await recording.take(2, Input(b"secret\n")).passed()
    await recording.take(3, out(b"\r\n$ ")).passed()
    await recording.close()
    markers = [frame.data for frame in log.frames() if frame.kind is Kind.MARKER]

    assert b"".join(frame.data for frame in log.frames() if frame.kind is Kind.INPUT) == kept
    assert markers == ([b"input hidden (1-8 keys)"] if record_input and pty else [])
