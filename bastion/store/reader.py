"""Questions to the record: lists, one session, its transcript, its chain; used by cli.audit_lists and its like.

Lists are newest first, in pages: the position of a page's last entry asks for
the next. Every list is one walk along one index.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from bastion.errors import BastionError, Code
from bastion.model import Action
from bastion.records import CommandEnd
from bastion.store import schema
from bastion.store.chains import link_of
from bastion.store.engine import unavailable
from bastion.store.orphans import INCOMPLETE
from bastion.store.rows import chunk_of, command_of, event_of, from_us, session_end_of, session_of, storable, to_us
from bastion.store.views import CommandView, EventView, SessionView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from sqlalchemy import Column, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from bastion.integrity import Link
    from bastion.records import Chunk
    from bastion.store.views import Filter, Position

_PAGE = 64  # rows of a transcript or chain that are held at a time
_ID = re.compile(r"[0-9A-Za-z_-]+", re.ASCII)
_NAMED = 5  # how many sessions an ambiguous prefix lists


class Reader:
    """Reads the record. Raises BastionError(RECORD_UNAVAILABLE) where the database does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def sessions(self, which: Filter, *, limit: int, before: Position | None = None) -> list[SessionView]:
        """The newest sessions that are meant, at most `limit`."""
        query = _listed(_sessions(), schema.session, schema.session.c.started_at, which, before).limit(limit)
        return [_session_view(row) for row in await self._all(query)]

    async def commands(
        self, which: Filter, *, limit: int, before: Position | None = None, session: str = ""
    ) -> list[CommandView]:
        """The newest commands that are meant, at most `limit`; of one session, if its id is given."""
        query = _listed(_commands(), schema.command, schema.command.c.started_at, which, before).limit(limit)
        if session:
            query = query.where(schema.command.c.session == session)
        return [_command_view(row) for row in await self._all(query)]

    async def events(self, which: Filter, *, limit: int, before: Position | None = None) -> list[EventView]:
        """The newest events that are meant, at most `limit`."""
        query = _listed(select(schema.event), schema.event, schema.event.c.at, which, before).limit(limit)
        return [EventView(record=event_of(row), writer=row["writer"]) for row in await self._all(query)]

    async def session(self, prefix: str) -> SessionView:
        """The session whose id begins so. Raises NOT_FOUND, or CONFLICT with the first few that do."""
        found = []
        if _ID.fullmatch(prefix):
            # "~" sorts after every character of an id.
            query = _sessions().where(schema.session.c.id >= prefix, schema.session.c.id < f"{prefix}~")
            found = [
                _session_view(row) for row in await self._all(query.order_by(schema.session.c.id).limit(_NAMED + 1))
            ]
        if not found:
            raise BastionError(
                Code.NOT_FOUND, f"No session begins with {prefix!r}: `bastion audit sessions` lists them."
            )
        if len(found) == 1 or found[0].record.id == prefix:
            return found[0]
        names = ", ".join(view.record.id for view in found[:_NAMED])
        more = ", …" if len(found) > _NAMED else ""
        raise BastionError(Code.CONFLICT, f"Several sessions begin with {prefix}: {names}{more}. Give more of the id.")

    async def session_events(self, session: str) -> list[EventView]:
        """What the events say of a session, the oldest first."""
        query = select(schema.event).where(schema.event.c.session == session)
        rows = await self._all(query.order_by(schema.event.c.at, schema.event.c.id))
        return [EventView(record=event_of(row), writer=row["writer"]) for row in rows]

    async def chunks(self, session: str) -> AsyncIterator[Chunk]:
        """The session's transcript in order, a few chunks at a time in memory."""
        table = schema.transcript_chunk
        async for row in self._pages(select(table).where(table.c.session == session), (table.c.seq,)):
            yield chunk_of(row)

    async def session_chain(self, session: str) -> AsyncIterator[Link]:
        """The links of a session's chain by position, for integrity.Verifier."""
        s = schema
        few = [
            *await self._links(s.session, s.session.c.id == session),
            *await self._links(s.command, s.command.c.session == session),
            *await self._links(s.command_end, s.command_end.c.session == session),
            *await self._links(s.session_end, s.session_end.c.session == session),
        ]
        few.sort(key=lambda link: link.position, reverse=True)
        chunks = select(s.transcript_chunk).where(s.transcript_chunk.c.session == session)
        async for row in self._pages(chunks, (s.transcript_chunk.c.seq,)):
            link = link_of(s.transcript_chunk, row)
            while few and few[-1].position <= link.position:
                yield few.pop()
            yield link
        while few:
            yield few.pop()

    async def writer_chain(self, writer: str) -> AsyncIterator[Link]:
        """The links of a writer's chain by position: its connections and events."""
        s = schema
        connections = await self._links(s.connection, s.connection.c.writer == writer)
        connections.sort(key=lambda link: link.position, reverse=True)
        events = select(s.event).where(s.event.c.writer == writer)
        async for row in self._pages(events, (s.event.c.position, s.event.c.id)):
            link = link_of(s.event, row)
            while connections and connections[-1].position <= link.position:
                yield connections.pop()
            yield link
        while connections:
            yield connections.pop()

    async def writers(self) -> list[str]:
        """The ids of all writers."""
        query = select(schema.event.c.writer).union(select(schema.connection.c.writer)).order_by("writer")
        return [row["writer"] for row in await self._all(query)]

    async def _links(self, table: Table, which: Any) -> list[Link]:
        return [link_of(table, row) for row in await self._all(select(table).where(which))]

    async def _pages(self, query: Select[Any], order: tuple[Column[Any], ...]) -> AsyncIterator[Mapping[str, Any]]:
        """Rows by columns that together are unique among them, _PAGE at a time."""
        last: tuple[Any, ...] | None = None
        while True:
            page = query if last is None else query.where(tuple_(*order) > tuple_(*last))
            rows = await self._all(page.order_by(*order).limit(_PAGE))
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            last = tuple(rows[-1][column.name] for column in order)

    async def _all(self, query: Any) -> list[Mapping[str, Any]]:
        async with self._connected() as connection:
            return [row._asdict() for row in await connection.execute(query)]

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(error, self._engine) from error


def _listed(query: Select[Any], table: Table, time: Column[int], which: Filter, before: Position | None) -> Select[Any]:
    conditions = [
        table.c[name] == storable(value)  # as names are written
        for name, value in (("person", which.person), ("namespace", which.namespace), ("pod", which.pod))
        if value
    ]
    if which.since is not None:
        conditions.append(time >= to_us(which.since))
    if which.until is not None:
        conditions.append(time < to_us(which.until))
    query = query.where(*conditions)
    if before is not None:
        query = query.where(tuple_(time, table.c.id) < tuple_(to_us(before.at), before.id))
    return query.order_by(time.desc(), table.c.id.desc())


def _sessions() -> Select[Any]:
    session, end = schema.session, schema.session_end
    ends = [column.label(f"end_{column.name}") for column in end.c]
    return _with_found_at(select(session, *ends).outerjoin(end, end.c.session == session.c.id))


def _with_found_at(query: Select[Any]) -> Select[Any]:
    """With the time at which a session was found open by the next start of its bastion, null if it was not."""
    found, session = schema.event.alias("found"), schema.session
    is_of_it = (found.c.session == session.c.id) & (found.c.type == INCOMPLETE)
    return query.add_columns(found.c.at.label("found_at")).outerjoin(found, is_of_it)


def _session_view(row: Mapping[str, Any]) -> SessionView:
    end = None
    if row["end_session"] is not None:
        end = session_end_of({name.removeprefix("end_"): row[name] for name in row if name.startswith("end_")})
    return SessionView(record=session_of(row), end=end, writer=row["writer"], found_at=_time(row["found_at"]))


def _time(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def _commands() -> Select[Any]:
    command, end, session = schema.command, schema.command_end, schema.session
    return _with_found_at(
        select(
            command,
            session.c.credential,
            session.c.rule,
            end.c.status.label("end_status"),
            end.c.ended_at.label("end_ended_at"),
        )
        .join(session, session.c.id == command.c.session)
        .outerjoin(end, end.c.command == command.c.id)
    )


def _command_view(row: Mapping[str, Any]) -> CommandView:
    end = None
    if row["end_status"] is not None:
        end = CommandEnd(command=row["id"], status=row["end_status"], ended_at=from_us(row["end_ended_at"]))
    return CommandView(
        record=command_of(row),
        person=row["person"],
        credential=row["credential"],
        namespace=row["namespace"],
        pod=row["pod"],
        container=row["container"],
        action=Action(row["action"]),
        rule=row["rule"],
        end=end,
        found_at=_time(row["found_at"]),
    )
