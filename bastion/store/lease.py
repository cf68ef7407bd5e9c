"""One living writer for a name, by a lock of the operating system or of PostgreSQL; used by store.writer.

A writer closes what an earlier life of its name left open, so two at once
would close each other's sessions. A file's lock ends with its process, whatever ends that. PostgreSQL's ends with its
connection, so also when the database is started anew: it is taken again then, and nothing is written before.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bastion.errors import BastionError, Code
from bastion.store.engine import UNAVAILABLE, Interrupted, is_sqlite, unavailable, unpooled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

PATIENCE_S = 3.0
"""How long to wait for the lock: PostgreSQL notices a process that was killed a moment later."""

ASK_EVERY_S = 5.0
"""How often to ask on the lock's connection, and how long to wait for the answer.

A connection that is cut is heard of at once. One that went silent PostgreSQL gives up later than this finds out.
"""

TAKEN_WITHIN_S = 10.0
"""How long one try to take the lock again may last."""

RETRY_S = 0.5

_TAKE = text("SELECT pg_try_advisory_lock(:number)")
_OURSELVES = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
_END = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :pid AND backend_start = :backend_start"
)

_log = structlog.get_logger("bastion")


@asynccontextmanager
async def lease(engine: AsyncEngine, name: str) -> AsyncIterator[Callable[[], None]]:
    """Hold the name until left; yields a check, to be made before each write.

    The check raises BastionError(RECORD_UNAVAILABLE): Interrupted while the lock is not held and may be yet, and for
    good once another process has taken it.
    Raises BastionError: CONFLICT if another process holds it, RECORD_UNAVAILABLE if the database does not answer.
    """
    number = int.from_bytes(hashlib.sha256(f"bastion writer {name}".encode()).digest()[:8], "big", signed=True)
    held = _file_lock(engine, number, name) if is_sqlite(engine.url) else _advisory_lock(engine, number, name)
    async with held as check:
        yield check


@asynccontextmanager
async def _file_lock(engine: AsyncEngine, number: int, name: str) -> AsyncIterator[Callable[[], None]]:
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
        yield lambda: None  # nothing but the end of this process takes it away
    finally:
        os.close(file)


@asynccontextmanager
async def _advisory_lock(engine: AsyncEngine, number: int, name: str) -> AsyncIterator[Callable[[], None]]:
    lock = _AdvisoryLock(engine, number, name)
    try:
        try:
            await lock.take()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(error, engine) from error
        keeping = asyncio.create_task(lock.keep(), name=f"lease {name}")
        try:
            yield lock.check
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    finally:
        await lock.close()


class _AdvisoryLock:
    """PostgreSQL's lock on a number, on a connection of its own that is replaced when it ends."""

    def __init__(self, engine: AsyncEngine, number: int, name: str) -> None:
        self._engine = unpooled(engine)
        self._number = number
        self._name = name
        self._connection: AsyncConnection | None = None
        self._driver: Any = None  # the same connection, as asyncpg has it
        self._ourselves: dict[str, Any] | None = None  # which of the server's processes held the lock for us last
        self._ended = asyncio.Event()  # the connection has ended
        self._lost = False

    def check(self) -> None:
        """Raises BastionError(RECORD_UNAVAILABLE), see `lease`.

        It asks nobody: a lock that PostgreSQL has released ended with its connection, and we hear of that end as
        early as of the end of those that rows are written on, which all fail when the database is started anew.
        """
        if self._lost:
            raise BastionError(Code.RECORD_UNAVAILABLE, UNAVAILABLE, detail=_taken(self._name))
        if self._driver is None or self._driver.is_closed():
            raise Interrupted(
                Code.RECORD_UNAVAILABLE, UNAVAILABLE, detail=f"the lock on the name {self._name} is not taken again yet"
            )

    async def take(self) -> None:
        """Take the lock. Raises BastionError(CONFLICT) if another process holds it, and what the database raises."""
        connection = await self._engine.connect()

        async def locked() -> bool:
            return bool((await connection.execute(_TAKE, {"number": self._number})).scalar())

        try:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            if self._ourselves is not None:  # the server may not know yet that this connection of ours has ended
                await connection.execute(_END, self._ourselves)
            await _insist(locked, self._name)
            self._ourselves = (await connection.execute(_OURSELVES)).one()._asdict()
            driver: Any = (await connection.get_raw_connection()).driver_connection
        except BaseException:
            await _end(connection)
            raise
        self._ended.clear()
        driver.add_termination_listener(lambda _: self._ended.set())
        self._connection, self._driver = connection, driver

    async def keep(self) -> None:
        """Take the lock again whenever its connection has ended; returns when another process has it."""
        while not self._lost:
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_EVERY_S):
                    await self._ended.wait()
            if not await self._answers():
                _log.warning("writer.lock_lost", name=self._name)
                await self._take_again()

    async def close(self) -> None:
        """Let go of the lock."""
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            await _end(connection)

    async def _answers(self) -> bool:
        if self._connection is None:
            return False
        try:
            async with asyncio.timeout(ASK_EVERY_S):
                await self._connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return False
        return True

    async def _take_again(self) -> None:
        await self.close()
        while True:
            try:
                async with asyncio.timeout(TAKEN_WITHIN_S):
                    await self.take()
            except BastionError:
                # It has closed our sessions in the record by now: what we still wrote of them would contradict it.
                self._lost = True
                _log.error("writer.name_taken", name=self._name, error=_taken(self._name))
                return
            except Exception as error:  # noqa: BLE001 - asyncpg's own among them, while the database starts
                _log.debug("writer.lock_refused", name=self._name, error=unavailable(error, self._engine).detail)
                await asyncio.sleep(RETRY_S)
            else:
                _log.info("writer.lock_taken_again", name=self._name)
                return


async def _end(connection: AsyncConnection) -> None:
    await connection.invalidate()  # the lock ends with the connection, which is not to be used again
    await connection.close()


def _taken(name: str) -> str:
    return f"another bastion named {name} has begun on this database meanwhile; end one of them"


async def _insist(locked: Callable[[], Awaitable[bool]], name: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not await locked():
        if loop.time() > deadline:
            raise BastionError(
                Code.CONFLICT, f"another bastion named {name} runs on this database; end it, or use another database"
            )
        await asyncio.sleep(0.1)
