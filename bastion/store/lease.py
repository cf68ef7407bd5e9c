"""One living writer for a name, by a lock of the operating system or of PostgreSQL; used by store.writer at its start.

A writer closes what an earlier life of its name left open, so two at once
would close each other's sessions. The lock ends with its process, whatever
ends that.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bastion.errors import BastionError, Code
from bastion.store.engine import is_sqlite, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

PATIENCE_S = 3.0
"""How long to wait for the lock: PostgreSQL notices a process that was killed a moment later."""


@asynccontextmanager
async def lease(engine: AsyncEngine, name: str) -> AsyncIterator[None]:
    """Hold the name until left.

    Raises BastionError: CONFLICT if another process holds it, RECORD_UNAVAILABLE if the database does not answer.
    """
    number = int.from_bytes(hashlib.sha256(f"bastion writer {name}".encode()).digest()[:8], "big", signed=True)
    held = _file_lock(engine, number, name) if is_sqlite(engine.url) else _advisory_lock(engine, number, name)
    async with held:
        yield


@asynccontextmanager
async def _file_lock(engine: AsyncEngine, number: int, name: str) -> AsyncIterator[None]:
    path = f"{engine.url.database}.lock-{number & 0xFFFFFFFF:08x}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def locked() -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        await _insist(locked, name)
        yield
    finally:
        os.close(file)


@asynccontextmanager
async def _advisory_lock(engine: AsyncEngine, number: int, name: str) -> AsyncIterator[None]:
    try:
        connection = await engine.connect()
        await connection.execution_options(isolation_level="AUTOCOMMIT")
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise unavailable(error, engine) from error

    async def locked() -> bool:
        return bool((await connection.execute(text("SELECT pg_try_advisory_lock(:n)"), {"n": number})).scalar())

    try:
        await _insist(locked, name)
        yield
    finally:
        await connection.invalidate()  # the lock ends with the connection, which is not to be used again
        await connection.close()


async def _insist(locked: Callable[[], Awaitable[bool]], name: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not await locked():
        if loop.time() > deadline:
            raise BastionError(
                Code.CONFLICT, f"another bastion named {name} runs on this database; end it, or use another database"
            )
        await asyncio.sleep(0.1)
