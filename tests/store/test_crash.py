"""What is left when a writing process is killed: at its start, in transactions, between them."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from bastion.integrity import Verifier
from bastion.recorder import MAX_LOSS_BYTES, MAX_LOSS_S
from bastion.store import open_reader, open_store
from bastion.store.orphans import ENTERED, REASON
from bastion.store.views import Filter
from bastion.wire.transcript import frames_of
from support import crashing_writer, records
from support.crashing_writer import Forwarded
from support.records import SettableClock, counted_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.connection import Connection

    from bastion.integrity import Link
    from bastion.store import Store
    from support.effort import Effort

AT_ONCE = 4
STARTING_S = 0.15
RUNNING_S = 0.4


@dataclass
class Heard:
    """What a process said before it was killed."""

    began: list[str] = field(default_factory=list)
    forwarded: list[Forwarded] = field(default_factory=list)

    def add(self, said: object) -> None:
        """Take one thing it said."""
        if isinstance(said, Forwarded):
            self.forwarded.append(said)
        else:
            self.began.append(str(said))


def killed_writer(url: str, name: str) -> Heard:
    """Start a process and kill it: one in three while it starts, the others some time after its first session began."""
    moments = random.Random(name)  # noqa: S311 - moments to kill at, not secrets
    heard = Heard()
    ours, theirs = crashing_writer.context().Pipe(duplex=False)
    process = crashing_writer.context().Process(target=crashing_writer.run, args=(url, name, hash(name), theirs))
    process.start()
    theirs.close()
    if moments.random() < 1 / 3:
        _listen(ours, heard, moments.uniform(0, STARTING_S))
    elif ours.poll(60):
        heard.add(ours.recv())
        _listen(ours, heard, moments.uniform(0, RUNNING_S))
    process.kill()
    process.join()
    _listen(ours, heard, 60)
    ours.close()
    process.close()
    return heard


def _listen(ours: Connection, heard: Heard, seconds: float) -> None:
    """Hear what is said for some seconds, or to its end."""
    until = time.monotonic() + seconds
    while ours.poll(max(0, until - time.monotonic())):
        try:
            heard.add(ours.recv())
        except (EOFError, OSError):  # the end, perhaps in the middle of a word
            return
        if time.monotonic() > until:
            return


async def test_the_next_start_is_told_in_which_container_a_session_ran_and_who_let_it_in(database_url: str) -> None:
    async with open_store(database_url, name="w", clock=SettableClock(), new_id=counted_ids("one")) as first:
        await first.writer.begin()
        await first.writer.open_connection(records.connection())
        for id_ in ("open", "ended", "beside", "beside-ended"):
            await first.writer.start_session(records.session(id_), None)
        for number, id_ in enumerate(("beside", "beside-ended")):
            told = dataclasses.replace(
                records.event(f"told-{number}", ENTERED),
                session=id_,
                rule="debugger/allow[0]",
                detail={"container": f"bastion-debug-{number}"},
            )
            await first.writer.event(told)
        for id_ in ("ended", "beside-ended"):
            await first.writer.end_session(records.session_end(id_), None)
    async with open_store(database_url, name="w", clock=SettableClock(), new_id=counted_ids("two")) as second:
        left = {one.session.id: one for one in (await second.writer.begin()).left}

    target = records.session().target
    beside = [
        dataclasses.replace(target, container=f"bastion-debug-{number}", ephemeral=True, beside="app")
        for number in range(2)
    ]
    assert {id_: one.where for id_, one in left.items()} == {
        "open": target,
        "ended": target,
        "beside": beside[0],
        "beside-ended": beside[1],
    }
    assert left["open"].roles == left["ended"].roles == {"developer"}
    assert left["beside"].roles == left["beside-ended"].roles == {"developer", "debugger"}
    assert all(one.session.target == target for one in left.values())


@pytest.mark.fuzz
def test_what_was_forwarded_is_kept_but_for_the_bound_and_the_next_start_says_so(
    database_url: str, effort: Effort
) -> None:
    names = [f"w{number}" for number in range(effort.kills)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        heard = dict(zip(names, pool.map(lambda name: killed_writer(database_url, name), names), strict=True))

    assert any(not one.began for one in heard.values())
    assert any(one.forwarded for one in heard.values())
    asyncio.run(_check(database_url, heard))


async def _check(url: str, heard: dict[str, Heard]) -> None:
    for name, one in heard.items():
        async with open_store(url, name=name, clock=SettableClock(), new_id=counted_ids(name)) as store:
            closed = len((await store.writer.begin()).closed)
            kept = [
                view.record.id
                for view in await store.reader.sessions(Filter(), limit=len(heard) * crashing_writer.SESSIONS)
                if view.record.id in crashing_writer.sessions_of(name)
            ]
            assert len(kept) == closed
            assert set(one.began) <= set(kept)
            for session in kept:
                await _check_session(store, session, [piece for piece in one.forwarded if piece.session == session])
    async with open_reader(url) as reader:
        for writer in await reader.writers():
            await _check_chain(writer, reader.writer_chain(writer))


async def _check_session(store: Store, session: str, forwarded: list[Forwarded]) -> None:
    view = await store.reader.session(session)
    assert view.end is not None
    assert (view.end.complete, view.end.reason) == (False, REASON)
    kept, seq = b"", 0
    async for chunk in store.reader.chunks(session):
        kept += b"".join(frame.data for frame in frames_of(chunk, seq))
        seq += 1
    await _check_chain(session, store.reader.session_chain(session))
    seen = b"".join(crashing_writer.piece(number, piece.size) for number, piece in enumerate(forwarded))
    together = min(len(seen), len(kept))
    assert seen[:together] == kept[:together]
    assert len(seen) - len(kept) <= MAX_LOSS_BYTES
    missing = _beyond(forwarded, len(kept))
    if missing:
        assert missing[-1].before - missing[0].after <= MAX_LOSS_S


def _beyond(forwarded: list[Forwarded], kept: int) -> list[Forwarded]:
    """The pieces that are not among the first so many bytes."""
    end, missing = 0, []
    for piece in forwarded:
        end += piece.size
        if end > kept:
            missing.append(piece)
    return missing


async def _check_chain(name: str, links: AsyncIterator[Link]) -> None:
    verifier = Verifier(name)
    async for link in links:
        verifier.add(link)
    assert verifier.verdict().intact, name
