"""A process that writes a session without end and says what was acknowledged; started and killed by tests/store.

    python crashing_writer.py URL NAME

It prints a line for each chunk that the store acknowledged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys

from bastion.store import open_store
from bastion.system import SystemClock, new_id
from support import records


async def main(url: str, name: str) -> None:
    """Write until killed."""
    async with open_store(url, name=name, clock=SystemClock(), new_id=new_id) as store:
        await store.writer.begin()
        await store.writer.open_connection(records.connection(f"conn-{name}"))
        record = dataclasses.replace(records.session(f"sess-{name}"), connection=f"conn-{name}")
        await store.writer.start_session(record, records.command(f"cmd-{name}", record.id))
        seq = 0
        while True:
            await store.writer.append([records.chunk(record.id, seq, [records.output(seq, b"x" * 500)])])
            print(seq, flush=True)  # noqa: T201 - what the test reads
            seq += 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
