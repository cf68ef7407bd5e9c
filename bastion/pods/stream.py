"""A running exec: WebSocket frames to pod events, client events to frames; made by pods.execs.

A reader task takes frames off the socket as they come, so that small ones
(what a PTY makes) are joined while the session is busy with the last. It stops
at 256 KiB, which stops the socket and, through it, the pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp

from bastion.errors import BastionError, Code
from bastion.events import ClientEvent, Exited, HungUp, Input, InputClosed, Output, PodEvent, Resized, Signalled
from bastion.model import Stream
from bastion.pods import boot, ends
from bastion.pods.delivery import Delivery
from bastion.pods.endmark import EndMark
from bastion.wire import remotecommand
from bastion.wire.remotecommand import Channel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from bastion.pods.boot import Boot

OUTPUT_LIMIT = 32 * 1024
"""The most bytes of one Output."""

QUEUE_LIMIT = 256 * 1024
"""Bytes read ahead of the session."""

PING_EVERY_S = 5.0
SILENCE_S = 20.0
"""Without a frame or a pong for this long, while we are reading, the connection is dead."""

HELD_ON_THE_WAY = 64 * 1024 * 1024
"""More bytes of input than buffers between us and a process hold: if they went, somebody read them."""

MOST_UNANSWERED = 7
"""What TCP may send again, each time after twice as long, until the peer counts as gone: for some 25 s."""

HELD_FOR_S = 0.1
"""How long a byte waits that may be the first of the end mark; the rest of that comes at once."""

READY_WITHIN_S = 30.0
"""How long a container may take from the upgrade to the ready mark."""

_CONTROL = {"INT": b"\x03", "QUIT": b"\x1c", "TSTP": b"\x1a"}


async def _as_it_is(end: Exited, _idle_s: float) -> Exited:
    return end


async def _unasked() -> bool:
    return False


async def _nowhere(name: str) -> str:
    return f"signal {name} was not delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a stream asks for that is not on it.

    explain: an end and the seconds since anything passed, to the end as the person is to hear it.
    signal: delivers a signal by its name, and returns why it could not, "" if it could.
    is_reachable: whether the API server answers soon, asked for something else on another connection.
    """

    explain: Callable[[Exited, float], Awaitable[Exited]] = _as_it_is
    signal: Callable[[str], Awaitable[str]] = _nowhere
    is_reachable: Callable[[], Awaitable[bool]] = _unasked


class WebSocketExec:
    """Fills ports.ExecStream. `started` is to be awaited once, before anything else."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, *, boot: Boot, tty: bool, around: Around) -> None:
        """Take over an open WebSocket."""
        self._ws = ws
        self._boot = boot
        self._tty = tty
        self._blocks = False  # whether framed input may be blocks
        self._mark = EndMark(boot.ended)
        self._input_closed = False
        self._around = around
        self._queue: deque[Output] = deque()
        self._queued = 0
        self._end: Exited | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._heard = self._passed = time.monotonic()
        self._asked: float | None = None  # when input was sent that nothing has followed
        self._sending = 0  # writes that wait for the pod to read
        self._sent = self._taken = 0  # bytes of frames, and of those before the last ping that was answered
        self._delivery = Delivery(around.signal, self._complain)
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._read(), "pod-read")
        self._start(self._ping(), "pod-ping")

    @property
    def protocol(self) -> str:
        """The WebSocket subprotocol in use."""
        return self._ws.protocol or ""

    @property
    def unanswered_s(self) -> float:
        """For how many seconds nothing has come back for what was typed on a terminal; 0 if nothing was."""
        return time.monotonic() - self._asked if self._asked is not None else 0.0

    async def started(self) -> None:
        """Return once the process runs. Raises BastionError (NO_SHELL, NOT_STARTED, STREAM_BROKEN)."""
        said: list[Output] = []
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while self._boot.ready and self._may_begin(said):
                    event = await self.next_event()
                    if isinstance(event, Exited):
                        stdout, stderr = _of(said, Stream.STDOUT), _of(said, Stream.STDERR)
                        end = ends.begun(event, stdout, stderr)
                        if end is event and not self._may_be_mark(stdout):
                            break  # what looked like a runtime's complaint was somebody's output
                        raise ends.never_started(end)
                    said.append(event)
        except TimeoutError as error:
            raise BastionError(
                Code.NOT_STARTED, f"the container did not start the session within {READY_WITHIN_S:.0f} s"
            ) from error
        stdout = _of(said, Stream.STDOUT)
        mark = next((one for one in self._boot.marks if stdout.startswith(one)), b"")
        self._blocks = bool(mark) and mark == self._boot.ready_for_blocks
        rest = stdout.removeprefix(mark)
        errors = [one for one in said if one.stream is Stream.STDERR]
        self._put_back([*errors, *([Output(Stream.STDOUT, rest)] if rest else [])])

    def _may_begin(self, said: list[Output]) -> bool:
        """Whether to wait for the mark of our sh; if not, it has come, or this is somebody else's, who talks first."""
        stdout = _of(said, Stream.STDOUT)
        if sum(len(one.data) for one in said) > QUEUE_LIMIT or stdout.startswith(self._boot.marks):
            return False
        return self._may_be_mark(stdout) or ends.may_complain(stdout)

    def _may_be_mark(self, stdout: bytes) -> bool:
        return any(one.startswith(stdout) for one in self._boot.marks)

    async def next_event(self) -> PodEvent:
        """Wait for output, or for the one `Exited` that ends the stream."""
        while not self._queue:
            if self._end is not None:
                return await self._around.explain(self._end, time.monotonic() - self._passed)
            self._wake.clear()
            await self._wake.wait()
        first = self._queue.popleft()
        parts, size = [first.data], len(first.data)
        while self._queue and self._queue[0].stream is first.stream:
            if size + len(self._queue[0].data) > OUTPUT_LIMIT:
                break
            parts.append(self._queue.popleft().data)
            size += len(parts[-1])
        self._queued -= size
        if self._queued < QUEUE_LIMIT:
            self._room.set()
        return Output(first.stream, b"".join(parts)) if len(parts) > 1 else first

    async def send(self, event: ClientEvent) -> None:
        """Pass on input, its end, a size or a signal; returns when more may be sent."""
        match event:
            case Input() if self._mark.found:
                pass  # nobody is there to read it
            case Input(data=data):
                if self._tty and self._asked is None:
                    self._asked = time.monotonic()  # whoever types sees something; who pipes need not
                await self._frame(b"\x00" + self._as_taken(data))
            case InputClosed():
                await self._close_input()
            case Resized(size=size):
                if self._tty:
                    await self._frame(remotecommand.resize(size))
            case Signalled(name=name):
                if self._tty and name in _CONTROL:
                    await self._frame(b"\x00" + _CONTROL[name])
                else:
                    self._delivery.take(name, self._start)
            case HungUp():
                pass

    async def close(self) -> None:
        """Close the connection, within a second; the process is not ended by it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(1.5):
                    await self._ws.close()

    def _as_taken(self, data: bytes) -> bytes:
        return boot.framed(data, blocks=self._blocks) if self._boot.framed_input else data

    async def _close_input(self) -> None:
        if self._input_closed:
            return
        self._input_closed = True
        if self._tty:
            self._start(self._end_terminal(), "pod-end-of-input")
        elif self._boot.framed_input:
            await self._frame(b"\x00" + boot.framed_end)
        elif self.protocol == remotecommand.V5:
            await self._frame(remotecommand.CLOSE_STDIN)
        else:
            self._put(Stream.STDERR, b"bastion: this cluster cannot pass on the end of input; the program may wait\n")

    async def _end_terminal(self) -> None:
        """Type Ctrl-D, a terminal's end of file (a CLOSE does nothing for a tty: recorded).

        One that arrives while a line editor changes the terminal's mode is lost, so it is typed
        again at growing intervals for as long as the process goes on.
        """
        pause = 0.5
        while self._end is None:
            await self._frame(b"\x00\x04")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 60.0)

    def _complain(self, complaint: str) -> None:
        end = "\r\n" if self._tty else "\n"
        self._put(Stream.STDERR, f"bastion: {complaint}{end}".encode())

    def end(self, reason: str) -> None:
        """Take the stream for broken, if it has not ended by itself; why is known, and not asked for again."""
        if self._end is None:
            self._around = replace(self._around, explain=_as_it_is)
        self._finish(ends.broken(reason))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _frame(self, data: bytes) -> None:
        self._passed = time.monotonic()
        self._sent += len(data)
        # A write that fails is no news of its own: the reader finds out why, and says so.
        self._sending += 1
        try:
            with contextlib.suppress(aiohttp.ClientError, OSError, RuntimeError):
                await self._ws.send_bytes(data)
        finally:
            self._sending -= 1

    async def _read(self) -> None:
        try:
            while self._end is None:
                await self._room.wait()
                self._take(await self._ws.receive())
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            self._finish(ends.broken(f"the connection to the pod broke ({type(error).__name__})"))

    def _take(self, message: aiohttp.WSMessage) -> None:
        self._heard = time.monotonic()
        match message.type:
            case aiohttp.WSMsgType.BINARY:
                self._take_frame(message.data)
            case aiohttp.WSMsgType.PING:
                # not awaited here: a write may wait for a pod that waits for us to read
                self._start(self._pong(message.data), "pod-pong")
            case aiohttp.WSMsgType.PONG:
                if message.data.isdigit():
                    self._taken = min(max(self._taken, int(message.data)), self._sent)
            case aiohttp.WSMsgType.TEXT:
                pass
            case _:
                self._finish(ends.broken("the connection to the pod was lost"))

    def _take_frame(self, frame: bytes) -> None:
        if not frame:
            return
        self._passed, self._asked = self._heard, None
        if frame[0] == Channel.STATUS:
            self._finish(ends.ended(remotecommand.parse_status(frame[1:])))
        elif frame[0] == Channel.STDOUT:
            self._say(Stream.STDOUT, frame[1:])
        elif frame[0] == Channel.STDERR:
            self._say(Stream.STDERR, self._mark.take(frame[1:]))
            if self._mark.found and not self._input_closed:
                self._start(self._close_input(), "pod-drain")
            elif self._mark.is_doubtful:
                self._start(self._release(), "pod-held")

    async def _release(self) -> None:
        await asyncio.sleep(HELD_FOR_S)
        if self._mark.is_doubtful:
            self._say(Stream.STDERR, self._mark.release())

    def _say(self, stream: Stream, data: bytes) -> None:
        for at in range(0, len(data), OUTPUT_LIMIT):
            self._put(stream, data[at : at + OUTPUT_LIMIT])

    def _put(self, stream: Stream, data: bytes) -> None:
        self._queue.append(Output(stream, data))
        self._queued += len(data)
        if self._queued >= QUEUE_LIMIT:
            self._room.clear()
        self._wake.set()

    async def _pong(self, data: bytes) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError, RuntimeError):
            await self._ws.pong(data)

    async def _ping(self) -> None:
        while self._end is None:
            await asyncio.sleep(PING_EVERY_S)
            if self._peer_is_gone():
                self._finish(ends.broken("the connection to the API server is dead"))
            elif not self._room.is_set() or self._sending:
                # We do not listen, or our pings wait behind input that the pod does not read: silence means nothing.
                self._heard = time.monotonic()
            elif (
                self._silent_s > SILENCE_S - PING_EVERY_S and self._may_be_unread and await self._around.is_reachable()
            ):
                self._heard = time.monotonic()
            elif self._silent_s > SILENCE_S:
                self._finish(ends.broken(f"no answer from the API server for {SILENCE_S:.0f} s"))
            with contextlib.suppress(aiohttp.ClientError, OSError, RuntimeError, TimeoutError):
                async with asyncio.timeout(PING_EVERY_S):
                    await self._ws.ping(b"%d" % self._sent)

    @property
    def _silent_s(self) -> float:
        return time.monotonic() - self._heard

    @property
    def _may_be_unread(self) -> bool:
        """Whether pings may wait behind input that the process does not read.

        What passes input on reads nothing more of a connection while the process does not read, and so no ping, while
        buffers on the way hold megabytes: so do the kubelet's v4 (1.20) and the API server's v5 (1.36).
        """
        return 0 < self._sent - self._taken <= HELD_ON_THE_WAY

    def _peer_is_gone(self) -> bool:
        """Whether TCP hears nothing of the peer: neither that it has what was sent nor that it has no room for more."""
        tcp = self._ws.get_extra_info("socket")
        if tcp is None or not hasattr(socket, "TCP_INFO"):
            return False
        try:
            _state, _congestion, again, probes = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)
        except OSError:
            return True
        return bool(again + probes >= MOST_UNANSWERED)

    def _put_back(self, outputs: list[Output]) -> None:
        self._queue.extendleft(reversed(outputs))
        self._queued += sum(len(output.data) for output in outputs)

    def _finish(self, end: Exited) -> None:
        self._say(Stream.STDERR, self._mark.release())
        self._end = self._end or end
        self._wake.set()


def _of(said: list[Output], stream: Stream) -> bytes:
    return b"".join(one.data for one in said if one.stream is stream)
