"""The portforward subresource over WebSocket and SPDY; used by subresources.

Facts (tests/data/kube-wire, portforward-*): the first message on each channel is the port; a port that nobody listens
on is text on the error channel; there is no half-close. kubectl speaks SPDY/3.1, inside a WebSocket or without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING

from bastion.localcluster import statuses, subprotocols, websocket
from bastion.localcluster.http import Response
from bastion.localcluster.podtraffic import Traffic
from bastion.localcluster.spdyforward import SpdyForward
from bastion.localcluster.websocket import Opcode, WebSocket

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bastion.localcluster.connection import Connection
    from bastion.localcluster.execs import Execs
    from bastion.localcluster.http import Request
    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.runtime import ContainerName
    from bastion.localcluster.store import Object
    from bastion.localcluster.subprotocols import Subprotocol

TUNNEL = "SPDY/3.1+portforward.k8s.io"
"""SPDY frames in binary messages: what kubectl 1.31 and newer use."""

_SPDY, _SPDY_PROTOCOL = "SPDY/3.1", "portforward.k8s.io"
_MOST_PORT = 65535


async def serve(  # noqa: PLR0913, PLR0917 - a stream's parts, no more
    request: Request, connection: Connection, execs: Execs, kubelet: Kubelet, name: ContainerName, pod: Object
) -> None:
    """Upgrade, forward and finish the connection. Raises ApiError before the upgrade."""
    traffic = Traffic(pod, kubelet)
    if not websocket.is_upgrade(request):
        connection.write(_accept_spdy(request).head())
        with execs.open(connection, name):
            await _until_gone(SpdyForward(traffic, _Plain(connection)).run(), connection)
            await connection.finish()
        return
    offered = websocket.offered(request)
    if TUNNEL in offered:
        connection.write(websocket.accept(request, TUNNEL).head())
        with execs.open(connection, name):
            socket = WebSocket(connection)
            await _until_gone(SpdyForward(traffic, _Tunnel(socket)).run(), connection)
            await socket.finish()
        return
    spoken = subprotocols.choose(offered, subprotocols.PORT_FORWARD)
    if spoken is None:
        raise statuses.no_subprotocol()
    ports = _ports(request)
    connection.write(websocket.accept(request, spoken.name).head())
    with execs.open(connection, name):
        socket = WebSocket(connection)
        await _until_gone(_Channels(socket, spoken, traffic, ports).run(), connection)
        await socket.finish()


class _Channels:
    """The channels of one WebSocket: data on 2k and errors on 2k+1, for the k-th port."""

    def __init__(self, socket: WebSocket, spoken: Subprotocol, traffic: Traffic, ports: list[int]) -> None:
        self._socket = socket
        self._spoken = spoken
        self._traffic = traffic
        self._ports = ports
        self._writers: dict[int, asyncio.Future[asyncio.StreamWriter | None]] = {}

    async def run(self) -> None:
        """Until every port's connection has ended, or the client leaves."""
        for index, port in enumerate(self._ports):
            for channel in (2 * index, 2 * index + 1):
                await self._send(channel, struct.pack("<H", port))
            self._writers[2 * index] = asyncio.get_running_loop().create_future()
        await _first_of(self._outputs(), self._inputs())

    async def _outputs(self) -> None:
        await asyncio.gather(*(self._output(index, port) for index, port in enumerate(self._ports)))

    async def _output(self, index: int, port: int) -> None:
        try:
            reader, writer = await self._traffic.connect(port)
        except ConnectionRefusedError as error:
            self._writers[2 * index].set_result(None)
            await self._send(2 * index + 1, str(error).encode())
            return
        self._writers[2 * index].set_result(writer)
        try:
            while data := await self._traffic.read(reader):
                await self._send(2 * index, data)
        finally:
            del self._writers[2 * index]
            writer.transport.abort()

    async def _inputs(self) -> None:
        channel, message = -1, bytearray()
        while (piece := await self._socket.receive()) is not None:
            data = piece.data
            if self._spoken.text:
                message += data
                if not piece.last:
                    continue
                data = self._spoken.parse(bytes(message))
                message.clear()
            if piece.first or self._spoken.text:
                channel, data = (data[0], data[1:]) if data else (-1, b"")
            connected = self._writers.get(channel)
            if connected is not None and (writer := await connected) is not None:  # early input waits for its port
                await self._traffic.write(writer, data)

    async def _send(self, channel: int, data: bytes) -> None:
        opcode, parts = self._spoken.message(channel, data)
        await self._socket.send(opcode, *parts)


async def _until_gone(work: Coroutine[None, None, None], connection: Connection) -> None:
    """Do the work, but no longer than the client is there, even while a pod does not take its input."""
    await _first_of(work, connection.wait_gone())


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    """Do all, and end them when one ends."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ports(request: Request) -> list[int]:
    """What is asked for. Raises ApiError: 400 in the kubelet's words (which name another parameter)."""
    values = [value.decode(errors="replace") for key, value in request.query if key == "ports"]
    words = [word.strip() for value in values for word in value.split(",")]
    if not words:
        raise statuses.plain(400, 'query parameter "port" is required')
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word) <= _MOST_PORT):
            raise statuses.plain(400, f'unable to parse "{word}" as a port')
    return [int(word) for word in words]


def _accept_spdy(request: Request) -> Response:
    """The 101 for a client without WebSocket. Raises ApiError: 400, or 403 for another protocol."""
    if request.header("upgrade").lower() != _SPDY.lower():
        raise statuses.bad_request("Upgrade request required")
    if _SPDY_PROTOCOL not in request.header_values("x-stream-protocol-version"):
        raise statuses.no_subprotocol()
    upgrade = (("Connection", "Upgrade"), ("Upgrade", _SPDY), ("X-Stream-Protocol-Version", _SPDY_PROTOCOL))
    return Response(status=101, headers=upgrade)


class _Plain:
    """SPDY straight on the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self) -> bytes:
        """What comes; b"" at the end."""
        with contextlib.suppress(ConnectionError):
            await self._connection.pass_hold()
            return await self._connection.reader.read(websocket.PIECE)
        return b""

    async def write(self, data: bytes) -> None:
        """Send. Raises ConnectionResetError."""
        await self._connection.drain()
        self._connection.write(data)


class _Tunnel:
    """SPDY in the binary messages of a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """What comes; b"" at the end."""
        while (piece := await self._socket.receive()) is not None:
            if piece.data:
                return piece.data
        return b""

    async def write(self, data: bytes) -> None:
        """Send. Raises ConnectionResetError."""
        await self._socket.send(Opcode.BINARY, data)
