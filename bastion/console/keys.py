"""What a terminal sends, as keys (pure); used by console.choosing, spoken by console.menu and console.numbered.

Sequences are those of xterm and of the VT100 family, in normal and in application mode (ECMA-48 section 5.4: CSI).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto


class Key(Enum):
    """A key that is no character."""

    ENTER = auto()
    UP = auto()
    DOWN = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()
    FIRST = auto()
    LAST = auto()
    BACKSPACE = auto()
    ERASE_WORD = auto()
    ERASE_LINE = auto()
    REDRAW = auto()
    ESCAPE = auto()
    INTERRUPT = auto()
    END_OF_INPUT = auto()
    PASTE_BEGINS = auto()
    PASTE_ENDS = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Character:
    """A key that stands for itself."""

    text: str


Press = Key | Character

LONGEST = 32
"""Bytes; what begins like a sequence and does not end by then is none."""

_CONTROLS = {
    0x03: Key.INTERRUPT,
    0x04: Key.END_OF_INPUT,
    0x08: Key.BACKSPACE,
    0x0A: Key.ENTER,
    0x0C: Key.REDRAW,
    0x0D: Key.ENTER,
    0x0E: Key.DOWN,
    0x10: Key.UP,
    0x15: Key.ERASE_LINE,
    0x17: Key.ERASE_WORD,
    0x7F: Key.BACKSPACE,
}
_ESC = 0x1B
_SEQUENCE = re.compile(rb"\x1b(?:O[ -~]|\[[0-?]*[ -/]*[@-~])")
_OPEN = re.compile(rb"\x1b(?:O|\[[0-?]*[ -/]*)?")
_FINALS = {b"A": Key.UP, b"B": Key.DOWN, b"H": Key.FIRST, b"F": Key.LAST}
_NUMBERS = {
    b"1": Key.FIRST,
    b"4": Key.LAST,
    b"5": Key.PAGE_UP,
    b"6": Key.PAGE_DOWN,
    b"7": Key.FIRST,
    b"8": Key.LAST,
    b"200": Key.PASTE_BEGINS,
    b"201": Key.PASTE_ENDS,
}
_LONGEST_CHARACTER = 4

MOST_PASTED = 300
"""Characters of what is pasted at once; a login has hardly more."""


class Typing:
    """What a person types, cut into keys. Of what they paste, only the text of its first line is among them.

    A terminal with xterm's mode 2004 puts what is pasted between two sequences ("bracketed paste").
    """

    def __init__(self) -> None:
        self._data = b""
        self._pasted: int | None = None  # characters that a paste may still give; None: nothing is being pasted

    @property
    def rest(self) -> bytes:
        """What has not become a key yet."""
        return self._data

    @property
    def may_go_on(self) -> bool:
        """Whether there is the beginning of a key, which is another key if nothing follows soon."""
        return bool(self._data) and self._pasted is None

    def feed(self, data: bytes) -> None:
        """More was typed."""
        self._data += data

    def next(self, *, more: bool) -> Press | None:
        """The next key; None until more is typed. more: as for `first`."""
        while (key := self._take(more=more)) is not None:
            if self._pasted is None and key is not Key.PASTE_BEGINS:
                return key
            if self._pasted is None:
                self._pasted = MOST_PASTED
            elif key is Key.PASTE_ENDS:
                self._pasted = None
            elif key is Key.ENTER:
                self._pasted = 0
            elif self._pasted and isinstance(key, Character):
                self._pasted -= 1
                return key
        return None

    def _take(self, *, more: bool) -> Press | None:
        if self._pasted == 0:  # only its end is looked for
            self._data = self._data[at:] if (at := self._data.find(_ESC)) >= 0 else b""
        key, length = first(self._data, more=more or self._pasted is not None)
        self._data = self._data[length:]
        return key


def first(data: bytes, *, more: bool) -> tuple[Press | None, int]:
    """The first key in what was typed, and how many bytes it takes; (None, 0) while it may yet go on.

    more: whether more may come. Without, what is open is what it looks like: a lone escape is the Escape key.
    """
    if not data:
        return None, 0
    if data[0] == _ESC:
        return _sequence(data, more=more)
    if data[0] < 0x20 or data[0] == 0x7F:  # noqa: PLR2004 - the control characters
        return _CONTROLS.get(data[0], Key.OTHER), 1
    return _character(data, more=more)


def _sequence(data: bytes, *, more: bool) -> tuple[Press | None, int]:
    found = _SEQUENCE.match(data, 0, LONGEST)
    if found:
        return _meaning(found.group()), found.end()
    if more and len(data) < LONGEST and _OPEN.fullmatch(data):
        return None, 0
    if len(data) > 1 and data[1] not in b"[O\x1b":  # Alt and a key: not ours, and not an Escape
        return Key.OTHER, 2
    return Key.ESCAPE, 1


def _meaning(sequence: bytes) -> Key:
    final, parameters = sequence[-1:], sequence[2:-1].split(b";")
    if final == b"~":
        return _NUMBERS.get(parameters[0], Key.OTHER)
    return _FINALS.get(final, Key.OTHER)


def _character(data: bytes, *, more: bool) -> tuple[Press | None, int]:
    for length in range(1, min(len(data), _LONGEST_CHARACTER) + 1):
        try:
            text = data[:length].decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return Key.OTHER, 1
        else:
            return (Character(text) if text.isprintable() else Key.OTHER), length
    return (None, 0) if more else (Key.OTHER, 1)
