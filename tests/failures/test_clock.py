"""A wall clock that is set while a session runs: the record keeps its order, and durations stay what they were."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import structlog

from bastion import policyfile
from bastion.events import HungUp, Input
from bastion.gate import Gate
from bastion.integrity import Verifier
from bastion.leftovers import Leftovers
from bastion.metrics import Metrics
from bastion.model import Action, Credential, Outcome, Person, Source
from bastion.recorder import Recorder
from bastion.refusals import Refusals
from bastion.session import Trips
from bastion.store import open_store
from bastion.store.migrate import upgrade
from bastion.store.views import Filter
from bastion.system import new_id
from bastion.trip import Asked, Visitor
from bastion.wire.transcript import Kind, frames_of
from support.apis import api_by, pods_by
from support.cluster import running_cluster
from support.databases import sqlite_url
from support.records import connection
from support.trips import POLICY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bastion.events import ClientEvent, Output, Signalled
    from bastion.store import Store

JUMPS = [timedelta(hours=1), timedelta(hours=-1), timedelta(days=-1)]


class JumpingClock:
    """Fills `ports.Clock`: the machine's, with a wall clock that can be set."""

    def __init__(self) -> None:
        self.jumped = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.jumped

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class Typist:
    """Fills `ports.Client`: when the pod has said something, sets the clock, then answers."""

    clock: JumpingClock
    jump: timedelta
    heard: bytes = b""
    notices: list[str] = field(default_factory=list)
    status: int | None = None
    spoken: asyncio.Event = field(default_factory=asyncio.Event)

    async def next_event(self) -> ClientEvent:
        await self.spoken.wait()
        if self.clock.jumped:
            await asyncio.Event().wait()
        self.clock.jumped = self.jump
        return Input(b"go\n")

    async def next_signal(self) -> Signalled:
        await asyncio.Event().wait()
        raise AssertionError

    async def hung_up(self) -> HungUp:
        await asyncio.Event().wait()
        raise AssertionError

    @property
    def is_gone(self) -> bool:
        return False

    async def write(self, output: Output) -> None:
        self.heard += output.data
        self.spoken.set()

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def waiting(self, text: str) -> None:
        raise AssertionError(text)

    def exit(self, status: int) -> None:
        self.status = status


@asynccontextmanager
async def made(folder: Path, clock: JumpingClock) -> AsyncIterator[tuple[Trips, Store]]:
    """The middle of the program on a real cluster and a real database, with that clock."""
    url = sqlite_url(folder / "bastion.db")
    await asyncio.to_thread(asyncio.run, upgrade(url))
    (folder / "policy.yaml").write_text(POLICY)
    later: list[asyncio.Task[None]] = []
    log = structlog.get_logger("test")
    async with (
        running_cluster(folder) as cluster,
        open_store(url, name="b", clock=clock, new_id=new_id) as store,
        api_by(cluster.bastion_kubeconfig) as way,
    ):
        await store.writer.begin()
        start = lambda work, name: later.append(asyncio.create_task(work, name=name))  # noqa: E731 - as app.Tasks.start
        pods = pods_by(way, clock=clock)
        trips = Trips(
            gate=Gate(pods=pods, policy=policyfile.load(folder / "policy.yaml")),
            pods=pods,
            audit=store.writer,
            refusals=Refusals(store.writer, clock=clock, new_id=new_id, log=log, start=start),
            recorder=Recorder(store.writer),
            leftovers=Leftovers(pods=pods, audit=store.writer, clock=clock, new_id=new_id, log=log, metrics=Metrics()),
            clock=clock,
            new_id=new_id,
            log=log,
            later=start,
        )
        yield trips, store
        await asyncio.gather(*later)


@pytest.mark.parametrize("jump", JUMPS, ids=str)
async def test_a_session_takes_as_long_as_it_took_and_its_record_keeps_its_order(
    tmp_path: Path, jump: timedelta
) -> None:
    clock = JumpingClock()
    typist = Typist(clock, jump)
    visitor = Visitor(
        connection="conn1",
        person=Person(subject="alice", groups=frozenset({"engineers"})),
        credential=Credential(kind="key", id="SHA256:abc"),
        source=Source(host="192.0.2.7", port=50000),
        login="web.default",
    )

    async def let_in() -> Visitor:
        return visitor

    async with made(tmp_path, clock) as (trips, store):
        await store.writer.open_connection(connection("conn1"))
        began = time.monotonic()
        await trips.run(
            visitor,
            Asked(command=b"echo one; read x; sleep 0.2; echo two", pty=None, action=Action.EXEC),
            typist,
            let_in,
        )
        took = time.monotonic() - began
        await trips.run(visitor, Asked(command=b"echo after", pty=None, action=Action.EXEC), typist, let_in)

        views = {one.record.id: one for one in await store.reader.sessions(Filter(), limit=10)}
        commands = {one.record.text: one for one in await store.reader.commands(Filter(), limit=10)}
        first = commands[b"echo one; read x; sleep 0.2; echo two"]
        view = views[first.record.session]
        assert (typist.status, typist.heard, typist.notices) == (0, b"one\ntwo\nafter\n", [])
        assert view.end is not None
        assert first.end is not None
        assert (view.end.outcome, view.end.complete) == (Outcome.EXITED, True)
        lasted = (view.end.ended_at - view.record.started_at).total_seconds()
        assert 0.2 <= lasted <= took
        assert first.end.ended_at == view.end.ended_at
        frames = [
            frame
            async for chunk in store.reader.chunks(view.record.id)
            for frame in frames_of(chunk, chunk.seq)
            if frame.kind is Kind.STDOUT
        ]
        assert b"".join(frame.data for frame in frames) == b"one\ntwo\n"
        assert 0 <= frames[0].at_us <= frames[-1].at_us <= lasted * 1e6
        for name, links in (
            *((one, store.reader.session_chain(one)) for one in views),
            (store.writer.id, store.reader.writer_chain(store.writer.id)),
        ):
            verifier = Verifier(name)
            async for link in links:
                verifier.add(link)
            assert verifier.verdict().intact
