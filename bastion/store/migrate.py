"""Making and changing the tables, by the Alembic scripts in migrations/; used by cli.db and cli.demo_files."""

from __future__ import annotations

import io
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

import bastion
from bastion.errors import BastionError, Code
from bastion.store.engine import check_revision, is_sqlite, open_engine, parse_url, unavailable, writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

MIGRATIONS = Path(bastion.__file__).resolve().parent.parent / "migrations"


async def upgrade(url: str) -> None:
    """Bring a database to the tables of this program; a missing SQLite file is created, for its owner alone (0600).

    Raises BastionError: INVALID (what is wrong with the URL, the folder or the database), RECORD_UNAVAILABLE.
    """
    _create_file(url)
    await _run(url, lambda config: command.upgrade(config, "head"))


async def check(url: str) -> None:
    """Compare a database with this program: its revision, then every table, column and index.

    Raises BastionError: INVALID if they differ, RECORD_UNAVAILABLE.
    """
    async with _opened(url) as engine:
        await check_revision(engine)
    await _run(url, command.check)


async def _run(url: str, step: Callable[[Config], None]) -> None:
    config = _config()

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        step(config)

    async with _opened(url) as engine:
        try:
            async with writing(engine) as connection:
                await connection.run_sync(run)
        except CommandError as error:
            raise BastionError(
                Code.INVALID,
                "The database does not have the tables of this bastion: run `bastion db upgrade`.",
                detail=str(error),
            ) from error
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(error, engine) from error


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


def _config() -> Config:
    if not (MIGRATIONS / "env.py").is_file():
        raise BastionError(Code.INVALID, f"The migrations are missing: {MIGRATIONS} must stand beside the program.")
    config = Config(stdout=io.StringIO())  # it says in words what we say in our own
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _create_file(url: str) -> None:
    parsed = parse_url(url)
    if not is_sqlite(parsed):
        return
    path = Path(str(parsed.database))
    if not path.parent.is_dir():
        raise BastionError(
            Code.INVALID, f"The folder {path.parent} does not exist: create it, for the database {path.name}."
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise BastionError(Code.INVALID, f"The database {path} cannot be created: {error.strerror}.") from error
