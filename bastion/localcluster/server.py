"""Accepts connections and carries requests to the API; made by __main__."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from bastion.localcluster import statuses
from bastion.localcluster.connection import Connection
from bastion.localcluster.http import BadRequestError, Response, chunk, read_request
from bastion.localcluster.statuses import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bastion.localcluster.api import Api
    from bastion.localcluster.certificates import Certificates
    from bastion.localcluster.http import Request


class Server:
    """HTTPS on one address."""

    def __init__(self, api: Api, certificates: Certificates) -> None:
        self._api = api
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server, certificates.server_key)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._address = ("", 0)

    async def listen(self, host: str, port: int) -> int:
        """Begin to serve; returns the port (0 asked for any)."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self._context, self._ready), host, port)
        bound: int = self._listener.sockets[0].getsockname()[1]
        self._address = host, bound
        return bound

    def reset(self) -> int:
        """Abort every connection; returns how many there were."""
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    async def pause(self, seconds: float) -> None:
        """Refuse new connections for so long, as a server that restarts."""
        assert self._listener is not None
        family = self._listener.sockets[0].family
        self._listener.close()
        with socket.socket(family) as place:  # keeps the port ours, and does not listen
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(self._address)
            await asyncio.sleep(seconds)
            await self.listen(*self._address)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ready(self, connection: Connection) -> None:
        self._connections.add(connection)
        task = asyncio.ensure_future(self._converse(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, connection: Connection) -> None:
        """Requests and answers until one of the two closes."""
        try:
            while (response := await self._next_answer(connection)) is not None:
                connection.write(replace(response, headers=(*response.headers, _date())).head() + response.body)
                if response.stream is not None and not await _send(response.stream, connection):
                    break
                if response.close:
                    break
                await connection.drain()
            await connection.finish()
        except ConnectionError:
            pass  # the peer left
        finally:
            self._connections.discard(connection)
            connection.abort()

    async def _next_answer(self, connection: Connection) -> Response | None:
        try:
            request = await read_request(connection.reader)
        except BadRequestError as error:
            return error.response
        return None if request is None else await self._answer(request, connection)

    async def _answer(self, request: Request, connection: Connection) -> Response | None:
        try:
            return await self._api.handle(request, connection)
        except ApiError as error:
            return error.response
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one broken request must not end the others
            path = request.target.partition("?")[0]
            print(f"localcluster: {request.method} {path}: {error!r}", file=sys.stderr)  # noqa: T201 - its log
            return statuses.internal_error(HTTPStatus.INTERNAL_SERVER_ERROR.phrase).response


async def _send(stream: AsyncGenerator[bytes, None], connection: Connection) -> bool:
    """Send a body piece by piece, and stop as soon as the peer leaves; False if it did."""
    sending = asyncio.ensure_future(_send_chunks(stream, connection))
    left = asyncio.ensure_future(connection.wait_left())
    try:
        await asyncio.wait((sending, left), return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            return False
        sending.result()
        return True
    finally:
        sending.cancel()
        left.cancel()
        await asyncio.gather(sending, left, return_exceptions=True)
        await stream.aclose()


async def _send_chunks(stream: AsyncGenerator[bytes, None], connection: Connection) -> None:
    async for data in stream:
        if data:
            connection.write(chunk(data))
            await connection.drain()
    connection.write(chunk(b""))


def _date() -> tuple[str, str]:
    """The header that every answer has: clients compare their clocks with it."""
    return "Date", formatdate(usegmt=True)
