"""How commands print, tell the time and say who runs them; used by the other modules of cli."""

from __future__ import annotations

import json
import os
import pwd
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from bastion import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


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


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """An aligned table; on a terminal it fits its width and has colours (none if NO_COLOR is set).

    empty: what to say on stderr instead of a table without rows.
    """
    lines = [[printable.line(cell) for cell in row] for row in rows]
    if not lines:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _print_pretty(columns, lines)
    else:
        _print_plain(columns, lines)


def _print_plain(columns: Sequence[str], rows: list[list[str]]) -> None:
    table = [[column.upper() for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_pretty(columns: Sequence[str], rows: list[list[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only a terminal needs it
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text, because a cell is never markup
    Console().print(table)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
