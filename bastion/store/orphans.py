"""Sessions that a bastion left open when it ended without closing them; used by store.writer at its start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from bastion.lifecycle import LOSS
from bastion.model import AuditEvent, CommandEnd, Outcome, SessionEnd
from bastion.store.rows import Row, command_end_row, session_end_row, session_of
from bastion.store.schema import command, command_end, session, session_end, transcript_chunk

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bastion.model import SessionRecord

REASON = f"bastion ended without closing this session; {LOSS}"

_BROKEN_STATUS = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A session without an end, and the rows that end it as incomplete."""

    session: SessionRecord
    rows: tuple[Row, ...]

    def event(self, id_: str, at: datetime) -> AuditEvent:
        """The event that tells of it."""
        return AuditEvent(
            id=id_,
            at=at,
            type="session.incomplete",
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
    for row in (await connection.execute(open_sessions)).all():
        record = session_of(row._asdict())
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
        orphans.append(Orphan(session=record, rows=rows))
    return orphans


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
