"""The way to the API server: requests that cannot go astray, tried again where that helps; used by the rest of pods.

Requests are ours: the library's streams are limited to 100, speak v4 only and lose the
server's reason when it refuses, its typed calls cannot repeat Impersonate-Group, and take
more time than all else that opens a session.
"""

from __future__ import annotations

import asyncio
import json
import socket
from asyncio.sslproto import SSLProtocol
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict

from bastion.pods.answers import (
    REQUEST_TIMEOUT_S,
    NoAnswerError,
    Refused,
    cannot_answer,
    failure,
    is_good,
    is_node_away,
    may_pass,
    not_understood,
    raise_for,
)
from bastion.pods.requests import Request, impersonation
from bastion.pods.retry import Passing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.connector import AddrInfoType
    from yarl import URL

    from bastion.model import KubeIdentity
    from bastion.pods.configuration import ClusterConfiguration
    from bastion.pods.retry import Retries
    from bastion.ports import Tell

Answer = TypeVar("Answer")

CONNECT_TIMEOUT_S = 15.0
"""How long an upgrade may take before the API server counts as unavailable."""

SSLProtocol.max_size = 24 * 1024  # asyncio's own is 256 KiB
# Each TLS connection holds a buffer of this size for as long as it lives, and idle sessions are many; nor should
# one busy pod keep everybody else waiting for as long as it takes to decrypt and pass on a quarter of a megabyte.

_KEEPALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 10,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 2,
}
"""tcp(7): seconds of silence, seconds between questions, and how many may go unanswered."""


class Api:
    """One API server and our credentials for it."""

    def __init__(self, configuration: ClusterConfiguration, retries: Retries, *, impersonating: bool = True) -> None:
        """`impersonating`: calls for a person are made as that person, and otherwise as the bastion itself."""
        self._configuration = configuration
        self._retries = retries
        self.impersonating = impersonating
        ourselves = {hdrs.USER_AGENT: f"bastion/{version('bastion')}"}  # the API server's audit log keeps it
        self._requests = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=_watched_socket),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            headers=ourselves,
            cookie_jar=aiohttp.DummyCookieJar(),  # what one person's answer sets is not the next one's to send
        )
        # A stream has a connection of its own, always a new one: a request that may have begun is not sent twice.
        self._streams = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_watched_socket),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            headers=ourselves,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=[_keep_refusal],
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._streams.close()
        await self._requests.close()

    async def get(
        self,
        *path: str,
        query: Sequence[tuple[str, str]] = (),
        identity: KubeIdentity | None = None,
        tell: Tell | None = None,
    ) -> Any:
        """Ask for what is at a path, as a person or (None) as the bastion itself; returns the JSON.

        Tried again while that may help; `tell` shows it to a person who waits.
        Raises Refused if there is no such thing (404) or no such page any more (410), and BastionError:
        CLUSTER_DENIED, CLUSTER_UNAVAILABLE, INVALID.
        """
        return await self._json(Request(path=path, query=query, identity=identity, tell=tell))

    async def post(
        self, *path: str, body: Mapping[str, Any], identity: KubeIdentity | None = None, tell: Tell | None = None
    ) -> Any:
        """Have a question answered that is put as an object; returns the JSON. Raises as `get`."""
        data = json.dumps(body).encode()
        return await self._json(Request(method="POST", path=path, body=data, identity=identity, tell=tell))

    async def patch(
        self,
        *path: str,
        body: Mapping[str, Any],
        content_type: str,
        identity: KubeIdentity | None = None,
        tell: Tell | None = None,
    ) -> Any:
        """Have something changed, by a patch that may arrive twice without harm; returns the JSON.

        Raises as `get`, and Refused for what is not possible as things stand (409, 422).
        """
        data = json.dumps(body).encode()
        return await self._json(
            Request(method="PATCH", path=path, body=data, content_type=content_type, identity=identity, tell=tell)
        )

    @asynccontextmanager
    async def streaming(
        self,
        *path: str,
        query: Sequence[tuple[str, str]] = (),
        identity: KubeIdentity | None = None,
        tell: Tell | None = None,
        patiently: bool = False,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A GET whose answer comes as it is made (a watch, a log).

        patiently: opening it is tried again while that may help, until its headers are in; `tell` shows it to a person
        who waits. A watch has a patience of its own.
        What reads it raises aiohttp.ClientError when the connection breaks. Raises as `get`, entering, and Refused for
        what is there but not in that way (400: no such log; 410: a version that is forgotten).
        """
        request = Request(path=path, query=query, identity=identity, tell=tell, patiently=patiently)
        try:
            response = await self._tried(request, lambda: self._begun(request))
        except Refused as refused:
            if refused.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.GONE}:
                raise
            raise_for(refused, request.identity)
        async with response:
            yield response.content

    def stream_lost(self, path: Sequence[str], error: Exception) -> None:
        """Write down how a stream broke while it was read: the library's words are for operators."""
        why = failure(error, self._configuration).detail
        self._retries.log.warning("api.stream_lost", what=f"GET /{'/'.join(path)}", error=why)

    async def open_stream(self, request: Request, protocol: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket on an API path; tried again, if patiently, only where nothing can have begun.

        Raises Refused if the server answers otherwise than with 101, and BastionError: INVALID if the
        request is longer than a server takes, CLUSTER_UNAVAILABLE if there is no answer.
        """
        url = request.url(self._configuration.server)
        return await self._tried(request, lambda: self._upgraded(url, protocol, request.identity))

    async def _upgraded(
        self, url: URL, protocol: str, identity: KubeIdentity | None
    ) -> aiohttp.ClientWebSocketResponse:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._streams.ws_connect(
                    url,
                    protocols=(protocol,),
                    headers=await self._headers(identity),
                    ssl=self._configuration.tls(),
                    proxy=self._configuration.proxy,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    autoping=False,  # we answer and count them ourselves: a stalled reader must not look dead
                    max_msg_size=0,
                    compress=0,
                )
        except Refused as refused:
            if refused.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
                raise Passing(cannot_answer(refused), refused.retry_after_s) from refused
            raise
        except aiohttp.ClientConnectorError as error:  # nothing was sent
            raise Passing(failure(error, self._configuration)) from error
        except TimeoutError as error:
            raise NoAnswerError(CONNECT_TIMEOUT_S) from error
        except (aiohttp.ClientError, OSError) as error:
            raise failure(error, self._configuration) from error

    async def _json(self, request: Request) -> Any:
        try:
            said = await self._tried(request, lambda: self._once(request))
        except Refused as refused:
            raise_for(refused, request.identity)
        try:
            return json.loads(said)
        except ValueError as error:
            raise not_understood(f"its answer is not JSON: {said[:200]!r}") from error

    async def _tried(self, request: Request, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """What an attempt at a request gives; a patient one is made again while that may help."""
        url = request.url(self._configuration.server)
        try:
            if not request.patiently:
                return await self._believed(attempt)
            what = f"{request.method} {url.path}"
            return await self._retries.make(lambda: self._believed(attempt), what, request.tell)
        except Passing as failed:
            raise failed.error from failed

    async def _believed(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the attempt gives; credentials that are not taken any more are read anew once."""
        try:
            return await attempt()
        except Refused as refused:
            if refused.status != HTTPStatus.UNAUTHORIZED:
                raise
            self._configuration.forget()
            return await attempt()

    async def _once(self, request: Request) -> bytes:
        """The body of a good answer. Raises Passing for what another try may mend, Refused for any other answer."""
        try:
            async with await self._sent(self._requests, request) as response:
                said: bytes = await response.read()
        except TimeoutError as error:
            raise Passing(NoAnswerError(REQUEST_TIMEOUT_S)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Passing(failure(error, self._configuration)) from error
        if is_good(response.status):
            return said
        refused = Refused(response.status, said, response.headers.get("Retry-After", ""))
        if may_pass(refused):
            raise Passing(cannot_answer(refused), refused.retry_after_s)
        raise refused

    async def _begun(self, request: Request) -> aiohttp.ClientResponse:
        """A good answer whose body is yet to come, to be closed. Raises as `_once`.

        That a node is away or silent is not mended by another try.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                response: aiohttp.ClientResponse = await (await self._sent(self._streams, request))
                if is_good(response.status):
                    return response
                async with response:
                    said = await response.read()
        except TimeoutError as error:
            raise NoAnswerError(CONNECT_TIMEOUT_S) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Passing(failure(error, self._configuration)) from error
        refused = Refused(response.status, said, response.headers.get("Retry-After", ""))
        if may_pass(refused) and not is_node_away(refused.message):
            raise Passing(cannot_answer(refused), refused.retry_after_s)
        raise refused

    async def _sent(self, session: aiohttp.ClientSession, request: Request) -> Any:
        """The request, to be entered. It goes where it was meant to go: who we act as is nobody else's to hear."""
        headers = await self._headers(request.identity)
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        return session.request(
            request.method,
            request.url(self._configuration.server),
            data=request.body,
            headers=headers,
            ssl=self._configuration.tls(),
            proxy=self._configuration.proxy,
            allow_redirects=False,
        )

    async def _headers(self, identity: KubeIdentity | None) -> CIMultiDict[str]:
        headers = CIMultiDict(await self._configuration.headers())
        if identity is not None and self.impersonating:
            for name, value in impersonation(identity):
                headers.add(name, value)
        return headers


@asynccontextmanager
async def connect(configuration: ClusterConfiguration, retries: Retries, *, impersonating: bool) -> AsyncIterator[Api]:
    """The way to a cluster's API server, until left. Raises BastionError(INVALID) if the configuration is no good."""
    api = Api(configuration, retries, impersonating=impersonating)
    try:
        yield api
    finally:
        await api.aclose()


def _watched_socket(address: AddrInfoType) -> socket.socket:
    """A socket whose peer is asked for when nothing comes: one that vanished is noticed after some 20 s.

    Watches and followed logs may be silent for long, and have no pings of their own.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    for option, value in _KEEPALIVE.items():
        made.setsockopt(*option, value)
    made.setblocking(False)  # noqa: FBT003 - the signature of the standard library
    return made


async def _keep_refusal(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Read the body of a refused upgrade, which aiohttp would drop: it holds the reason."""
    response = await handler(request)
    if hdrs.UPGRADE in request.headers and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
        body = await response.read()
        after = response.headers.get("Retry-After", "")
        response.close()
        raise Refused(response.status, body, after)
    return response
