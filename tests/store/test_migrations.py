"""Making, checking and opening databases, and what is said when that fails."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import make_url, text

from bastion.errors import BastionError, Code
from bastion.store import migrate, open_reader
from bastion.store.engine import open_engine, parse_url
from bastion.store.schema import REVISION
from support.databases import raw_engine, sqlite_url

if TYPE_CHECKING:
    from pathlib import Path


def test_the_revision_that_the_program_needs_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(migrate.MIGRATIONS)).get_current_head() == REVISION


async def test_the_migrations_make_exactly_the_tables_of_the_program(database_url: str) -> None:
    await migrate.check(database_url)


async def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    await migrate.upgrade(database_url)
    await migrate.check(database_url)


async def test_a_missing_column_is_noticed(database_url: str) -> None:
    engine = raw_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE person DROP COLUMN locked_at"))
    await engine.dispose()

    with pytest.raises(BastionError, match="bastion db upgrade") as refused:
        await migrate.check(database_url)

    assert refused.value.code is Code.INVALID


async def test_a_database_without_tables_or_of_another_revision_is_not_opened(empty_database_url: str) -> None:
    if make_url(empty_database_url).get_backend_name() == "sqlite":
        migrate._create_file(empty_database_url)
    for prepare in (False, True):
        if prepare:
            await migrate.upgrade(empty_database_url)
            engine = raw_engine(empty_database_url)
            async with engine.begin() as connection:
                await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            await engine.dispose()
        with pytest.raises(BastionError, match="bastion db upgrade") as refused:
            async with open_reader(empty_database_url):
                pass
        assert refused.value.code is Code.INVALID


async def test_a_new_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "with % and space.db"
    await migrate.upgrade(sqlite_url(path))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_sqlite_file_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BastionError, match="does not exist") as refused:
        await migrate.upgrade(sqlite_url(tmp_path / "no" / "bastion.db"))

    assert refused.value.code is Code.INVALID


def test_a_missing_sqlite_file_is_not_created_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(BastionError, match="bastion db upgrade"):
        open_engine(sqlite_url(tmp_path / "bastion.db"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://u:s3cret@h/d", "sqlite://", "sqlite:///:memory:", "postgresql://u:s3cret@h:port/d"]
)
def test_a_url_that_is_not_understood_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(BastionError) as refused:
        parse_url(url)

    assert refused.value.code is Code.INVALID
    assert "s3cret" not in str(refused.value)


async def test_passwords_are_in_no_error(unused_tcp_port: int) -> None:
    url = f"postgresql://someone:s3cret@127.0.0.1:{unused_tcp_port}/s3cret"
    with pytest.raises(BastionError) as refused:
        async with open_reader(url):
            pass

    assert refused.value.code is Code.RECORD_UNAVAILABLE
    assert "s3cret" not in str(refused.value)


async def test_sqlite_commits_are_on_the_disk_before_they_are_told(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "bastion.db")
    await migrate.upgrade(url)
    engine = open_engine(url)
    async with engine.connect() as connection:
        found = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    await engine.dispose()

    assert found == ["wal", 2, 1, 5000]
