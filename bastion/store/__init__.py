"""Where the record, the people and their keys are kept, in SQLite or PostgreSQL; opened by app and cli.

    async with open_store(url, name="bastion-0", clock=clock, new_id=new_id) as store:
        await store.writer.begin()          # only a process that serves
        store.writer                        # ports.AuditLog
        store.access                        # ports.Access, ports.Identities
        store.reader                        # ports of the audit commands

Rows never leave this package.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.store.access import Access
from bastion.store.engine import check_revision, open_engine
from bastion.store.reader import Reader
from bastion.store.writer import TIMEOUT_S, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bastion.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One database, opened."""

    writer: Writer
    access: Access
    reader: Reader


@asynccontextmanager
async def open_reader(url: str) -> AsyncIterator[Reader]:
    """Open a database to read the record only. Raises BastionError as `open_store`."""
    engine = open_engine(url)
    try:
        await check_revision(engine)
        yield Reader(engine)
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_store(
    url: str,
    *,
    name: str,
    clock: Clock,
    new_id: Callable[[], str],
    timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - how long each write may take, not this call
) -> AsyncIterator[Store]:
    """Open a database whose tables are those of this program.

    name: which instance writes; see Writer. timeout: seconds that a write, or a look for a person, may take.
    Raises BastionError: INVALID (what to run is in the message), RECORD_UNAVAILABLE.
    """
    engine = open_engine(url)
    try:
        await check_revision(engine)
        writer = Writer(engine, name=name, clock=clock, new_id=new_id, timeout=timeout)
        access = Access(engine, writer, timeout=timeout)
        try:
            yield Store(writer=writer, access=access, reader=Reader(engine))
        finally:
            await writer.close()
            access.close()
    finally:
        await engine.dispose()
