"""Transcripts as asciicast v2, the format of asciinema's player; used by cli.audit_replay.

https://docs.asciinema.org/manual/asciicast/v2: a JSON header line, then one
JSON array per event: seconds since the start, a code, data. Sizes are COLSxROWS. Text is decoded across frames, so a
character that was cut in two is whole; bytes that are not UTF-8 become U+FFFD.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING

from bastion.wire.transcript import Frame, Kind, parse_resize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bastion.model import WindowSize

_PRINTABLE_FROM = 0x20
_CODES = {Kind.STDOUT: "o", Kind.STDERR: "o", Kind.INPUT: "i"}


def header(size: WindowSize, *, started_at_s: int, title: str, term: str) -> str:
    """The first line. started_at_s: seconds since 1970; term: the terminal's type, "" if there was none."""
    value = {
        "version": 2,
        "width": size.cols,
        "height": size.rows,
        "timestamp": started_at_s,
        "title": _plain(title),
        "env": {"TERM": _plain(term)} if term else {},
    }
    return json.dumps(value)


class Events:
    """Makes the lines after the header, from frames in order of time."""

    def __init__(self) -> None:
        self._decoders = {kind: _decoder() for kind in (Kind.STDOUT, Kind.STDERR, Kind.INPUT)}
        self._at_us = 0

    def lines(self, frame: Frame) -> Iterator[str]:
        """The lines of one frame: none while a character is cut in two. Raises TranscriptError for a bad frame."""
        self._at_us = frame.at_us
        match frame.kind:
            case Kind.RESIZE:
                yield _event(frame.at_us, "r", str(parse_resize(frame.data)))
            case Kind.MARKER:
                yield _event(frame.at_us, "m", _plain(frame.data.decode(errors="replace")))
            case kind:
                if text := self._decoders[kind].decode(frame.data):
                    yield _event(frame.at_us, _CODES[kind], text)

    def end(self) -> Iterator[str]:
        """The lines of characters that were never finished."""
        for kind, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                yield _event(self._at_us, _CODES[kind], text)


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


def _event(at_us: int, code: str, data: str) -> str:
    # Written out, because a float would round the microseconds of long sessions.
    return f'[{at_us // 1_000_000}.{at_us % 1_000_000:06d}, "{code}", {json.dumps(data)}]'


def _plain(text: str) -> str:
    """Without control characters, which have no business in titles and markers."""
    return "".join(char if ord(char) >= _PRINTABLE_FROM else " " for char in text)
