"""A process in which sessions are recorded without end, and which says what was forwarded; killed by tests/store.

It is forked from a server that has imported all it needs, so that many can be killed in little time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import multiprocessing
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.events import Output
from bastion.model import RecordRules, Stream
from bastion.recorder import Recorder
from bastion.store import open_store
from bastion.system import SystemClock, new_id
from support import records

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext

SESSIONS = 3
LARGEST = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """A piece of output that passed its gate, the next of its session.

    before, after: the moments before and after it was taken, monotonic.
    """

    session: str
    size: int
    before: float
    after: float


PRELOADED = (
    "bastion.recorder",
    "bastion.store",
    "bastion.system",
    "pytest",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
)


def piece(number: int, size: int) -> bytes:
    """The bytes of a session's n-th piece."""
    return (b"%08d" % number * (size // 8 + 1))[:size]


def context() -> ForkServerContext:
    """Starts such processes: `context().Process(target=run, args=...)`."""
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(list(PRELOADED))
    return chosen


def sessions_of(name: str) -> list[str]:
    """The ids of the sessions in the process of a name."""
    return [f"{name}-{number}" for number in range(SESSIONS)]


def run(url: str, name: str, seed: int, told: Connection) -> None:
    """Write until killed. `told` gets the id of each session that has begun, and all that is forwarded."""
    asyncio.run(_write(url, name, random.Random(seed), told))  # noqa: S311 - sizes and pauses, not secrets


async def _write(url: str, name: str, chance: random.Random, told: Connection) -> None:
    async with open_store(url, name=name, clock=SystemClock(), new_id=new_id) as store:
        await store.writer.begin()
        await store.writer.open_connection(records.connection(f"conn-{name}"))
        recorder = Recorder(store.writer)

        async def session(id_: str) -> None:
            record = dataclasses.replace(records.session(id_), connection=f"conn-{name}")
            await store.writer.start_session(record, records.command(f"cmd-{id_}", id_))
            told.send(id_)
            recording = recorder.open(id_, RecordRules(), pty=True)
            for number in itertools.count():
                size = chance.randint(1, LARGEST)
                before = time.monotonic()
                gate = recording.take(round(before * 1e6), Output(Stream.STDOUT, piece(number, size)))
                after = time.monotonic()
                await gate.passed()
                told.send(Forwarded(session=id_, size=size, before=before, after=after))
                await asyncio.sleep(chance.choice((0, 0, 0.002, 0.02)))

        await asyncio.gather(*map(session, sessions_of(name)))
