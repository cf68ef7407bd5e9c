"""`bastion audit show`: one session on one page, its chain verified; called by cli.audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bastion.cli import audit_json
from bastion.cli.audit_lists import when
from bastion.integrity import Verifier
from bastion.model import LOOKS
from bastion.printable import line, line_of_bytes
from bastion.store import open_reader
from bastion.store.views import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bastion.integrity import Verdict
    from bastion.records import SessionEnd
    from bastion.store.reader import Reader
    from bastion.store.views import CommandView, EventView, SessionView

_MOST_COMMANDS = 100


async def show(url: str, prefix: str, *, as_json: bool) -> bool:
    """Print a session; returns whether its chain holds.

    Raises BastionError: NOT_FOUND, CONFLICT (several begin so), as `open_reader`.
    """
    async with open_reader(url) as reader:
        view = await reader.session(prefix)
        commands = await reader.commands(Filter(), limit=_MOST_COMMANDS + 1, session=view.record.id)
        events = await reader.session_events(view.record.id)
        found = await _verify(reader, view.record.id)
    if as_json:
        value = audit_json.session(view)
        value["commands"] = [audit_json.command(command) for command in reversed(commands)]
        value["events"] = [audit_json.event(event) for event in events]
        click.echo(audit_json.dump(value | {"chain": audit_json.verdict(found)}))
        return found.intact
    for label, text in _lines(view, found):
        click.echo(f"{label:<10}{line(text)}" if text else "")
    for event in events:
        click.echo(_event_line(event))
    for command in reversed(commands[:_MOST_COMMANDS]):
        click.echo(_command_line(command))
    if len(commands) > _MOST_COMMANDS:
        click.echo(f"  … and more: bastion audit commands --person {line(view.record.person)}")
    return found.intact


async def _verify(reader: Reader, session: str) -> Verdict:
    verifier = Verifier(session)
    async for link in reader.session_chain(session):
        verifier.add(link)
    return verifier.verdict()


def _lines(view: SessionView, found: Verdict) -> Iterator[tuple[str, str]]:
    record, end = view.record, view.end
    yield "Session", record.id
    yield "Person", f"{record.person}, by {record.credential.kind} {record.credential.id}, from {record.source}"
    yield "Target", f"{record.target} (pod UID {record.target.pod_uid}), asked for as {record.login}"
    terminal = f"{record.pty.term} {record.pty.size}" if record.pty else "no terminal"
    yield "Action", f"{record.action}, {terminal}"
    yield "Allowed", f"by role {record.role}, rule {record.rule}, policy {record.policy_digest}"
    looked = "was not asked beforehand, since nothing is started to look"
    yield "Cluster", record.reason or (looked if record.action in LOOKS else "gave no reason")
    yield "Started", f"{when(record.started_at)} UTC"
    if record.refused_env:
        yield "Refused", f"environment: {', '.join(record.refused_env)}"
    if end is None:
        yield "Ended", "not yet, or its bastion was cut off and has not started again"
    else:
        yield "Ended", f"{_end_time(view, end)}, status {end.status}, {end.outcome}"
        if end.reason:
            yield "Because", end.reason
        yield "Bytes", f"{view.bytes_in} in, {view.bytes_out} out" if end.complete else "not known"
        yield "Record", "complete" if end.complete else "incomplete: output may have passed that is not in it"
    yield "Chain", f"broken at {found.broken}" if found.broken else f"verified, {found.head.length} links"


def _end_time(view: SessionView, end: SessionEnd) -> str:
    if view.found_at is None:
        return f"{when(end.ended_at)} UTC after {end.ended_at - view.record.started_at}"
    return (
        f"at a time that is not known: after {when(end.ended_at)} UTC, the last in its transcript, and before"
        f" {when(view.found_at)} UTC, when its bastion had started again"
    )


def _event_line(event: EventView) -> str:
    record = event.record
    detail = ", ".join(f"{key} {value}" for key, value in record.detail.items())
    said = "; ".join(filter(None, (record.reason, detail)))
    return f"  {when(record.at)}  {line(record.type)}, {record.outcome}: {line(said)}"


def _command_line(command: CommandView) -> str:
    status = "" if command.end is None else f"  [status {command.end.status}]"
    return f"  {when(command.record.started_at)}  {line_of_bytes(command.record.text)}{status}"
