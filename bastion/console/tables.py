"""Tables and texts for a person's terminal, or for a pipe, as bytes (pure); used by the other modules of console.

Every character that others may have written goes through `printable` here, so nothing that is shown can act on a
terminal.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from bastion import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bastion.model import Pty

_GAP = 2
_ELLIPSIS = "..."
_LEAST_TEXT = 8
"""Characters of a text beside its head, however narrow the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """What is written on. cols: characters of a line, None if they do not matter; crlf: lines end as terminals want."""

    cols: int | None
    crlf: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    least: characters to which its cells may be cut in their middle; None: they are never cut.
    folds: they go on in more lines instead, and are cut only where a word is longer than `least` (None: nowhere).
    rank: where there is no room for all columns those with a rank are left out, the highest first; 0: it stays.
    """

    name: str
    least: int | None = None
    folds: bool = False
    rank: int = 0


def paper(pty: Pty | None) -> Paper:
    """The paper that a channel is: a terminal of some width, or a pipe."""
    return Paper(cols=pty.size.cols or None if pty else None, crlf=pty is not None)


def text(lines: Iterable[str], paper: Paper) -> bytes:
    """Lines as bytes, each of them harmless."""
    end = "\r\n" if paper.crlf else "\n"
    return "".join(f"{printable.line(line)}{end}" for line in lines).encode()


def json_lines(rows: Iterable[Mapping[str, object]], paper: Paper) -> bytes:
    """JSON Lines, in ASCII: what a terminal could act on is escaped."""
    return text((json.dumps(row) for row in rows), paper)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], paper: Paper) -> list[str]:
    """An aligned table as lines that fit the paper, if that can be."""
    cells = [[column.name for column in columns], *([printable.line(cell) for cell in row] for row in rows)]
    widths = [max(width(row[at]) for row in cells) for at in range(len(columns))]
    least = [_least(column, [row[at] for row in cells]) for at, column in enumerate(columns)]
    shown = fitted(columns, widths, least, paper.cols)
    return [_line(line, shown.values()) for row in cells for line in _lines(columns, row, shown)]


def _lines(columns: Sequence[Column], row: Sequence[str], shown: Mapping[int, int]) -> Iterator[Sequence[str]]:
    """A row in as many lines as it takes."""
    cells = [
        _stripped(folded(row[at], room)) if columns[at].folds else [cut(row[at], room)] for at, room in shown.items()
    ]
    return zip_longest(*cells, fillvalue="")


def _stripped(pieces: Sequence[str]) -> list[str]:
    return [piece.strip(" ") for piece in pieces]


def _least(column: Column, cells: Sequence[str]) -> int:
    """The width to which a column can be narrowed."""
    parts = [word for cell in cells for word in cell.split(" ")] if column.folds else cells
    longest = max(map(width, parts))
    return longest if column.least is None else min(longest, column.least)


def _line(cells: Sequence[str], widths: Iterable[int]) -> str:
    return (" " * _GAP).join(_padded(cell, room) for cell, room in zip(cells, widths, strict=True)).rstrip()


def fitted(columns: Sequence[Column], widths: Sequence[int], least: Sequence[int], room: int | None) -> dict[int, int]:
    """Which columns are shown, by index, and how wide; `widths` is what they would take, `least` what they must.

    If even what cannot give way is too wide, so is the answer.
    """
    shown = dict(enumerate(widths))
    if room is None:
        return shown
    while _total([least[at] for at in shown]) > room:
        last = max(shown, key=lambda at: columns[at].rank)
        if not columns[last].rank:
            break
        del shown[last]
    while _total(list(shown.values())) > room:
        widest = max(shown, key=lambda at: shown[at] - least[at])
        if shown[widest] == least[widest]:
            break
        shown[widest] -= 1
    return shown


def beside(head: str, text: str, paper: Paper) -> list[str]:
    """A text on the line of its head; what there is no room for goes on beneath its beginning."""
    text, indent = printable.line(text), width(head)
    room = max(_LEAST_TEXT, paper.cols - indent) if paper.cols else width(text)
    first, *more = _stripped(folded(text, room))
    return [f"{head}{first}".rstrip(" "), *(" " * indent + piece for piece in more)]


def cut(text: str, room: int) -> str:
    """A text of at most so many characters' width; a longer one loses its middle, where names differ least."""
    if width(text) <= room:
        return text
    if room <= len(_ELLIPSIS):
        return _head(text, room)
    left = (room - len(_ELLIPSIS) + 1) // 2
    right = room - len(_ELLIPSIS) - left
    return _head(text, left) + _ELLIPSIS + _head(text[::-1], right)[::-1]


def folded(text: str, room: int) -> list[str]:
    """A text in pieces of at most so many characters' width, cut at blanks where it can be."""
    pieces = []
    while text:
        head = _head(text, room) or text[0]
        if head != text and " " in head and text[len(head)] != " ":
            head = head[: head.rindex(" ") + 1]
        pieces.append(head)
        text = text[len(head) :]
    return pieces or [""]


def width(text: str) -> int:
    """How many cells of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def _head(text: str, room: int) -> str:
    taken = 0
    for at, char in enumerate(text):
        taken += _cells(char)
        if taken > room:
            return text[:at]
    return text


def _padded(text: str, room: int) -> str:
    return text + " " * (room - width(text))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
