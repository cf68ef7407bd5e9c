"""Port-forward over SPDY/3.1: many connections to many ports on one; used by portforward.

For each connection the client opens two streams with the same `requestid`: `streamtype: error`, on which it says
nothing, and `streamtype: data` (Kubernetes, "portforward.k8s.io" protocol).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from bastion.localcluster import spdy
from bastion.localcluster.websocket import ProtocolError

if TYPE_CHECKING:
    from bastion.localcluster.podtraffic import Traffic

MOST_STREAMS = 1000
"""Open at once; more are reset."""


class Carrier(Protocol):
    """What the frames travel in."""

    async def read(self) -> bytes:
        """What comes; b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Send once the peer has room. Raises ConnectionResetError if it is gone."""


class SpdyForward:
    """One client's streams."""

    def __init__(self, traffic: Traffic, carrier: Carrier) -> None:
        self._traffic = traffic
        self._read = carrier.read
        self._write = carrier.write
        self._encoder = spdy.Encoder()
        self._errors: dict[str, int] = {}  # streams by requestid, until their other half comes
        self._inputs: dict[int, asyncio.Queue[bytes | None]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until the client leaves. Raises ProtocolError, or ConnectionResetError if it vanished."""
        decoder = spdy.Decoder()
        try:
            while data := await self._read():
                for frame in decoder.feed(data):
                    await self._take(frame)
        except spdy.SpdyError as error:
            raise ProtocolError(str(error)) from None
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Opened():
                await self._open(frame)
            case spdy.Data():
                held = self._inputs.get(frame.stream)
                if held is not None and frame.data:
                    await held.put(frame.data)
                if held is not None and frame.fin:
                    await held.put(None)
            case spdy.Reset():
                task = self._tasks.get(frame.stream)
                if task is not None:
                    task.cancel()
            case spdy.Ping():
                await self._write(self._encoder.ping(frame.number))
            case spdy.GoAway():
                pass

    async def _open(self, opened: spdy.Opened) -> None:
        headers, stream = opened.headers, opened.stream
        request, port = headers.get("requestid", ""), headers.get("port", "")
        known = headers.get("streamtype") in ("error", "data") and port.isascii() and port.isdigit()
        if not known or stream in self._tasks or len(self._tasks) + len(self._errors) >= MOST_STREAMS:
            await self._write(self._encoder.reset(stream))
            return
        await self._write(self._encoder.accepted(stream))
        if headers["streamtype"] == "error":
            self._errors[request] = stream
            return
        self._inputs[stream] = asyncio.Queue(1)
        task = asyncio.ensure_future(self._forward(stream, self._errors.pop(request, None), int(port)))
        self._tasks[stream] = task
        task.add_done_callback(lambda _: self._forget(stream))

    def _forget(self, stream: int) -> None:
        del self._tasks[stream]
        held = self._inputs.pop(stream)
        while not held.empty():
            held.get_nowait()  # so that whoever waits to put something is let go

    async def _forward(self, stream: int, error_stream: int | None, port: int) -> None:
        """One connection to the pod, from its beginning to the end of both streams."""
        said = b""
        try:
            reader, writer = await self._traffic.connect(port)
        except ConnectionRefusedError as error:
            said = str(error).encode()
        else:
            taking = asyncio.ensure_future(self._take_input(self._inputs[stream], writer))
            try:
                while data := await self._traffic.read(reader):
                    await self._write(self._encoder.data(stream, data))
            finally:
                taking.cancel()
                writer.transport.abort()
        if error_stream is not None:
            await self._write(self._encoder.data(error_stream, said, fin=True))
        await self._write(self._encoder.data(stream, b"", fin=True))

    async def _take_input(self, held: asyncio.Queue[bytes | None], writer: asyncio.StreamWriter) -> None:
        while (data := await held.get()) is not None:
            await self._traffic.write(writer, data)
        if writer.can_write_eof():
            writer.write_eof()
        while await held.get() is not None:
            pass  # nothing may follow the end
