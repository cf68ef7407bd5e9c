"""What sessions of earlier lives leave to be done: rows that end them, processes to look for; used by store.writer.

A life may have ended without closing its sessions. What a session left in its pod may not have been looked for either,
or in vain, though its end is written: that is done beside it, and for minutes where the cluster is away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from bastion.lifecycle import LOSS
from bastion.model import Action, Outcome
from bastion.records import AuditEvent, CommandEnd, SessionEnd
from bastion.store.rows import Row, command_end_row, from_us, session_end_row, session_of
from bastion.store.schema import command, command_end, event, session, session_end, transcript_chunk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bastion.model import Target
    from bastion.records import SessionRecord

    Told = Mapping[tuple[str, str], tuple[str, str]]
    """The details, as JSON, and the rules of events, by session and type."""

INCOMPLETE = "session.incomplete"
"""The type of the event that tells of it."""

ENTERED = "session.debug.entered"
"""The type of the event that says that a session opens in a debug container, which its detail names."""

REASON = f"bastion ended without closing this session; {LOSS}"

MOST_ENDED = 1000
"""So many sessions that ended are looked at, the newest."""

_BROKEN_STATUS = 255
_STARTS_NOTHING = (Action.LOGS, Action.DESCRIBE, Action.EVENTS, Action.TOP, Action.PODS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A session of an earlier life that may have left processes in its pod.

    where: the container that its process ran in. roles: by name, those that let it in there.
    outcome, ended_at: how and when it ended. was_open: that life did not close it; the end is the last that is known.
    is_told: the record says that what it left could not be looked for.
    """

    session: SessionRecord
    where: Target
    roles: frozenset[str]
    outcome: Outcome
    ended_at: datetime
    was_open: bool
    is_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What the earlier lives of a writer's name leave to be done.

    closed: the sessions that were still open. left: those, and some that had ended, that may have left something.
    """

    closed: tuple[SessionRecord, ...]
    left: tuple[Left, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A session without an end, and the rows of the end it gets, as incomplete.

    left: where to look for its processes: in one place, or in none if it started nothing.
    """

    session: SessionRecord
    rows: tuple[Row, ...]
    left: tuple[Left, ...]

    def event(self, id_: str, at: datetime) -> AuditEvent:
        """The event that tells of it."""
        return AuditEvent(
            id=id_,
            at=at,
            type=INCOMPLETE,
            outcome=Outcome.FAILED,
            actor="system",
            person=self.session.person,
            credential=self.session.credential.id,
            source=str(self.session.source),
            connection=self.session.connection,
            session=self.session.id,
            login=self.session.login,
            namespace=self.session.target.namespace,
            pod=self.session.target.pod,
            container=self.session.target.container,
            action=self.session.action.value,
            rule=self.session.rule,
            reason=REASON,
        )


async def ends_of_orphans(
    connection: AsyncConnection,
    *,
    writer: str,
    name: str,
) -> list[Orphan]:
    """The open sessions of earlier lives of the writer of that name, with the rows that end them.

    They end with the last that is known of them: their last chunk, else their start. What had passed by then
    is not known: the bytes are 0, and views.SessionView says nothing of them.
    """
    open_sessions = (
        select(session)
        .where(session.c.writer_name == name, session.c.writer != writer)
        .where(~exists().where(session_end.c.session == session.c.id))
        .order_by(session.c.started_at, session.c.id)
    )
    orphans = []
    records = [session_of(row._asdict()) for row in (await connection.execute(open_sessions)).all()]
    told = await _told(connection, [record.id for record in records])
    for record in records:
        commands = await _open_commands(connection, record.id)
        ended_at = record.started_at + await _last_chunk(connection, record.id)
        end = SessionEnd(
            session=record.id,
            status=_BROKEN_STATUS,
            outcome=Outcome.BROKEN,
            reason=REASON,
            bytes_in=0,
            bytes_out=0,
            complete=False,
            ended_at=ended_at,
        )
        ends = (CommandEnd(command=id_, status=_BROKEN_STATUS, ended_at=ended_at) for id_ in commands)
        rows = (*(command_end_row(each, session=record.id) for each in ends), session_end_row(end))
        left = () if record.action in _STARTS_NOTHING else (_left(record, end.outcome, ended_at, told, was_open=True),)
        orphans.append(Orphan(session=record, rows=rows, left=left))
    return orphans


async def lately_ended(connection: AsyncConnection, *, writer: str, name: str) -> list[Left]:
    """The newest sessions with an end of earlier lives of the writer of that name, the last first.

    Not those that are known to be settled, because something was found and is in the record.
    """
    newest = (
        select(session, session_end.c.outcome, session_end.c.ended_at)
        .join_from(session, session_end, session_end.c.session == session.c.id)
        .where(session.c.writer_name == name, session.c.writer != writer)
        .where(session.c.action.not_in([action.value for action in _STARTS_NOTHING]))
        .order_by(session_end.c.ended_at.desc(), session.c.id)
        .limit(MOST_ENDED)
    )
    rows = [row._asdict() for row in (await connection.execute(newest)).all()]
    told = await _told(connection, [row["id"] for row in rows])
    return [
        _left(session_of(row), Outcome(row["outcome"]), from_us(row["ended_at"]), told, was_open=False)
        for row in rows
        if (row["id"], "session.reaped") not in told
    ]


async def _told(connection: AsyncConnection, sessions: Sequence[str]) -> Told:
    """What the record says of where sessions ran, and of looking for what they left."""
    query = (
        select(event.c.session, event.c.type, event.c.detail, event.c.rule)
        .where(event.c.session.in_(sessions))
        .where(event.c.type.in_((ENTERED, "session.reaped", "session.not_reaped")))
    )
    return {(id_, kind): (detail, rule) for id_, kind, detail, rule in (await connection.execute(query)).all()}


def _left(session: SessionRecord, outcome: Outcome, ended_at: datetime, told: Told, *, was_open: bool) -> Left:
    """Where to look for a session's processes: in its target, or in the debug container beside it that it opened in."""
    where, roles = session.target, {session.role}
    if (session.id, ENTERED) in told:
        detail, rule = told[session.id, ENTERED]
        where = replace(where, container=json.loads(detail)["container"], ephemeral=True, beside=where.container)
        roles.add(rule.partition("/")[0])  # a rule is called "role/allow[0]"
    return Left(
        session=session,
        where=where,
        roles=frozenset(roles),
        outcome=outcome,
        ended_at=ended_at,
        was_open=was_open,
        is_told=(session.id, "session.not_reaped") in told,
    )


async def _last_chunk(connection: AsyncConnection, session_id: str) -> timedelta:
    """How long after its start the last chunk of a session ends; zero without chunks."""
    chunk = transcript_chunk.c
    query = select(chunk.t1_us).where(chunk.session == session_id).order_by(chunk.seq.desc()).limit(1)
    return timedelta(microseconds=(await connection.execute(query)).scalar() or 0)


async def _open_commands(connection: AsyncConnection, session_id: str) -> list[str]:
    query = (
        select(command.c.id)
        .where(command.c.session == session_id)
        .where(~exists().where(command_end.c.command == command.c.id))
        .order_by(command.c.seq)
    )
    return list((await connection.execute(query)).scalars())
