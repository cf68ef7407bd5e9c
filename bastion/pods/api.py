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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from bastion.errors import BastionError, Code
from bastion.pods.connecting import REQUEST_TIMEOUT_S, failure, unavailable
from bastion.pods.retry import Passing
from bastion.pods.rights import SESSION_EXTRA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.connector import AddrInfoType

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

URL_LIMIT = 1_000_000
"""A longer request line is refused with 431 before the upgrade (recorded)."""


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    """The server answered an upgrade with something else than 101, or a request with an error."""

    def __init__(self, status: int, body: bytes, retry_after: str = "") -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.retry_after_s = float(retry_after) if retry_after.isdigit() and len(retry_after) < 4 else None  # noqa: PLR2004 - not a date, and not for ever

    @property
    def message(self) -> str:
        """The message of the server's Status object, or its plain text."""
        return status_message(self.body.decode(errors="replace"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A request: what is asked of which path, as whom."""

    method: str
    url: URL
    body: bytes | None = None
    content_type: str = "application/json"
    identity: KubeIdentity | None = None


class Api:
    """One API server and our credentials for it."""

    def __init__(self, configuration: ClusterConfiguration, retries: Retries, *, impersonating: bool = True) -> None:
        """`impersonating`: calls for a person are made as that person, and otherwise as the bastion itself."""
        self._configuration = configuration
        self._retries = retries
        self.impersonating = impersonating
        self._requests = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=_watched_socket),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )
        # A stream has a connection of its own, always a new one: a request that may have begun is not sent twice.
        self._streams = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_watched_socket),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
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
        return await self._json(_Call(method="GET", url=self._url(path, query), identity=identity), tell)

    async def post(
        self, *path: str, body: Mapping[str, Any], identity: KubeIdentity | None = None, tell: Tell | None = None
    ) -> Any:
        """Have a question answered that is put as an object; returns the JSON. Raises as `get`."""
        url = self._url(path, ())
        return await self._json(_Call(method="POST", url=url, body=json.dumps(body).encode(), identity=identity), tell)

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
        call = _Call(method="PATCH", url=self._url(path, ()), body=data, content_type=content_type, identity=identity)
        return await self._json(call, tell)

    @asynccontextmanager
    async def streaming(
        self, *path: str, query: Sequence[tuple[str, str]] = (), identity: KubeIdentity | None = None
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A GET whose answer comes as it is made (a watch, a log that is followed); not tried again.

        What reads it raises aiohttp.ClientError when the connection breaks. Raises as `get`, entering, and Refused for
        what is there but not in that way (400: no such log; 410: a version that is forgotten).
        """
        call = _Call(method="GET", url=self._url(path, query), identity=identity)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    response = await stack.enter_async_context(await self._sent(self._streams, call))
                    said = b"" if response.ok else await response.read()
            except TimeoutError as error:
                raise unavailable(f"no answer within {CONNECT_TIMEOUT_S:.0f} s") from error
            except (aiohttp.ClientError, OSError) as error:
                raise failure(error, self._configuration) from error
            if not response.ok:
                refused = Refused(response.status, said)
                if refused.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.GONE}:
                    raise refused
                _raise_for(refused, call.identity)
            yield response.content

    async def open_stream(  # noqa: PLR0913 - what an exec consists of
        self,
        path: Sequence[str],
        query: Sequence[tuple[str, str]],
        protocol: str,
        identity: KubeIdentity,
        tell: Tell | None = None,
        *,
        patiently: bool = True,
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket on an API path as a person; tried again, if patiently, only where nothing can have begun.

        Raises Refused if the server answers otherwise than with 101, and BastionError: INVALID if the
        request is longer than a server takes, CLUSTER_UNAVAILABLE if there is no answer.
        """
        url = self._url(path, query)

        def attempt() -> Awaitable[aiohttp.ClientWebSocketResponse]:
            return self._believed(lambda: self._upgraded(url, protocol, identity))

        try:
            return await (self._retries.make(attempt, f"exec {url.path}", tell) if patiently else attempt())
        except Passing as failed:
            raise failed.error from failed

    async def _upgraded(self, url: URL, protocol: str, identity: KubeIdentity) -> aiohttp.ClientWebSocketResponse:
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
                raise Passing(_cannot_answer(refused), refused.retry_after_s) from refused
            raise
        except aiohttp.ClientConnectorError as error:  # nothing was sent
            raise Passing(failure(error, self._configuration)) from error
        except TimeoutError as error:
            raise unavailable(f"no answer within {CONNECT_TIMEOUT_S:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise failure(error, self._configuration) from error

    async def _json(self, call: _Call, tell: Tell | None) -> Any:
        def attempt() -> Awaitable[bytes]:
            return self._believed(lambda: self._once(call))

        try:
            said = await self._retries.make(attempt, f"{call.method} {call.url.path}", tell)
        except Refused as refused:
            _raise_for(refused, call.identity)
        try:
            return json.loads(said)
        except ValueError as error:
            raise unavailable(f"its answer is not JSON: {said[:200]!r}") from error

    async def _believed(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the attempt gives; credentials that are not taken any more are read anew once."""
        try:
            return await attempt()
        except Refused as refused:
            if refused.status != HTTPStatus.UNAUTHORIZED:
                raise
            self._configuration.forget()
            return await attempt()

    async def _once(self, call: _Call) -> bytes:
        """The body of a good answer. Raises Passing for what another try may mend, Refused for any other answer."""
        try:
            async with await self._sent(self._requests, call) as response:
                said: bytes = await response.read()
        except TimeoutError as error:
            raise Passing(unavailable(f"no answer within {REQUEST_TIMEOUT_S:.0f} s")) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Passing(failure(error, self._configuration)) from error
        if response.ok:
            return said
        refused = Refused(response.status, said, response.headers.get("Retry-After", ""))
        if refused.status == HTTPStatus.TOO_MANY_REQUESTS or refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Passing(_cannot_answer(refused), refused.retry_after_s)
        raise refused

    async def _sent(self, session: aiohttp.ClientSession, call: _Call) -> Any:
        """The request, to be entered."""
        headers = await self._headers(call.identity)
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        return session.request(
            call.method,
            call.url,
            data=call.body,
            headers=headers,
            ssl=self._configuration.tls(),
            proxy=self._configuration.proxy,
        )

    async def _headers(self, identity: KubeIdentity | None) -> CIMultiDict[str]:
        headers = CIMultiDict(await self._configuration.headers())
        if identity is not None and self.impersonating:
            for name, value in impersonation(identity):
                headers.add(name, value)
        return headers

    def _url(self, path: Sequence[str], query: Sequence[tuple[str, str]]) -> URL:
        """The URL of a path; refuses one that would arrive as another (yarl and aiohttp remove dot segments)."""
        wanted = "/" + "/".join(quote(part, safe="") for part in path)
        asked = f"?{urlencode(query, quote_via=quote, safe='')}" if query else ""
        url = URL(f"{self._configuration.server.rstrip('/')}{wanted}{asked}", encoded=True)
        if not url.raw_path.endswith(wanted) or any(part in {"", ".", ".."} for part in path):
            raise BastionError(Code.INVALID, "this name cannot be asked for", detail=wanted)
        if len(url.raw_path_qs) > URL_LIMIT:
            raise BastionError(
                Code.INVALID, "the command is too long for an API request; send it through standard input instead"
            )
        return url


def impersonation(identity: KubeIdentity) -> list[tuple[str, str]]:
    """The headers by which a call is made as somebody else.

    Raises BastionError(INVALID) for a name that is not the bastion's to give, or that no header can carry.
    """
    headers = [("Impersonate-User", identity.user), *(("Impersonate-Group", group) for group in identity.groups)]
    for _, name in headers:
        if not name.startswith("bastion:") or not name.isascii() or not name.isprintable():
            raise BastionError(Code.INVALID, "this person or group cannot act in the cluster", detail=ascii(name))
    if identity.session:
        headers.append((f"Impersonate-Extra-{SESSION_EXTRA}", identity.session))
    return headers


@asynccontextmanager
async def connect(configuration: ClusterConfiguration, retries: Retries, *, impersonating: bool) -> AsyncIterator[Api]:
    """The way to a cluster's API server, until left. Raises BastionError(INVALID) if the configuration is no good."""
    api = Api(configuration, retries, impersonating=impersonating)
    try:
        yield api
    finally:
        await api.aclose()


def status_message(body: str) -> str:
    """The message of a Status object's JSON; any other text as it is."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip()


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


def _cannot_answer(refused: Refused) -> BastionError:
    return unavailable(f"HTTP {refused.status} {refused.message}", status=refused.status)


def _raise_for(refused: Refused, identity: KubeIdentity | None) -> NoReturn:
    """Raise what an error that no other try will mend is to whoever asked."""
    match refused.status:
        case HTTPStatus.NOT_FOUND | HTTPStatus.CONFLICT | HTTPStatus.GONE | HTTPStatus.UNPROCESSABLE_ENTITY:
            raise refused
        case HTTPStatus.FORBIDDEN if identity is not None:
            raise BastionError(
                Code.CLUSTER_DENIED, "the cluster's own RBAC does not let you do that", detail=refused.message
            )
        case HTTPStatus.FORBIDDEN:
            raise BastionError(
                Code.CLUSTER_DENIED,
                "the bastion itself may not look that up in the cluster; tell its operators (bastion doctor shows what"
                " is missing)",
                detail=refused.message,
            )
        case HTTPStatus.UNAUTHORIZED:
            raise not_accepted(refused.message)
        case _:
            raise _cannot_answer(refused)


def not_accepted(detail: str) -> BastionError:
    """The error for credentials of ours that the API server does not know, or knows no more."""
    return BastionError(
        Code.CLUSTER_UNAVAILABLE,
        "the API server does not accept the bastion's credentials (they may have expired); tell its operators",
        detail=detail,
    )


async def _keep_refusal(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Read the body of a refused upgrade, which aiohttp would drop: it holds the reason."""
    response = await handler(request)
    if hdrs.UPGRADE in request.headers and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
        body = await response.read()
        after = response.headers.get("Retry-After", "")
        response.close()
        raise Refused(response.status, body, after)
    return response
