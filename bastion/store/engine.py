"""Opening a database by its URL, and saying what is wrong with it; used by the modules of store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import create_engine, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from bastion.errors import BastionError, Code
from bastion.store.schema import REVISION

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_MS = 5000

UNAVAILABLE = "The record cannot be kept now, so nothing may go on. Try again later."

_POSTGRESQL = {
    "application_name": "bastion",
    # A server that lost us in a transaction would keep its rows locked, against our next try too, for hours.
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
}

_LOG = "bastion log"  # which file a connection's write-ahead log was

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


class Interrupted(BastionError):  # noqa: N818 - it says what happened to a write that may be tried again
    """The database failed, not what it was given: the same may be written a moment later."""


def parse_url(url: str) -> URL:
    """A database URL with the driver we use; `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.

    Raises BastionError(INVALID); its message never holds the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in _DRIVERS:
        raise BastionError(
            Code.INVALID,
            "The database URL is not understood: it must look like sqlite:///PATH or "
            "postgresql://USER:PASSWORD@HOST/NAME (BASTION_DATABASE_URL).",
        )
    parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
    if is_sqlite(parsed) and parsed.database in {None, "", ":memory:"}:
        raise BastionError(Code.INVALID, "The database URL names no file: write sqlite:///PATH (BASTION_DATABASE_URL).")
    return parsed


def is_sqlite(url: URL) -> bool:
    """Whether the URL is of a SQLite file (else it is PostgreSQL)."""
    return url.get_backend_name() == "sqlite"


def open_engine(url: str) -> AsyncEngine:
    """Connections to a database that exists; nothing is connected yet.

    SQLite: WAL, synchronous=FULL (a commit is on the disk), foreign keys, 5 s
    of patience with other writers; a file that was moved, removed or replaced is not written to:
    every transaction fails until the one that was opened is back, or the program starts anew.
    Raises BastionError(INVALID).
    """
    parsed = parse_url(url)
    if is_sqlite(parsed):
        _check_file(Path(str(parsed.database)))
        engine = create_async_engine(parsed, hide_parameters=True)
        _listen(engine.sync_engine, str(parsed.database))
        return engine
    return _postgresql(parsed)


def unpooled(engine: AsyncEngine) -> AsyncEngine:
    """The same PostgreSQL, each connection made when it is asked for: a pool's may have ended long ago."""
    return _postgresql(engine.url, poolclass=NullPool)


def _postgresql(url: URL, **options: Any) -> AsyncEngine:
    settings = {"timeout": CONNECT_TIMEOUT_S, "server_settings": _POSTGRESQL}
    return create_async_engine(url, hide_parameters=True, connect_args=settings, **options)


def open_blocking_sqlite(url: URL) -> Engine:
    """One connection to a SQLite file that `open_engine` found, for one thread."""
    engine = create_engine(url.set(drivername="sqlite"), hide_parameters=True, pool_size=1, max_overflow=0)
    _listen(engine, str(url.database))
    return engine


def _listen(engine: Engine, path: str) -> None:
    file = _identity(path)

    def open_it(_dialect: object, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        del record
        if _identity(path) != file:
            raise OSError(f"{path} is not the file that was opened")
        arguments[0] = f"file:{quote(path)}?mode=rw"  # one that is gone is not made anew, empty
        options["uri"] = True

    def check(_connection: object, record: Any, _proxy: object) -> None:
        # SQLite goes on writing into a file that has no name any more, where nobody would ever find the record.
        log, now = record.info.get(_LOG), _identity(f"{path}-wal")
        if _identity(path) != file or (log is not None and now != log):
            raise OSError(f"{path} is not the file that was opened")
        record.info[_LOG] = now

    event.listen(engine, "do_connect", open_it)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "checkout", check)
    event.listen(engine, "begin", _begin_sqlite)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise BastionError(
            Code.INVALID, f"{path} is a directory, not a database: name a file in it (BASTION_DATABASE_URL)."
        )
    if not path.is_file():
        raise BastionError(Code.INVALID, f"There is no database at {path}: create it with `bastion db upgrade`.")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin in _begin_sqlite and not where the driver thinks best
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=4096",  # pages of 4 KiB: bulk output would copy its log four times as often otherwise
        "foreign_keys=ON",
        "recursive_triggers=ON",  # or INSERT OR REPLACE would delete evidence past its trigger
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _identity(path: str) -> tuple[int, int] | None:
    """Which file that is; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked for every transaction, and a Path costs more than the answer
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _begin_sqlite(connection: Connection) -> None:
    # Whoever will write takes the lock at once: a read lock that grows into a write lock fails instead of waiting.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def writing(engine: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
    """A transaction that writes; commits at its end, rolls back on an exception."""
    return engine.execution_options(writes=True).begin()


async def check_revision(engine: AsyncEngine) -> None:
    """Raises BastionError(INVALID) unless the database has exactly the tables this program knows."""
    try:
        async with engine.connect() as connection:
            found = await _revision(connection)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise unavailable(error, engine) from error
    if found != REVISION:
        raise BastionError(
            Code.INVALID,
            f"The database is at revision {found or 'none'}, this bastion needs {REVISION}: run `bastion db upgrade` "
            "(with the newest bastion that uses it).",
        )


async def _revision(connection: AsyncConnection) -> str:
    tables = await connection.run_sync(lambda sync: sync.dialect.has_table(sync, "alembic_version"))
    if not tables:
        return ""
    rows = await connection.execute(select(text("version_num")).select_from(text("alembic_version")))
    return ",".join(sorted(rows.scalars()))


def unavailable(error: BaseException, engine: AsyncEngine) -> BastionError:
    """What a failed database is to the rest of the program. Its words are kept for operators, without passwords."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = f"{type(cause).__name__}: {cause}"
    password = engine.url.password
    if password:
        said = said.replace(str(password), "***")
    return BastionError(Code.RECORD_UNAVAILABLE, UNAVAILABLE, detail=said)
