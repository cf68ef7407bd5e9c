"""What is left when a writing process is killed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bastion.integrity import Verifier
from bastion.store import open_store
from bastion.store.orphans import REASON
from support import crashing_writer
from support.records import SettableClock, counted_ids

if TYPE_CHECKING:
    from support.effort import Effort

AT_ONCE = 5


async def killed_writer(url: str, name: str, after_s: float) -> int:
    """How many chunks a process was told are kept, before it was killed."""
    tests = Path(__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        crashing_writer.__file__,
        url,
        name,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            first = await process.stdout.readline()
        assert first == b"0\n"
        await asyncio.sleep(after_s)
    finally:
        process.kill()
    rest = await process.stdout.read()
    await process.wait()
    # A line that was cut off was not heard; what it tells of is a promise all the same only if it was whole.
    return 1 + rest.count(b"\n")


@pytest.mark.fuzz
async def test_nothing_acknowledged_is_lost_and_the_next_start_says_what_may_be(
    database_url: str, effort: Effort
) -> None:
    moments = random.Random(7)  # noqa: S311 - moments to kill at, not secrets
    acknowledged: dict[str, int] = {}
    for first in range(0, effort.kills, AT_ONCE):
        names = [f"w{number}" for number in range(first, first + AT_ONCE)]
        counts = await asyncio.gather(*(killed_writer(database_url, name, moments.uniform(0, 0.2)) for name in names))
        acknowledged.update(zip(names, counts, strict=True))

    for name, count in acknowledged.items():
        async with open_store(database_url, name=name, clock=SettableClock(), new_id=counted_ids(name)) as store:
            assert await store.writer.begin() == 1
            view = await store.reader.session(f"sess-{name}")
            assert view.end is not None
            assert (view.end.complete, view.end.reason) == (False, REASON)
            seqs = [chunk.seq async for chunk in store.reader.chunks(view.record.id)]
            assert seqs == list(range(len(seqs)))
            assert len(seqs) >= count
            verifier = Verifier(view.record.id)
            async for link in store.reader.session_chain(view.record.id):
                verifier.add(link)
            assert verifier.verdict().intact
            assert verifier.verdict().head.length == len(seqs) + 4
