"""HTTP/1.1 requests and responses as bytes; used by server to talk and by api to answer.

Why not a library's server: the end of an exec stream has to be the recorded one (Close frame, TLS close_notify and FIN
back to back), and a request line may be a megabyte long. Both need the connection itself (connection.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

MAX_HEAD = (1 << 20) + 4096
"""Bytes of request line and headers; more is a 431 (Go's default, recorded: a URL must stay under about 1 MB)."""

MAX_BODY = 3 << 20
"""Bytes of a request body; the API server's own limit."""

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer. `close`: the connection ends with it. `stream`: the body, in pieces, as long as it lasts."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    stream: AsyncGenerator[bytes, None] | None = None

    def head(self) -> bytes:
        """The bytes before the body."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        if self.stream is not None:
            lines.append("Transfer-Encoding: chunked")
        elif self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body; an empty one ends it (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class BadRequestError(Exception):
    """A request that cannot be read; `response` says so to the peer and ends the connection."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        text = f"{status} {HTTPStatus(status).phrase}"
        self.response = Response(status=status, body=text.encode(), content_type=TEXT, close=True)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came; `target` is the raw request target, header names are lower-case."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The parts of the path between slashes, unquoted."""
        return tuple(unquote(part) for part in self.target.partition("?")[0].strip("/").split("/"))

    @cached_property
    def query(self) -> tuple[tuple[str, bytes], ...]:
        """Names and values in order; values stay bytes, because nothing says that they are UTF-8."""
        pairs = (pair.partition("=") for pair in self.target.partition("?")[2].split("&") if pair)
        return tuple((unquote_plus(name), unquote_to_bytes(value.replace("+", " "))) for name, _, value in pairs)

    def param(self, name: str) -> str:
        """The first query value of that name, or ""."""
        return next((value.decode(errors="replace") for key, value in self.query if key == name), "")

    def flag(self, name: str) -> bool:
        """A query value as Kubernetes reads booleans: there, and neither "false" nor "0"."""
        values = [value for key, value in self.query if key == name]
        return bool(values) and values[0].lower() not in (b"false", b"0")

    def header(self, name: str) -> str:
        """The first header of that lower-case name, or ""."""
        return next(iter(self.header_values(name)), "")

    def header_values(self, name: str) -> tuple[str, ...]:
        """All headers of that lower-case name, in order."""
        return tuple(value for key, value in self.headers if key == name)


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request with its body; None if the peer left before one.

    Raises:
        BadRequestError: it is no HTTP/1.1 request, or too large.
    """
    head = await _read_head(reader)
    if head is None:
        return None
    request = parse_head(head)
    length = request.header("content-length") or "0"
    if request.header("transfer-encoding"):
        raise BadRequestError(HTTPStatus.LENGTH_REQUIRED)
    if not (length.isascii() and length.isdigit()):
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    if len(length) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
        raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        body = await reader.readexactly(int(length))
    except asyncio.IncompleteReadError:
        return None
    return Request(method=request.method, target=request.target, headers=request.headers, body=body)


def parse_head(head: bytes) -> Request:
    """The request line and headers, without a body. Raises BadRequestError."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] != "HTTP/1.1" or not parts[1].startswith("/"):  # noqa: PLR2004 - method, target, version
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequestError(HTTPStatus.BAD_REQUEST)
        headers.append((name.lower(), value.strip()))
    return Request(method=parts[0], target=parts[1], headers=tuple(headers))


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    head = b""
    while True:
        try:
            return head + await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError as error:  # longer than the reader's own limit, which is small on purpose
            head += await reader.readexactly(error.consumed)
            if len(head) > MAX_HEAD:
                raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
