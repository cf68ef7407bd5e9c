"""The screen of a terminal, as far as a menu uses one: where every character that was sent ends up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bastion.console import tables

if TYPE_CHECKING:
    from bastion.model import WindowSize

_TOKEN = re.compile(r"\x1b\[(\d*)([AHJm])|([\r\n\b])|([^\x00-\x1f\x7f])|\x1b\[\?2004([hl])")


class Screen:
    """Takes what a program writes. It wraps long lines and scrolls, as terminals do; it knows nothing else.

    strange: what it does not know. scrolled: how many lines went out at its top.
    marks_pastes: it was asked to mark what is pasted.
    """

    def __init__(self, size: WindowSize, *, row: int = 0) -> None:
        self.size = size
        self.row, self.col = row, 0
        self.cells = [[" "] * size.cols for _ in range(size.rows)]
        self.strange: list[str] = []
        self.scrolled = 0
        self.marks_pastes = False

    @property
    def lines(self) -> list[str]:
        """What is to be read, line by line."""
        return ["".join(row).rstrip() for row in self.cells]

    def feed(self, data: bytes) -> None:
        """Show what was written."""
        text, at = data.decode(), 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                self.strange.append(text[at])
                at += 1
                continue
            at = found.end()
            self._act(found)

    def _act(self, found: re.Match[str]) -> None:
        number, final = found[1] or "", found[2] or ""
        if found[4]:
            self._put(found[4])
        elif found[3]:
            self._control(found[3])
        elif found[5]:
            self.marks_pastes = found[5] == "h"
        elif final == "A":
            self.row = max(0, self.row - int(number or 1))
        elif final == "H":
            self.row = self.col = 0
        elif final == "J":
            self._erase(all_of_it=number == "2")

    def _control(self, control: str) -> None:
        if control == "\r":
            self.col = 0
        elif control == "\n":
            self._down()
        else:
            self.col = max(0, self.col - 1)

    def _put(self, char: str) -> None:
        wide = tables.width(char)
        if self.col + wide > self.size.cols:
            self.col = 0
            self._down()
        self.cells[self.row][self.col : self.col + wide] = [char, ""][:wide]
        self.col += wide

    def _down(self) -> None:
        if self.row == self.size.rows - 1:
            self.cells = [*self.cells[1:], [" "] * self.size.cols]
            self.scrolled += 1
        else:
            self.row += 1

    def _erase(self, *, all_of_it: bool) -> None:
        if all_of_it:
            self.cells = [[" "] * self.size.cols for _ in range(self.size.rows)]
            return
        self.cells[self.row][self.col :] = [" "] * (self.size.cols - self.col)
        for row in range(self.row + 1, self.size.rows):
            self.cells[row] = [" "] * self.size.cols
