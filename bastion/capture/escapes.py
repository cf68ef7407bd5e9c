"""A terminal's stream cut into text, control characters and escape sequences; used by capture and printable.

It takes the stream in any pieces. Forms of sequences are those of ECMA-48 section 5 and xterm. A sequence that is
cut by a control character or that is too long is reported as BROKEN, without its bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SEQUENCE = 128
"""The longest sequence that is reported with its bytes. Strings (OSC, DCS, …) may be longer; theirs never are."""


class What(Enum):
    """What a token is."""

    TEXT = auto()  # bytes from 0x20 on, without DEL; UTF-8 as a rule, perhaps cut in pieces
    CONTROL = auto()  # one byte below 0x20, or DEL
    ESCAPE = auto()  # ESC, intermediates, final
    CSI = auto()  # ESC [ parameters, intermediates, final
    STRING = auto()  # OSC, DCS, SOS, PM or APC as a whole; no bytes are given
    BROKEN = auto()  # a sequence that is none


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the stream; `data` are its bytes, except where `What` says otherwise."""

    what: What
    data: bytes


_TEXT = re.compile(rb"[^\x00-\x1f\x7f]+")
_ESC, _BEL, _CAN, _SUB, _DEL = 0x1B, 0x07, 0x18, 0x1A, 0x7F
_STRINGS = b"]PX^_"


class Tokenizer:
    """Cuts a stream that comes in pieces; what a piece leaves open is finished by later ones."""

    def __init__(self) -> None:
        self._open = bytearray()  # an unfinished sequence, from its ESC on
        self._in_string = False  # inside OSC and the like; then _open holds ESC if that was the last byte

    def feed(self, data: bytes) -> Iterator[Token]:
        """The tokens that this piece finishes. Text is given as soon as it comes."""
        offset = 0
        while offset < len(data):
            if not self._open and not self._in_string and (text := _TEXT.match(data, offset)):
                yield Token(What.TEXT, text.group())
                offset = text.end()
                continue
            yield from self._byte(data[offset])
            offset += 1

    def _byte(self, byte: int) -> Iterator[Token]:
        if self._in_string:
            yield from self._string_byte(byte)
        elif not self._open:
            if byte == _ESC:
                self._open.append(byte)
            else:
                yield Token(What.CONTROL, bytes([byte]))
        elif byte < 0x20 or byte >= _DEL:  # noqa: PLR2004 - no byte of a sequence
            yield from self._abandon(byte)
        else:
            yield from self._sequence_byte(byte)

    def _abandon(self, byte: int) -> Iterator[Token]:
        """A byte that ends a sequence before it is whole, and stands for itself."""
        self._open.clear()
        yield Token(What.BROKEN, b"")
        if byte > _DEL:
            yield Token(What.TEXT, bytes([byte]))
        elif byte == _ESC:
            self._open.append(byte)
        else:
            yield Token(What.CONTROL, bytes([byte]))

    def _sequence_byte(self, byte: int) -> Iterator[Token]:
        if len(self._open) <= MAX_SEQUENCE:  # what is longer is not reported, so it need not be kept
            self._open.append(byte)
        second = self._open[1]
        if len(self._open) == 2 and second in _STRINGS:  # noqa: PLR2004 - the byte after ESC
            self._open.clear()
            self._in_string = True
        elif second == ord("["):
            if len(self._open) > 2 and byte >= 0x40:  # noqa: PLR2004 - a final byte of ECMA-48
                yield self._finish(What.CSI)
        elif byte >= 0x30:  # noqa: PLR2004 - as above, for sequences without parameters
            yield self._finish(What.ESCAPE)

    def _finish(self, what: What) -> Token:
        data = bytes(self._open)
        self._open.clear()
        return Token(what, data) if len(data) <= MAX_SEQUENCE else Token(What.BROKEN, b"")

    def _string_byte(self, byte: int) -> Iterator[Token]:
        after_escape = bool(self._open)
        self._open.clear()
        if byte in {_BEL, _CAN, _SUB} or (after_escape and byte == ord("\\")):
            self._in_string = False
            yield Token(What.STRING, b"")
        elif byte == _ESC:
            self._open.append(byte)
        elif after_escape:
            # ESC and something else: the string is over and a sequence has begun.
            self._in_string = False
            yield Token(What.BROKEN, b"")
            self._open.append(_ESC)
            yield from self._byte(byte)
