"""The lines that a terminal's output makes, as plain text; used by cli.audit_replay for `export --format text`.

It follows what happens on one line (return, backspace, tab, erase, moves to
the left and right). What a program draws on the second screen is left out, and a line says so in its place.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from bastion.capture.escapes import Token, Tokenizer, What

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_COLUMNS = 16_384
"""Where a line ends at the latest."""

_TAB = 8
_CSI = re.compile(rb"\x1b\[([0-9]{0,4})(?:;[0-9]*)*([CDGKP@])")
_LINE_ENDS = {b"\n", b"\v", b"\f"}
_OTHER_LINE = re.compile(rb"\x1b(?:\[[0-9;]{0,20}[ABEFHdf]|[DEM])")
_SECOND_SCREEN = re.compile(rb"\x1b\[\?(?:47|1047|1049)([hl])")


class LineRenderer:
    """Makes lines of output that comes in any pieces."""

    def __init__(self) -> None:
        self._tokens = Tokenizer()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._cells: list[str] = []
        self._column = 0
        self._second_screen = False
        self._not_shown = 0  # lines with text on the second screen
        self._on_new_line = True  # of the second screen

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that this piece finishes, without their ends."""
        for token in self._tokens.feed(data):
            yield from self._token(token)

    def finish(self) -> Iterator[str]:
        """The last line, if it has no end."""
        yield from self._write(self._decoder.decode(b"", final=True))
        yield from self._leave_second_screen()
        if self._cells:
            yield self._take()

    def _token(self, token: Token) -> Iterator[str]:
        if token.what is What.TEXT:
            yield from self._write(self._decoder.decode(token.data))
            return
        yield from self._write(self._decoder.decode(b"", final=True))
        if token.what is What.CONTROL:
            yield from self._control(token.data)
        elif screen := _SECOND_SCREEN.fullmatch(token.data):
            if screen[1] == b"l":
                yield from self._leave_second_screen()
            self._second_screen = screen[1] == b"h"
        elif self._second_screen:
            self._on_new_line |= _OTHER_LINE.fullmatch(token.data) is not None
        elif token.what is What.CSI:
            self._csi(token.data)

    def _leave_second_screen(self) -> Iterator[str]:
        if self._not_shown:
            lines = "1 line" if self._not_shown == 1 else f"{self._not_shown} lines"
            yield f"[alternate screen: {lines} not shown; see play]"
        self._not_shown, self._on_new_line = 0, True

    def _write(self, text: str) -> Iterator[str]:
        if self._second_screen:
            if text and self._on_new_line:
                self._not_shown += 1
                self._on_new_line = False
            return
        for char in text:
            if self._column >= MAX_COLUMNS:
                yield self._take()
            self._pad()
            self._cells[self._column : self._column + 1] = [char]
            self._column += 1

    def _pad(self) -> None:
        self._cells.extend(" " * (self._column - len(self._cells)))

    def _control(self, data: bytes) -> Iterator[str]:
        if self._second_screen:
            self._on_new_line |= data in _LINE_ENDS
            return
        match data:
            case b"\n":
                yield self._take()
            case b"\r":
                self._column = 0
            case b"\b":
                self._column = max(0, self._column - 1)
            case b"\t":
                self._move_to((self._column // _TAB + 1) * _TAB)
            case _:
                pass

    def _csi(self, data: bytes) -> None:
        found = _CSI.fullmatch(data)
        if found is None:
            return
        count = int(found[1] or b"0")
        match found[2]:
            case b"C":
                self._move_to(self._column + max(1, count))
            case b"D":
                self._move_to(self._column - max(1, count))
            case b"G":
                self._move_to(count - 1)
            case b"K":
                self._erase(count)
            case b"P":
                del self._cells[self._column : self._column + max(1, count)]
            case b"@":
                self._pad()
                self._cells[self._column : self._column] = [" "] * max(1, count)
                del self._cells[MAX_COLUMNS:]
            case _:
                pass

    def _erase(self, how: int) -> None:
        if how in {1, 2}:
            end = len(self._cells) if how == 2 else min(self._column + 1, len(self._cells))  # noqa: PLR2004 - ED/EL 2: all
            self._cells[:end] = [" "] * end
        else:
            del self._cells[self._column :]

    def _move_to(self, column: int) -> None:
        self._column = min(max(0, column), MAX_COLUMNS)

    def _take(self) -> str:
        text = "".join(self._cells).rstrip(" ")
        self._cells.clear()
        self._column = 0
        return text
