"""How commands print, tell the time and say who runs them; used by the other modules of cli."""

from __future__ import annotations

import json
import os
import pwd
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from bastion import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_GAP = 2  # blanks between the columns of a table


def now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


def actor() -> str:
    """Who runs this command, for events: `cli:<os user>@<host>`, from the process and not from its environment."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container that runs as a number nobody has
        name = f"uid-{uid}"
    return f"cli:{name}@{socket.gethostname()}"


def rfc3339(at: datetime) -> str:
    """A time as it is printed: RFC 3339, UTC, microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def print_json(rows: Iterable[Mapping[str, object]]) -> None:
    """JSON Lines, in ASCII: what a terminal could act on is escaped."""
    for row in rows:
        click.echo(json.dumps(row, default=_plain))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and how it gives way where a terminal is narrow.

    least: characters to which its cells may be cut, with an ellipsis; None: they are never cut.
    folds: they go on in more lines instead.
    rank: where there is no room for all columns those with a rank are left out, the highest first; 0: it stays.
    """

    name: str
    least: int | None = None
    folds: bool = False
    rank: int = 0


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """An aligned table; on a terminal it fits its width and has colours (none if NO_COLOR is set).

    empty: what to say on stderr instead of a table without rows.
    """
    table = [[column.name.upper() for column in columns], *([printable.line(cell) for cell in row] for row in rows)]
    if len(table) == 1:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _print_pretty(columns, table)
    else:
        _print_plain(table)


def fitted(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """Which columns a terminal of `room` characters shows, by index, and how wide; `widths` is what they would take.

    If even what cannot give way is too wide, so is the answer.
    """
    shown = {at: min(width, room) for at, width in enumerate(widths)}
    narrowest = [min(width, column.least or width) for column, width in zip(columns, widths, strict=True)]
    while _total(narrowest[at] for at in shown) > room:
        last = max(shown, key=lambda at: columns[at].rank)
        if not columns[last].rank:
            break
        del shown[last]
    while _total(shown.values()) > room:
        widest = max(shown, key=lambda at: shown[at] if shown[at] > narrowest[at] else 0)
        if shown[widest] <= narrowest[widest]:
            break
        shown[widest] -= 1
    return shown


def _total(widths: Iterable[int]) -> int:
    """The width of a table, gaps included."""
    return sum(width + _GAP for width in widths) - _GAP


def _print_plain(table: list[list[str]]) -> None:
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for row in table:
        click.echo((" " * _GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_pretty(columns: Sequence[Column], table: list[list[str]]) -> None:
    from rich.cells import cell_len  # noqa: PLC0415 - slow to import, and only a terminal needs it
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    console = Console()
    widths = [max(map(cell_len, cells)) for cells in zip(*table, strict=True)]
    shown = fitted(columns, widths, console.width)
    pretty = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for at, width in shown.items():
        folds = columns[at].folds
        pretty.add_column(table[0][at], width=width, no_wrap=not folds, overflow="fold" if folds else "ellipsis")
    for row in table[1:]:
        pretty.add_row(*(Text(row[at]) for at in shown))  # Text, because a cell is never markup
    console.print(pretty)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
