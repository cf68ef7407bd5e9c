"""Ways in which a database fails, each really caused; used by tests/failures.

An outage is a context manager: inside it the database fails, after it it is well.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped] # asyncpg has no types
from sqlalchemy import make_url

from support.faultproxy import Way
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.faults import Faulty

Outage = Callable[["Faulty"], AbstractContextManager[None]]

# --- of PostgreSQL, by the proxy before it -----------------------------------------


@contextmanager
def refusing(faulty: Faulty) -> Iterator[None]:
    """Nobody is let in, and who was in is thrown out: as a server that was stopped."""
    assert faulty.database is not None
    faulty.database.refuse()
    faulty.database.cut()
    yield
    faulty.database.resume()


@contextmanager
def stalling(faulty: Faulty) -> Iterator[None]:
    """It takes what is said, and answers when it is over."""
    assert faulty.database is not None
    faulty.database.hold()
    yield
    faulty.database.resume()


@contextmanager
def vanished(faulty: Faulty) -> Iterator[None]:
    """A black hole; who had a connection never hears of it again."""
    assert faulty.database is not None
    faulty.database.swallow(*Way)
    yield
    faulty.database.resume()


# --- of PostgreSQL, by itself --------------------------------------------------------


@contextmanager
def tables_locked(faulty: Faulty) -> Iterator[None]:
    """Somebody holds the tables of the record for themselves."""
    with _connected(faulty.auditor.url) as ask:

        def locked() -> bool:
            """Whether all are ours: who waits for one while it holds another lets go, or a writer would never end."""
            ask(_THROW_OUT_LOST, "BEGIN", f"SET LOCAL lock_timeout = {_BELOW_DEADLOCK_MS}")
            try:
                ask("LOCK TABLE session, event, transcript_chunk IN ACCESS EXCLUSIVE MODE")
            except asyncpg.LockNotAvailableError:
                ask("ROLLBACK")
                return False
            return True

        wait_until(locked)
        yield


@contextmanager
def read_only(faulty: Faulty) -> Iterator[None]:
    """As a primary that became a replica: connections end, and new ones may not write."""
    name = make_url(faulty.auditor.url).database
    _ask(faulty.auditor.url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on', _THROW_OUT)
    yield
    allow = f'ALTER DATABASE "{name}" RESET default_transaction_read_only'
    _ask(faulty.auditor.url, "SET default_transaction_read_only = off", allow, _THROW_OUT)


@contextmanager
def out_of_space(faulty: Faulty) -> Iterator[None]:
    """The error of a server whose disk is full, for each row of a session or of its transcript."""
    _ask(
        faulty.auditor.url,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
        *(f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION full_disk()" for table in _TABLES),
    )
    yield
    _ask(
        faulty.auditor.url,
        *(f"DROP TRIGGER full_disk ON {table}" for table in _TABLES),  # one by one: writers hold several tables
        "DROP FUNCTION full_disk",
    )


_THROW_OUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)

_THROW_OUT_LOST = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '5 seconds'"
)
"""What an earlier outage cut off in the middle, and the server has not noticed yet: it would hold its locks."""

_BELOW_DEADLOCK_MS = 500
"""Less than PostgreSQL's deadlock_timeout (1 s), after which it would end one of the two itself."""

_TABLES = ("session", "session_end", "connection", "event", "transcript_chunk")


def _ask(url: str, *statements: str) -> None:
    with _connected(url) as ask:
        ask(*statements)


@contextmanager
def _connected(url: str) -> Iterator[Callable[..., None]]:
    """A connection that stays open, as what executes statements on it."""
    loop = asyncio.new_event_loop()
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    def ask(*statements: str) -> None:
        for statement in statements:
            loop.run_until_complete(connection.execute(statement, timeout=30))

    try:
        connection = loop.run_until_complete(asyncpg.connect(plain))
        try:
            yield ask
        finally:
            loop.run_until_complete(connection.close())
    finally:
        loop.close()


# --- of SQLite -----------------------------------------------------------------------


@contextmanager
def file_locked(faulty: Faulty) -> Iterator[None]:
    """Another process writes, and does not come to an end."""
    with closing(sqlite3.connect(path_of(faulty), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def file_moved(faulty: Faulty) -> Iterator[None]:
    """The file has another name for a while; whoever has it open could go on writing into it."""
    path = path_of(faulty)
    away = path.with_name("away.db")
    path.rename(away)
    yield
    assert not path.exists()  # nobody made an empty one in its place
    away.rename(path)


@contextmanager
def writes_failing(faulty: Faulty) -> Iterator[None]:
    """Each write to a file is an error, as of a broken disk: the bastion's process may not write to files."""
    with file_size_limited(faulty.bastion.pid):
        yield


@contextmanager
def disk_full(faulty: Faulty) -> Iterator[None]:
    """Not a byte is left on the disk of the database, see `small_disk`; where that is not, as `writes_failing`."""
    path = path_of(faulty)
    if not path.parent.is_mount():
        with writes_failing(faulty):
            yield
        return
    filler, log = path.with_name("filler"), path.with_name(f"{path.name}-wal")

    def fill() -> bool:
        """Whether the disk is full, and the log has no room of its own from what was written meanwhile."""
        filler.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        return log.stat().st_size == 0

    wait_until(fill)
    yield
    filler.unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder with 64 MiB of room for a database, on a tmpfs; a plain folder for who may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def file_size_limited(pid: int) -> Iterator[None]:
    """Let a process write to no file beyond its first byte (EFBIG); pipes and sockets are not files."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def path_of(faulty: Faulty) -> Path:
    """The file of a SQLite database."""
    return Path(str(make_url(faulty.auditor.url).database))
