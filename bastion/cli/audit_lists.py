"""The listings of `bastion audit`: tables for people, JSON Lines for programs; called by cli.audit."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import click

from bastion.cli import audit_json, output
from bastion.cli.output import Column
from bastion.printable import line_of_bytes
from bastion.store import open_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from bastion.store.views import CommandView, EventView, Filter, SessionView

SHORT_ID = 10
"""Characters of a session's id in a table; `bastion audit show` takes them."""


async def sessions(url: str, which: Filter, *, limit: int, as_json: bool) -> None:
    """Print sessions. Raises BastionError as `open_reader`."""
    async with open_reader(url) as reader:
        found = await reader.sessions(which, limit=limit + 1)
    _print(found, limit, audit_json.session if as_json else None, SESSION_COLUMNS, session_cells)


async def commands(url: str, which: Filter, *, limit: int, as_json: bool) -> None:
    """Print commands. Raises BastionError as `open_reader`."""
    async with open_reader(url) as reader:
        found = await reader.commands(which, limit=limit + 1)
    _print(found, limit, audit_json.command if as_json else None, COMMAND_COLUMNS, command_cells)


async def events(url: str, which: Filter, *, limit: int, as_json: bool) -> None:
    """Print events. Raises BastionError as `open_reader`."""
    async with open_reader(url) as reader:
        found = await reader.events(which, limit=limit + 1)
    _print(found, limit, audit_json.event if as_json else None, EVENT_COLUMNS, event_cells)


SESSION_COLUMNS = (
    Column("started (utc)"),
    Column("session"),
    Column("person", least=7, rank=1),
    Column("target", least=10, rank=2),
    Column("action", rank=4),
    Column("status", rank=3),
)
COMMAND_COLUMNS = (
    Column("started (utc)"),
    Column("session"),
    Column("person", least=7, rank=2),
    Column("target", least=10, rank=3),
    Column("status", rank=4),
    Column("command", least=7, rank=1),
)
EVENT_COLUMNS = (
    Column("at (utc)"),
    Column("event"),
    Column("outcome", rank=4),
    Column("person", least=7, rank=1),
    Column("target", least=10, rank=3),
    Column("why", least=16, rank=2),
)


def session_cells(view: SessionView) -> Sequence[str]:
    """A session's cells."""
    record = view.record
    target = _target(record.target.pod, record.target.namespace, record.target.container)
    return when(record.started_at), record.id[:SHORT_ID], record.person, target, record.action.value, ended(view)


def command_cells(view: CommandView) -> Sequence[str]:
    """A command's cells."""
    record = view.record
    target = _target(view.pod, view.namespace, view.container)
    status = "-" if view.end is None else str(view.end.status)
    text = line_of_bytes(record.text)
    return when(record.started_at), record.session[:SHORT_ID], view.person, target, status, text


def event_cells(view: EventView) -> Sequence[str]:
    """An event's cells."""
    record = view.record
    target = _target(record.pod, record.namespace, record.container) or record.login
    why = record.reason or record.rule or str(record.detail.get("command", ""))
    return when(record.at), record.type, record.outcome.value, record.person or record.actor, target, why


def when(at: datetime) -> str:
    """A time for people: UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def ended(view: SessionView) -> str:
    """How a session ended, in a word or two."""
    if view.end is None:
        return "open"
    status = f"{view.end.status}" if view.end.outcome.value == "exited" else f"{view.end.status} {view.end.outcome}"
    return status if view.end.complete else f"{status} incomplete"


def _target(pod: str, namespace: str, container: str) -> str:
    if not pod:
        return ""
    return f"{pod}.{namespace}" + (f"+{container}" if container else "")


def _print(
    found: Sequence[Any],
    limit: int,
    as_object: Callable[[Any], dict[str, Any]] | None,
    columns: Sequence[Column],
    cells: Callable[[Any], Sequence[str]],
) -> None:
    shown = found[:limit]
    if as_object is not None:
        for view in shown:
            click.echo(audit_json.dump(as_object(view)))
    else:
        output.print_table(columns, [cells(view) for view in shown], empty="Nothing of that kind is in the record.")
    if len(found) > limit:
        these = "this one" if limit == 1 else f"these {limit}"
        click.echo(f"There are more than {these}: see --limit, --since, --until.", err=True)
