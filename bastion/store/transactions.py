"""Writing groups of rows, each group whole or not at all, many in one commit; used by store.writer alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from bastion.errors import BastionError, Code
from bastion.store import schema
from bastion.store.chains import Heads
from bastion.store.engine import UNAVAILABLE, unavailable, writing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from bastion.integrity import Fact
    from bastion.store.rows import Row

    Change = Callable[[AsyncConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """What must commit together: first a change of state, if any, then rows of evidence."""

    rows: tuple[Row, ...]
    change: Change | None = None


class Transactions:
    """Writes groups as links of their chains.

    started: the event that begins this writer's own chain; it is put before the first row of that chain.
    timeout: seconds that one transaction may take.
    """

    def __init__(self, engine: AsyncEngine, *, writer: str, started: Row, timeout: float) -> None:
        self._engine = engine
        self._writer = writer
        self._started = started
        self._timeout = timeout
        self._heads = Heads()

    async def write(self, groups: Sequence[Group]) -> list[BastionError | None]:
        """Commit the groups; returns, for each, None or why it was not written.

        They share a transaction. If that fails for a reason that may be one group's own
        (or because the connection was stale), each gets one of its own, in which rows
        that are there already, bit for bit, are left as they are.
        """
        error = await self._tried(groups, careful=False)
        if error is None:
            return [None] * len(groups)
        if not _may_be_written_singly(error):
            return [self._as_told(error) for _ in groups]
        singly = [await self._tried([group], careful=True) for group in groups]
        return [None if error is None else self._as_told(error) for error in singly]

    async def _tried(self, groups: Sequence[Group], *, careful: bool) -> Exception | None:
        try:
            async with asyncio.timeout(self._timeout), writing(self._engine) as connection:
                ended = await self._write(connection, groups, careful=careful)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are told and the writer goes on
            self._heads.forget()  # it may have committed or not: look again
            return error
        for session in ended:
            self._heads.close(session)
        return None

    async def _write(self, connection: AsyncConnection, groups: Sequence[Group], *, careful: bool) -> list[str]:
        """Put the groups' rows at the ends of their chains; returns the sessions that end with them."""
        links: dict[Table, list[dict[str, Fact]]] = {table: [] for table in schema.EVIDENCE}
        for group in groups:
            if group.change is not None:
                await group.change(connection)
            for row in group.rows:
                if careful and await _is_there(connection, row):
                    continue
                if await self._begins_own_chain(connection, row):
                    links[schema.event].append(await self._heads.extend(connection, self._started))
                links[row.table].append(await self._heads.extend(connection, row))
        for table, rows in links.items():
            if rows:
                await connection.execute(insert(table), rows)
        return [str(end["session"]) for end in links[schema.session_end]]

    async def _begins_own_chain(self, connection: AsyncConnection, row: Row) -> bool:
        if row.table not in schema.WRITER_CHAIN or row is self._started:
            return False
        return (await self._heads.get(connection, row.table, self._writer)).length == 0

    def _as_told(self, error: Exception) -> BastionError:
        return error if isinstance(error, BastionError) else unavailable(error, self._engine)


def _may_be_written_singly(error: Exception) -> bool:
    return isinstance(error, IntegrityError | DataError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


async def _is_there(connection: AsyncConnection, row: Row) -> bool:
    key = [column == row.values[column.name] for column in row.table.primary_key.columns]
    found = (await connection.execute(select(row.table).where(*key))).first()
    if found is None:
        return False
    stored = found._asdict()
    if {name: stored[name] for name in row.values} != row.values:
        raise BastionError(Code.CONFLICT, UNAVAILABLE, detail=f"{row.table.name} holds another row of this key")
    return True
