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
from bastion.store.engine import UNAVAILABLE, Interrupted, unavailable
from bastion.store.running import running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.ext.asyncio import AsyncEngine

    from bastion.integrity import Fact
    from bastion.store.rows import Row

    Change = Callable[[Connection], None]


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
        self._running = running(engine, writes=True)
        self._writer = writer
        self._started = started
        self._timeout = timeout
        self._heads = Heads()

    async def write(self, groups: Sequence[Group]) -> list[BastionError | None]:
        """Commit the groups; returns, for each, None or why it was not written: Interrupted if it may be yet.

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
        heads = self._heads
        try:
            async with asyncio.timeout(self._timeout):
                ended = await self._running.run(lambda on: self._write(on, groups, heads, careful=careful))
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are told and the writer goes on
            self._heads = Heads()  # it may have committed or not, or may yet: look again
            return error
        for session in ended:
            heads.close(session)
        return None

    def _write(self, on: Connection, groups: Sequence[Group], heads: Heads, *, careful: bool) -> list[str]:
        """Put the groups' rows at the ends of their chains; returns the sessions that end with them."""
        links: dict[Table, list[dict[str, Fact]]] = {table: [] for table in schema.EVIDENCE}
        for group in groups:
            if group.change is not None:
                if careful and _is_there(on, group.rows[0]):
                    continue  # it was made, and told of, by a transaction whose answer was lost
                group.change(on)
            for row in group.rows:
                if careful and _is_there(on, row):
                    continue
                if self._begins_own_chain(on, row, heads):
                    links[schema.event].append(heads.extend(on, self._started))
                links[row.table].append(heads.extend(on, row))
        for table, rows in links.items():
            if rows:
                on.execute(insert(table), rows)
        return [str(end["session"]) for end in links[schema.session_end]]

    def _begins_own_chain(self, on: Connection, row: Row, heads: Heads) -> bool:
        if row.table not in schema.WRITER_CHAIN or row is self._started:
            return False
        return heads.get(on, row.table, self._writer).length == 0

    def close(self) -> None:
        """Take no more groups."""
        self._running.close()

    def _as_told(self, error: Exception) -> BastionError:
        if isinstance(error, BastionError):
            return error
        told = unavailable(error, self._engine)
        if _is_a_groups_own(error):
            return told
        return Interrupted(told.code, told.user_message, detail=told.detail)


def _is_a_groups_own(error: Exception) -> bool:
    """Whether the database refused what it was given, and would again."""
    return isinstance(error, IntegrityError | DataError)


def _may_be_written_singly(error: Exception) -> bool:
    return _is_a_groups_own(error) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _is_there(on: Connection, row: Row) -> bool:
    key = [column == row.values[column.name] for column in row.table.primary_key.columns]
    found = on.execute(select(row.table).where(*key)).first()
    if found is None:
        return False
    stored = found._asdict()
    if {name: stored[name] for name in row.values} != row.values:
        raise BastionError(Code.CONFLICT, UNAVAILABLE, detail=f"{row.table.name} holds another row of this key")
    return True
