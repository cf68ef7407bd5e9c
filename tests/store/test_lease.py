"""Who holds a writer's name in PostgreSQL when its connection ends, and the bastion lives on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped] # asyncpg has no types
import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from bastion.errors import BastionError, Code
from bastion.store import lease, open_reader, open_store
from bastion.store.orphans import REASON
from bastion.store.views import Filter
from support import records
from support.faultproxy import Way
from support.records import SettableClock, counted_ids
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bastion.store import Store
    from support.faultproxy import FaultProxy

NAME = "bastion-0"
PATIENCE_S = 3.0

HOLDERS = """
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
THROW_OUT = """
    SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@asynccontextmanager
async def serving(url: str, *, session: str) -> AsyncIterator[Store]:
    """A store that has begun under the name, with a session open."""
    async with open_store(
        url, name=NAME, clock=SettableClock(), new_id=counted_ids(session), timeout=PATIENCE_S
    ) as store:
        await store.writer.begin()
        await store.writer.open_connection(records.connection(f"{session}-conn"))
        await store.writer.start_session(records.session(session, connection_id=f"{session}-conn"), None)
        yield store


async def asked(url: str, question: str) -> list[int]:
    """The numbers that PostgreSQL answers with."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    try:
        return [row[0] for row in await connection.fetch(question)]
    finally:
        await connection.close()


async def throw_everybody_out(url: str) -> list[int]:
    """End every connection, as a server does that is started anew; returns who held the name."""
    held = await holders(url)
    await asked(url, THROW_OUT)
    return held


async def holders(url: str) -> list[int]:
    """The server's processes that hold a name in this database."""
    return await asked(url, HOLDERS)


async def holds_anew(url: str, before: list[int]) -> bool:
    """Whether another of the server's processes holds the name than before."""
    return await holders(url) not in ([], before)


async def is_free(url: str) -> bool:
    """Whether nobody holds the name."""
    return not await holders(url)


async def assert_refused(url: str, *, session: str) -> None:
    """Assert that a second of that name does not begin, and does not close the session."""
    async with open_store(url, name=NAME, clock=SettableClock(), new_id=counted_ids("no")) as store:
        with pytest.raises(BastionError) as caught:
            await store.writer.begin()
        assert caught.value.code is Code.CONFLICT
        assert (await store.reader.session(session)).end is None


async def test_the_name_is_held_again_before_anything_is_written_to_a_database_that_was_started_anew(
    postgresql: str,
) -> None:
    async with serving(postgresql, session="one") as store:
        before = await throw_everybody_out(postgresql)
        await store.writer.event(records.event("e1"))
        after = await holders(postgresql)

        assert (len(before), len(after)) == (1, 1)
        assert after != before
        await assert_refused(postgresql, session="one")


async def test_the_name_is_held_again_though_nothing_is_written(postgresql: str) -> None:
    async with serving(postgresql, session="one"):
        before = await throw_everybody_out(postgresql)
        await eventually(lambda: holds_anew(postgresql, before), within=30)

        await assert_refused(postgresql, session="one")


async def test_what_waits_while_the_database_is_away_is_written_under_the_name(
    proxied: tuple[str, FaultProxy], postgresql: str
) -> None:
    url, proxy = proxied
    async with serving(url, session="one") as store:
        proxy.refuse()
        proxy.cut()
        await eventually(lambda: is_free(postgresql), within=30)
        writing = asyncio.create_task(store.writer.event(records.event("e1")))
        await asyncio.sleep(lease.RETRY_S)
        assert not writing.done()
        proxy.resume()

        await writing
        await assert_refused(postgresql, session="one")


async def test_a_connection_that_went_silent_is_found_out_and_does_not_keep_us_from_our_own_name(
    proxied: tuple[str, FaultProxy], postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "ASK_EVERY_S", 0.3)
    url, proxy = proxied
    async with serving(url, session="one") as store:
        before = await holders(postgresql)
        proxy.swallow_newest(*Way)  # it is the lock's: the server has not heard of that, and goes on holding it

        await eventually(lambda: holds_anew(postgresql, before), within=30)
        await store.writer.event(records.event("e1"))
        await assert_refused(postgresql, session="one")


async def test_who_lost_the_name_to_another_writes_nothing_any_more_and_says_why(
    proxied: tuple[str, FaultProxy], postgresql: str
) -> None:
    url, proxy = proxied
    with capture_logs() as logs:
        async with serving(url, session="one") as first:
            proxy.refuse()
            proxy.cut()
            async with serving(postgresql, session="two") as second:
                proxy.resume()

                async def is_told() -> bool:
                    return any(entry["event"] == "writer.name_taken" for entry in logs)

                await eventually(is_told, within=30)

                for late in (
                    first.writer.event(records.event("e1")),
                    first.writer.start_session(records.session("late"), None),
                ):
                    with pytest.raises(BastionError) as caught:
                        await late
                    assert caught.value.code is Code.RECORD_UNAVAILABLE
                    assert "another bastion named bastion-0" in caught.value.detail
                await second.writer.event(records.event("e2"))
            with pytest.raises(BastionError):  # not even when the other has gone: it has closed what was open
                await first.writer.event(records.event("e3"))
    async with open_reader(postgresql) as reader:
        found = await reader.events(Filter(), limit=50)
        closed = (await reader.session("one")).end

    assert {one.record.id for one in found} & {"e1", "e2", "e3"} == {"e2"}
    assert closed is not None
    assert closed.reason == REASON
