"""Runs a function on a connection to the database, beside the event loop; used by store.transactions and store.access.

PostgreSQL's driver is asynchronous. SQLite's is not, and handing each of a transaction's statements to a
thread costs many times what they take; so there a whole transaction is one visit to a thread of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from bastion.store.engine import is_sqlite, open_blocking_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

Answer = TypeVar("Answer")


class Running(Protocol):
    """One transaction after another."""

    async def run(self, work: Callable[[Connection], Answer]) -> Answer:
        """Run a function in a transaction, which commits at its end and rolls back if it raises.

        A caller that is cancelled cannot know whether it commits. Raises what the function and the database raise.
        """
        ...

    def close(self) -> None:
        """Take no more work, also when told twice; what runs ends by itself."""
        ...


def running(engine: AsyncEngine, *, writes: bool) -> Running:
    """How transactions are run on that database; `writes`: they take the lock for writing at their beginning."""
    if is_sqlite(engine.url):
        return _InThread(open_blocking_sqlite(engine.url).execution_options(writes=writes))
    return _InLoop(engine)


class _InLoop:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def run(self, work: Callable[[Connection], Answer]) -> Answer:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    def close(self) -> None:
        """The engine belongs to who opened it."""


class _InThread:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._closed = False

    async def run(self, work: Callable[[Connection], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[Connection], Answer]) -> Answer:
        with self._engine.begin() as connection:
            return work(connection)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._thread.submit(self._engine.dispose)
            self._thread.shutdown(wait=False)
