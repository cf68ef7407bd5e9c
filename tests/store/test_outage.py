"""What the store does when its database goes away for a moment, and when it comes back as another."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bastion.errors import BastionError, Code
from bastion.integrity import Verifier
from bastion.model import Credential
from bastion.store import open_store
from bastion.store.migrate import upgrade
from bastion.store.views import Filter
from support import records
from support.databases import sqlite_url
from support.faultproxy import Way
from support.records import SettableClock, counted_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bastion.store import Store
    from support.faultproxy import FaultProxy

PATIENCE_S = 1.5
STRANGER = Credential(kind="key", id="SHA256:nobody")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """A store that has written."""
    async with open_store(
        url, name="bastion-0", clock=SettableClock(), new_id=counted_ids(), timeout=PATIENCE_S
    ) as store:
        await store.writer.open_connection(records.connection())
        yield store


async def test_a_write_is_tried_again_until_the_database_is_back(proxied: tuple[str, FaultProxy]) -> None:
    url, proxy = proxied
    async with opened(url) as store:
        proxy.refuse()
        proxy.cut()
        writing = asyncio.create_task(store.writer.start_session(records.session(), None))
        await asyncio.sleep(0.5)
        assert not writing.done()

        proxy.resume()
        await writing

        assert [one.record.id for one in await store.reader.sessions(Filter(), limit=9)] == ["sess1"]


async def test_people_are_found_again_at_once_when_the_database_was_started_anew(
    proxied: tuple[str, FaultProxy],
) -> None:
    url, proxy = proxied
    async with opened(url) as store:
        assert await store.access.person_of(STRANGER) is None
        proxy.cut()

        assert await store.access.person_of(STRANGER) is None


@pytest.mark.parametrize("fault", ["hold", "swallow"])
async def test_a_database_that_does_not_answer_is_not_waited_for_for_ever(
    proxied: tuple[str, FaultProxy], fault: str
) -> None:
    url, proxy = proxied
    async with opened(url) as store:
        if fault == "hold":
            proxy.hold()
        else:
            proxy.swallow(*Way)
        async with asyncio.timeout(30):
            for question in (store.access.person_of(STRANGER), store.writer.event(records.event("e1"))):
                with pytest.raises(BastionError) as caught:
                    await question
                assert caught.value.code is Code.RECORD_UNAVAILABLE
        proxy.resume()


@pytest.mark.parametrize("with_its_log", [True, False])
async def test_a_file_that_was_replaced_is_not_written_to_until_the_old_one_is_back(
    tmp_path: Path,
    with_its_log: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    path, log, old = tmp_path / "bastion.db", tmp_path / "bastion.db-wal", tmp_path / "old.db"
    await asyncio.to_thread(lambda: asyncio.run(upgrade(sqlite_url(path))))
    empty = Path(shutil.copy(path, tmp_path / "empty.db"))
    async with opened(sqlite_url(path)) as store:
        await store.writer.event(records.event("e1"))
        path.rename(old)
        if with_its_log:
            log.rename(tmp_path / "old.db-wal")
        await asyncio.to_thread(empty.rename, path)

        for id_ in ("e2", "e3"):
            with pytest.raises(BastionError) as caught:
                await store.writer.event(records.event(id_))
            assert caught.value.code is Code.RECORD_UNAVAILABLE
        with pytest.raises(BastionError):
            await store.access.person_of(STRANGER)

        old.rename(path)
        if with_its_log:
            (tmp_path / "old.db-wal").rename(log)
        await store.writer.event(records.event("e4"))
        kept = {one.record.id for one in await store.reader.events(Filter(), limit=9)}
        assert {"e1", "e4"} <= kept
        (writer,) = await store.reader.writers()
        verifier = Verifier(writer)
        async for link in store.reader.writer_chain(writer):
            verifier.add(link)
        assert verifier.verdict().intact


async def test_a_file_that_was_removed_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "bastion.db"
    await asyncio.to_thread(lambda: asyncio.run(upgrade(sqlite_url(path))))
    async with opened(sqlite_url(path)) as store:
        path.unlink()

        with pytest.raises(BastionError) as caught:
            await store.writer.event(records.event("e1"))

        assert caught.value.code is Code.RECORD_UNAVAILABLE
        assert not path.exists()
