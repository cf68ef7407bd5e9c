"""SPDY/3.1 frames as far as port-forward needs them; used by spdyforward. Pure.

The format is that of draft-mbelshe-httpbis-spdy-00, section 2. Flow control is left to the connection below, because
the only clients (kubectl, client-go) do not take part in it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

MAX_FRAME = 1 << 20
"""Bytes of one frame's body; a longer one is a broken peer. kubectl sends 32 KiB at most."""

_CONTROL, _VERSION = 0x8000, 3
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 1
_STREAM_ID = 0x7FFF_FFFF
_PIECE = 32 * 1024
_MAX_HEADERS = 64 * 1024


class SpdyError(Exception):
    """Bytes that are not SPDY/3.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The peer opens a stream (SYN_STREAM); header names are lower-case. fin: it will send nothing on it."""

    stream: int
    headers: dict[str, str]
    fin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Bytes on a stream; fin: the last ones."""

    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """The peer gives a stream up (RST_STREAM)."""

    stream: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """To be sent back as it is."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GoAway:
    """The peer opens no more streams."""


Frame = Opened | Data | Reset | Ping | GoAway


class Decoder:
    """Bytes to frames; keeps what is not whole yet."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now; those that nobody needs are left out. Raises SpdyError."""
        self._held += data
        frames: list[Frame] = []
        while len(self._held) >= 8:  # noqa: PLR2004 - the head of a frame
            first, second = struct.unpack_from("!II", self._held)
            length = second & 0xFF_FFFF
            if length > MAX_FRAME:
                raise SpdyError("a frame over the limit")
            if len(self._held) < 8 + length:
                break
            body = bytes(self._held[8 : 8 + length])
            del self._held[: 8 + length]
            frame = self._frame(first, second >> 24, body)
            if frame is not None:
                frames.append(frame)
        return frames

    def _frame(self, first: int, flags: int, body: bytes) -> Frame | None:
        fin = bool(flags & _FIN)
        if not first >> 31:
            return Data(stream=first, data=body, fin=fin)
        if first >> 16 != _CONTROL | _VERSION:
            raise SpdyError("another version of SPDY")
        try:
            return self._control(first & 0xFFFF, body, fin=fin)
        except struct.error:
            raise SpdyError("a short frame") from None

    def _control(self, kind: int, body: bytes, *, fin: bool) -> Frame | None:
        match kind:
            case 1:  # SYN_STREAM
                (stream,) = struct.unpack_from("!I", body)
                return Opened(stream=stream & _STREAM_ID, headers=self._headers(body[10:]), fin=fin)
            case 3:  # RST_STREAM
                (stream,) = struct.unpack_from("!I", body)
                return Reset(stream=stream & _STREAM_ID)
            case 6:  # PING
                return Ping(number=struct.unpack("!I", body)[0])
            case 7:  # GOAWAY
                return GoAway()
            case 8:  # HEADERS: not needed, but the compression goes on
                self._headers(body[4:])
                return None
            case _:
                return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, _MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"headers: {error}") from None
        if self._inflate.unconsumed_tail:
            raise SpdyError("headers over the limit")
        (count,) = struct.unpack_from("!I", plain)
        words, at = [], 4
        for _ in range(min(2 * count, len(plain))):
            (length,) = struct.unpack_from("!I", plain, at)
            words.append(plain[at + 4 : at + 4 + length].decode("latin-1"))
            at += 4 + length
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=False)}


class Encoder:
    """Frames to bytes."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def opened(self, stream: int, headers: dict[str, str], *, fin: bool = False) -> bytes:
        """SYN_STREAM: what a client sends to open a stream."""
        return _control(_SYN_STREAM, struct.pack("!IIH", stream, 0, 0) + self._headers(headers), fin=fin)

    def accepted(self, stream: int) -> bytes:
        """SYN_REPLY without headers: the stream that the peer opened is taken."""
        return _control(_SYN_REPLY, struct.pack("!I", stream) + self._headers({}))

    def data(self, stream: int, data: bytes, *, fin: bool = False) -> bytes:
        """Bytes on a stream, in frames of a moderate size."""
        pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)] or [b""]
        flags = [0] * (len(pieces) - 1) + [_FIN if fin else 0]
        return b"".join(
            struct.pack("!II", stream, flag << 24 | len(piece)) + piece
            for flag, piece in zip(flags, pieces, strict=True)
        )

    def reset(self, stream: int) -> bytes:
        """RST_STREAM with the status CANCEL."""
        return _control(_RST_STREAM, struct.pack("!II", stream, 5))

    def ping(self, number: int) -> bytes:
        """PING."""
        return _control(_PING, struct.pack("!I", number))

    def go_away(self) -> bytes:
        """GOAWAY with the status OK."""
        return _control(_GOAWAY, struct.pack("!II", 0, 0))

    def _headers(self, headers: dict[str, str]) -> bytes:
        words = [word.encode("latin-1") for pair in headers.items() for word in pair]
        plain = struct.pack("!I", len(headers)) + b"".join(struct.pack("!I", len(word)) + word for word in words)
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, body: bytes, *, fin: bool = False) -> bytes:
    return struct.pack("!HHI", _CONTROL | _VERSION, kind, (_FIN if fin else 0) << 24 | len(body)) + body


def _dictionary() -> bytes:
    """What both sides' compression starts from (section 2.6.10.1): common words, each behind its length."""
    words = """
    options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow
    authorization cache-control connection content-base content-encoding content-language content-length
    content-location content-md5 content-range content-type date etag expect expires from host if-match
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade
    user-agent vary via warning www-authenticate method get status
    """.split()  # noqa: SIM905 - shorter than seventy quoted words
    words += ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
    codes = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    phrases = (
        "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
        "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
        "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
        "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
        "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
    )
    return b"".join(struct.pack("!I", len(word)) + word.encode() for word in words) + (codes + phrases).encode()


DICTIONARY = _dictionary()
