"""What the store promises, on both engines."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bastion.errors import BastionError, Code
from bastion.integrity import Verifier
from bastion.model import Action, Credential, Outcome, Person
from bastion.records import Chunk
from bastion.store import open_store, orphans
from bastion.store.orphans import REASON
from bastion.store.views import Filter
from bastion.store.writer import QUEUE_BYTES
from support import records
from support.databases import raw_engine
from support.records import START, SettableClock, counted_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bastion.integrity import Verdict
    from bastion.store import Store

EVERYTHING = Filter()
EVIDENCE = ("connection", "session", "session_end", "command", "command_end", "event", "transcript_chunk")


@asynccontextmanager
async def opened(url: str, *, ids: str = "id", name: str = "bastion-0", patience: float = 5) -> AsyncIterator[Store]:
    async with open_store(url, name=name, clock=SettableClock(), new_id=counted_ids(ids), timeout=patience) as store:
        yield store


async def write_whole_session(store: Store, session_id: str = "sess1", command_id: str = "cmd1") -> None:
    await store.writer.start_session(records.session(session_id), records.command(command_id, session_id))
    for seq in range(3):
        await store.writer.append([records.chunk(session_id, seq, [records.output(seq * 10, b"out\n" * 50)])])
    await store.writer.end_session(records.session_end(session_id), records.command_end(command_id))


async def verdict_of_session(store: Store, session_id: str) -> Verdict:
    verifier = Verifier(session_id)
    async for link in store.reader.session_chain(session_id):
        verifier.add(link)
    return verifier.verdict()


async def verdict_of_writer(store: Store, writer: str) -> Verdict:
    verifier = Verifier(writer)
    async for link in store.reader.writer_chain(writer):
        verifier.add(link)
    return verifier.verdict()


# --- what goes in comes out ----------------------------------------------------


async def test_a_whole_session_comes_out_as_it_went_in(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        await write_whole_session(store)
        view = await store.reader.session("sess1")
        [command] = await store.reader.commands(EVERYTHING, limit=10)
        chunks = [chunk async for chunk in store.reader.chunks("sess1")]

    assert view.record == records.session()
    assert view.end == records.session_end()
    assert command.record == records.command()
    assert command.end == records.command_end()
    assert (command.person, command.namespace, command.pod, command.container) == ("alice", "shop", "web", "app")
    assert chunks == [records.chunk("sess1", seq, [records.output(seq * 10, b"out\n" * 50)]) for seq in range(3)]


async def test_an_event_comes_out_as_it_went_in(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.event(records.event("e1"))
        [newest, first] = await store.reader.events(EVERYTHING, limit=10)

    assert newest.record == records.event("e1")
    assert first.record.type == "writer.started"


async def test_command_bytes_are_kept_exactly(database_url: str) -> None:
    hostile = bytes(range(256)) + b"\x00'; DROP TABLE command; --%_\\"
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        await store.writer.start_session(records.session(), records.command(text=hostile))
        [view] = await store.reader.commands(EVERYTHING, limit=1)

    assert view.record.text == hostile


async def test_text_that_an_engine_refuses_is_kept_as_visible_escapes(database_url: str) -> None:
    odd = dataclasses.replace(records.connection(), client_version="SSH-2.0-a\0b\udcff")
    told = dataclasses.replace(records.event("e1"), reason="a\0\udc80", detail={"x": "\0\udcff"})
    async with opened(database_url) as store:
        await store.writer.open_connection(odd)
        await store.writer.event(told)
        [view, *_] = await store.reader.events(EVERYTHING, limit=1)
        verdict = await verdict_of_writer(store, store.writer.id)

    assert view.record.reason == "a\\x00\\udc80"
    assert verdict.intact


# --- listings --------------------------------------------------------------------


async def test_lists_are_filtered_newest_first_and_paged(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        for number in range(6):
            person, pod = ("alice", "web") if number % 2 else ("bob", "api")
            id_ = f"s{number}"
            await store.writer.start_session(
                records.session(id_, person=person, pod=pod, after_s=number // 3),
                records.command(f"c{number}", id_, after_s=number // 3),
            )
        reader = store.reader
        by_person = await reader.sessions(Filter(person="alice"), limit=10)
        by_pod = await reader.commands(Filter(pod="api", namespace="shop"), limit=10)
        since = await reader.sessions(Filter(since=START + timedelta(seconds=1)), limit=10)
        until = await reader.sessions(Filter(until=START + timedelta(seconds=1)), limit=10)
        nowhere = await reader.sessions(Filter(namespace="' OR 1=1 --"), limit=10)
        pages = [await reader.sessions(EVERYTHING, limit=4)]
        pages.append(await reader.sessions(EVERYTHING, limit=4, before=pages[0][-1].position))

    assert [view.record.id for view in by_person] == ["s5", "s3", "s1"]
    assert [view.record.id for view in by_pod] == ["c4", "c2", "c0"]
    assert [view.record.id for view in since] == ["s5", "s4", "s3"]
    assert [view.record.id for view in until] == ["s2", "s1", "s0"]
    assert nowhere == []
    assert [[view.record.id for view in page] for page in pages] == [["s5", "s4", "s3", "s2"], ["s1", "s0"]]


async def test_a_name_is_looked_for_as_it_was_written(database_url: str) -> None:
    odd = "a\0\udcff"
    which = (Filter(person=odd), Filter(namespace=odd), Filter(pod=odd))
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        await store.writer.event(dataclasses.replace(records.event("e1"), person=odd, namespace=odd, pod=odd))
        for one in which:
            assert [view.record.id for view in await store.reader.events(one, limit=9)] == ["e1"]
            assert await store.reader.sessions(one, limit=9) == []
            assert await store.reader.commands(one, limit=9) == []


async def test_a_session_is_found_by_a_unique_prefix(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        for id_ in ("ab1", "ab2", "ab", "cd_1", "cdx1"):
            await store.writer.start_session(records.session(id_), None)
        found = [(await store.reader.session(prefix)).record.id for prefix in ("ab1", "ab", "cd_", "cdx")]
        with pytest.raises(BastionError, match="ab, ab1, ab2") as several:
            await store.reader.session("a")
        refused = []
        for prefix in ("zz", "", "%", "_", "cd%", "a'", "\0"):
            with pytest.raises(BastionError) as none:
                await store.reader.session(prefix)
            refused.append(none.value.code)

    assert found == ["ab1", "ab", "cd_1", "cdx1"]
    assert several.value.code is Code.CONFLICT
    assert set(refused) == {Code.NOT_FOUND}


# --- durable before answered -------------------------------------------------------


async def test_many_callers_share_few_commits(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.event(records.event("first"))
        commits = []
        engine = store.reader._engine.sync_engine
        sqlalchemy_event.listen(engine, "commit", lambda _connection: commits.append(1))
        await asyncio.gather(*(store.writer.event(records.event(f"e{n}")) for n in range(200)))
        written = await store.reader.events(EVERYTHING, limit=1000)

    assert len(written) == 202
    assert len(commits) <= 4


async def test_a_caller_is_answered_only_after_others_can_read_it(database_url: str) -> None:
    async with opened(database_url) as store, opened(database_url, ids="other") as other:
        for number in range(20):
            await store.writer.event(records.event(f"e{number}", after_s=number + 1))
            [newest] = await other.reader.events(EVERYTHING, limit=1)
            assert newest.record.id == f"e{number}"


async def test_a_cancelled_caller_does_not_undo_evidence(database_url: str) -> None:
    async with opened(database_url) as store:
        caller = asyncio.create_task(store.writer.event(records.event("e1")))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await store.writer.event(records.event("e2"))
        written = {view.record.id for view in await store.reader.events(EVERYTHING, limit=10)}

    assert {"e1", "e2"} <= written


async def test_writing_the_same_again_changes_nothing(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        for _ in range(2):
            await write_whole_session(store)
            await store.writer.event(records.event("e1"))
        chunks = [chunk async for chunk in store.reader.chunks("sess1")]
        verdicts = await verdict_of_session(store, "sess1"), await verdict_of_writer(store, store.writer.id)

    assert len(chunks) == 3
    assert [verdict.head.length for verdict in verdicts] == [7, 3]
    assert all(verdict.intact for verdict in verdicts)


async def test_another_row_of_the_same_key_is_refused(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        await write_whole_session(store)
        with pytest.raises(BastionError) as refused:
            await store.writer.append([records.chunk("sess1", 1, [records.output(10, b"forged")])])
        verdict = await verdict_of_session(store, "sess1")

    assert refused.value.code is Code.CONFLICT
    assert verdict.intact


async def test_one_callers_fault_is_not_anothers(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        results = await asyncio.gather(
            store.writer.event(records.event("e1")),
            store.writer.append([records.chunk("no-such-session", 0, [records.output(0, b"x")])]),
            store.writer.start_session(records.session(), None),
            store.writer.event(records.event("e2")),
            return_exceptions=True,
        )
        verdicts = await verdict_of_session(store, "sess1"), await verdict_of_writer(store, store.writer.id)

    assert [type(result) for result in results] == [type(None), BastionError, type(None), type(None)]
    assert all(verdict.intact for verdict in verdicts)
    assert verdicts[1].head.length == 4


# --- when the database does not answer ------------------------------------------------


@asynccontextmanager
async def hung(url: str) -> AsyncIterator[None]:
    """While inside, nobody else can write: another transaction holds the lock."""
    engine = raw_engine(url)
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            await connection.exec_driver_sql("PRAGMA busy_timeout=5000")
            await connection.exec_driver_sql("INSERT INTO person VALUES ('x', '[]', 0, NULL)")
        else:
            await connection.execute(text("LOCK TABLE event, transcript_chunk IN ACCESS EXCLUSIVE MODE"))
        try:
            yield
        finally:
            await connection.rollback()
    await engine.dispose()


async def test_callers_of_a_database_that_hangs_are_told_in_time_and_it_goes_on_afterwards(database_url: str) -> None:
    async with opened(database_url, patience=0.5) as store:
        await store.writer.event(records.event("before"))
        loop = asyncio.get_running_loop()
        async with hung(database_url):
            began = loop.time()
            results = await asyncio.gather(
                *(store.writer.event(records.event(f"e{n}")) for n in range(3)), return_exceptions=True
            )
            took = loop.time() - began
        assert [getattr(result, "code", None) for result in results] == [Code.RECORD_UNAVAILABLE] * 3
        assert took < 1.5

        async with asyncio.timeout(15):
            while True:  # what was hung may need a moment to let go
                try:
                    await store.writer.event(records.event("after"))
                    break
                except BastionError:
                    continue
        verdict = await verdict_of_writer(store, store.writer.id)

    assert verdict.intact


async def test_what_waits_to_be_written_is_bounded_and_more_makes_callers_wait(database_url: str) -> None:
    size = 1024 * 1024
    big = [
        Chunk(session="sess1", seq=seq, t0_us=0, t1_us=0, raw_len=size, codec="raw", data=bytes(size))
        for seq in range(24)
    ]
    async with opened(database_url, patience=3) as store:
        await store.writer.open_connection(records.connection())
        await store.writer.start_session(records.session(), None)
        async with hung(database_url):
            calls = [asyncio.create_task(store.writer.append([chunk])) for chunk in big]
            await asyncio.sleep(0.5)
            queued = store.writer._queued
            answered = [call for call in calls if call.done()]
        await asyncio.gather(*calls)
        seqs = [chunk.seq async for chunk in store.reader.chunks("sess1")]

    assert QUEUE_BYTES - 2 * size < queued <= QUEUE_BYTES
    assert answered == []
    assert seqs == list(range(24))


async def test_a_writer_that_was_closed_refuses(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.close()
        with pytest.raises(BastionError) as refused:
            await store.writer.event(records.event("e1"))

    assert refused.value.code is Code.RECORD_UNAVAILABLE


async def test_closing_writes_what_waits(database_url: str) -> None:
    async with opened(database_url) as store:
        waiting = [asyncio.create_task(store.writer.event(records.event(f"e{n}"))) for n in range(5)]
        await asyncio.sleep(0)
        await store.writer.close()
        await asyncio.gather(*waiting)
        written = await store.reader.events(EVERYTHING, limit=10)

    assert len(written) == 6


# --- sessions of an earlier life ---------------------------------------------------------


async def test_the_next_start_closes_what_was_left_open(database_url: str) -> None:
    async with opened(database_url, ids="one") as first:
        await first.writer.begin()
        await first.writer.open_connection(records.connection())
        await first.writer.start_session(records.session("open"), records.command("running", "open"))
        await first.writer.append([records.chunk("open", 0, [records.output(0, b"x")])])
        await write_whole_session(first, "whole", "done")
    async with opened(database_url, ids="two", name="another") as stranger:
        strangers = await stranger.writer.begin()
    async with opened(database_url, ids="three") as second:
        closed = [await second.writer.begin(), await second.writer.begin()]
        view = await second.reader.session("open")
        commands = {each.record.id: each.end for each in await second.reader.commands(EVERYTHING, limit=10)}
        events = [each.record for each in await second.reader.events(EVERYTHING, limit=50)]
        verdict = await verdict_of_session(second, "open")

    assert (strangers.closed, strangers.left) == ((), ())
    assert [[session.id for session in each.closed] for each in closed] == [["open"], []]
    assert view.end is not None
    assert (view.end.complete, view.end.status, view.end.reason) == (False, 255, REASON)
    assert commands["running"] is not None
    assert commands["running"].status == 255
    assert [event.session for event in events if event.type == "session.incomplete"] == ["open"]
    assert verdict.intact
    assert verdict.head.length == 5


async def test_a_session_that_was_cut_off_ends_with_the_last_that_is_known_of_it(database_url: str) -> None:
    async with opened(database_url, ids="one") as first:
        await first.writer.begin()
        await first.writer.open_connection(records.connection())
        for id_ in ("silent", "spoke"):
            started = records.session(id_, after_s=5)
            await first.writer.start_session(started, records.command(f"command-{id_}", id_, after_s=5))
        for seq, at_us in enumerate((250_000, 3_000_000)):
            await first.writer.append([records.chunk("spoke", seq, [records.output(at_us, b"x")])])
    next_day = SettableClock(START + timedelta(days=1))
    async with open_store(database_url, name="bastion-0", clock=next_day, new_id=counted_ids("two")) as second:
        assert len((await second.writer.begin()).closed) == 2
        sessions = {each.record.id: each.end for each in await second.reader.sessions(EVERYTHING, limit=10)}
        commands = {each.record.session: each.end for each in await second.reader.commands(EVERYTHING, limit=10)}
        events = [each.record for each in await second.reader.events(EVERYTHING, limit=50)]

    last_known = {"silent": START + timedelta(seconds=5), "spoke": START + timedelta(seconds=8)}
    assert {id_: end and end.ended_at for id_, end in sessions.items()} == last_known
    assert {id_: end and end.ended_at for id_, end in commands.items()} == last_known
    assert {event.at for event in events if event.type == "session.incomplete"} == {next_day.at}


async def test_the_next_start_is_told_of_sessions_whose_processes_may_still_be_there(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "MOST_ENDED", 5)
    async with opened(database_url, ids="one") as first, opened(database_url, ids="two", name="another") as stranger:
        await first.writer.begin()
        await first.writer.open_connection(records.connection())
        ended = {"forgotten": 1, "hung-up": 2, "in-vain": 3, "settled": 4, "plain": 5, "read": 6}
        for number, id_ in enumerate((*ended, "open", "open-log")):
            action = Action.LOGS if id_ in {"read", "open-log"} else Action.EXEC
            started = dataclasses.replace(records.session(id_), action=action)
            await first.writer.start_session(started, records.command(f"command-{number}", id_))
        for id_, after_s in ended.items():
            outcome = Outcome.HUNG_UP if id_ == "hung-up" else Outcome.EXITED
            at = START + timedelta(seconds=after_s)
            end = dataclasses.replace(records.session_end(id_), outcome=outcome, ended_at=at)
            await first.writer.end_session(end, None)
        await stranger.writer.start_session(records.session("strange"), None)
        await stranger.writer.end_session(records.session_end("strange"), None)
        for number, (id_, kind) in enumerate(
            [("in-vain", "not_reaped"), ("settled", "not_reaped"), ("settled", "reaped"), ("plain", "debug")]
        ):
            told = dataclasses.replace(records.event(f"told-{number}", f"session.{kind}"), session=id_)
            await first.writer.event(told)
    async with opened(database_url, ids="three") as second:
        earlier = await second.writer.begin()
        again = await second.writer.begin()

    said = [(one.session.id, one.outcome, one.was_open, one.is_told) for one in earlier.left]
    assert said == [
        ("open", Outcome.BROKEN, True, False),
        ("plain", Outcome.EXITED, False, False),
        ("in-vain", Outcome.EXITED, False, True),
        ("hung-up", Outcome.HUNG_UP, False, False),
        ("forgotten", Outcome.EXITED, False, False),
    ]
    assert [one.ended_at - START for one in earlier.left] == [timedelta(seconds=after_s) for after_s in (0, 5, 3, 2, 1)]
    assert {one.id for one in earlier.closed} == {"open", "open-log"}
    # The open one has its end now, which is older than those of the newest five, and beyond them nothing is looked at.
    assert [one.session.id for one in again.left] == ["plain", "in-vain", "hung-up", "forgotten"]


async def test_two_living_writers_of_one_name_are_refused_and_harm_nothing(database_url: str) -> None:
    async with opened(database_url, ids="one") as first:
        await first.writer.begin()
        await first.writer.open_connection(records.connection())
        await first.writer.start_session(records.session("open"), None)
        async with opened(database_url, ids="two") as second:
            with pytest.raises(BastionError) as refused:
                await second.writer.begin()
        await first.writer.end_session(records.session_end("open"), None)
        view = await first.reader.session("open")

    assert refused.value.code is Code.CONFLICT
    assert view.end is not None
    assert view.end.reason != REASON


# --- insert-only, and verified ---------------------------------------------------------------


@pytest.mark.parametrize("table", EVIDENCE)
async def test_evidence_cannot_be_changed_or_deleted(database_url: str, table: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        await write_whole_session(store)
    engine = raw_engine(database_url)
    statements = [f"UPDATE {table} SET position = 7", f"DELETE FROM {table}"]  # noqa: S608 - the tables are named above
    if engine.dialect.name == "postgresql":
        statements.append(f"TRUNCATE {table} CASCADE")
    for statement in statements:
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError, match="insert-only"):
                await connection.execute(text(statement))
    await engine.dispose()


CHANGES = {
    "session.person": "UPDATE session SET person = 'mallory'",
    "session.record_input": "UPDATE session SET record_input = NOT record_input",
    "command.text": "UPDATE command SET text = hash",
    "command.pod": "UPDATE command SET pod = 'elsewhere'",
    "command_end.status": "UPDATE command_end SET status = 0",
    "session_end.status": "UPDATE session_end SET status = 0",
    "session_end.complete": "UPDATE session_end SET complete = NOT complete",
    "chunk.t0_us": "UPDATE transcript_chunk SET t0_us = t0_us + 1 WHERE seq = 1",
    "chunk.data": "UPDATE transcript_chunk SET data = hash WHERE seq = 1",
    "chunk.sha256": "UPDATE transcript_chunk SET sha256 = hash WHERE seq = 1",
    "chunk.prev_hash": "UPDATE transcript_chunk SET prev_hash = hash WHERE seq = 1",
    "chunk.deleted": "DELETE FROM transcript_chunk WHERE seq = 1",
    "chunk.reordered": "UPDATE transcript_chunk SET position = 5 - position",
    "command.deleted": "DELETE FROM command_end",
}


async def tamper(url: str, statement: str) -> None:
    """Change evidence as somebody who owns the database can."""
    engine = raw_engine(url)
    async with engine.begin() as connection:
        for table in EVIDENCE:
            if engine.dialect.name == "postgresql":
                await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            else:
                await connection.execute(text(f"DROP TRIGGER {table}_no_update"))
                await connection.execute(text(f"DROP TRIGGER {table}_no_delete"))
        result = await connection.execute(text(statement))
        assert result.rowcount > 0
    await engine.dispose()


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_session_does_not_verify(database_url: str, change: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        await write_whole_session(store)
        before = await verdict_of_session(store, "sess1")
        await tamper(database_url, CHANGES[change])
        after = await verdict_of_session(store, "sess1")

    assert before.intact
    assert not after.intact


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE connection SET source_host = '203.0.113.9'",
        "UPDATE event SET outcome = 'denied' WHERE id = 'e3'",
        "UPDATE event SET detail = '{}' WHERE id = 'e3'",
        "DELETE FROM event WHERE id = 'e3'",
        "UPDATE event SET position = 100 WHERE id = 'e3'",
    ],
)
async def test_a_changed_event_or_connection_does_not_verify(database_url: str, statement: str) -> None:
    async with opened(database_url) as store:
        for number in range(100):
            await store.writer.event(records.event(f"e{number}"))
        await store.writer.open_connection(records.connection())
        await store.writer.event(records.event("last"))
        before = await verdict_of_writer(store, store.writer.id)
        await tamper(database_url, statement)
        after = await verdict_of_writer(store, store.writer.id)

    assert before.intact
    assert before.head.length == 103
    assert not after.intact


async def test_swapped_sessions_do_not_verify(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.writer.open_connection(records.connection())
        await write_whole_session(store, "sess1", "cmd1")
        await write_whole_session(store, "sess2", "cmd2")
        await tamper(
            database_url,
            "UPDATE transcript_chunk SET seq = seq + 10,"
            " session = CASE session WHEN 'sess1' THEN 'sess2' ELSE 'sess1' END",
        )
        verdicts = [await verdict_of_session(store, id_) for id_ in ("sess1", "sess2")]

    assert not any(verdict.intact for verdict in verdicts)


# --- people and keys ------------------------------------------------------------------------------


async def test_people_and_keys_are_added_locked_and_removed_each_with_its_event(database_url: str) -> None:
    key = Credential(kind="key", id="SHA256:k1")
    alice = Person(subject="alice", groups=frozenset({"engineers", "leads"}))
    async with opened(database_url) as store:
        access, seen = store.access, []

        async def owner() -> Person | None:
            return await access.person_of(key)

        seen.append(await owner())
        await access.add_person("alice", alice.groups, records.event("1", "person.added"))
        await access.add_key("alice", key, "alice@laptop", records.event("2", "key.added"))
        seen.append(await owner())
        keys = [each async for each in access.keys()]  # noqa: SIM118 - no dict
        await access.set_key_locked(key, records.event("3", "key.locked"), locked=True)
        seen.append(await owner())
        locked = await access.locked()
        await access.set_key_locked(key, records.event("4", "key.unlocked"), locked=False)
        await access.set_person_locked("alice", records.event("5", "person.locked"), locked=True)
        seen.append(await owner())
        await access.set_person_locked("alice", records.event("6", "person.unlocked"), locked=False)
        seen.append(await owner())
        await access.remove_key(key, records.event("7", "key.removed"))
        seen.append(await owner())
        await access.add_key("alice", key, "", records.event("8", "key.added"))
        await access.remove_person("alice", records.event("9", "person.removed"))
        seen.append(await owner())
        left = [each async for each in access.people()], [each async for each in access.keys()]  # noqa: SIM118 - as above
        told = {each.record.id for each in await store.reader.events(EVERYTHING, limit=50)}
        verdict = await verdict_of_writer(store, store.writer.id)

    assert seen == [None, alice, None, None, alice, None, None]
    assert keys == [(alice, key, "alice@laptop")]
    assert locked == {key.id}
    assert left == ([], [])
    assert told >= set("123456789")
    assert verdict.intact


async def test_a_refused_change_leaves_no_event(database_url: str) -> None:
    key = Credential(kind="key", id="SHA256:k1")
    async with opened(database_url) as store:
        access = store.access
        await access.add_person("alice", frozenset(), records.event("1"))
        await access.add_person("bob", frozenset(), records.event("2"))
        await access.add_key("alice", key, "", records.event("3"))
        refusals: list[Any] = [
            (access.add_person("alice", frozenset(), records.event("x1")), Code.CONFLICT),
            (access.add_key("bob", key, "", records.event("x2")), Code.CONFLICT),
            (access.add_key("carl", key, "", records.event("x3")), Code.NOT_FOUND),
            (access.remove_person("carl", records.event("x4")), Code.NOT_FOUND),
            (access.set_person_locked("carl", records.event("x5"), locked=True), Code.NOT_FOUND),
            (access.remove_key(Credential(kind="key", id="none"), records.event("x6")), Code.NOT_FOUND),
        ]
        for call, code in refusals:
            with pytest.raises(BastionError) as refused:
                await call
            assert refused.value.code is code
        told = {each.record.id for each in await store.reader.events(EVERYTHING, limit=50)}
        verdict = await verdict_of_writer(store, store.writer.id)

    assert not any(id_.startswith("x") for id_ in told)
    assert verdict.intact
    assert verdict.head.length == 4
