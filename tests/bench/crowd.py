"""(d) What idle sessions cost in memory; called by __main__. As a program it is the people who idle.

    python -m bench.crowd PORT USER KEYFILE COUNT

opens COUNT connections and says "connected"; a line on stdin later, a session on each and says "opened"; and leaves
at the next line.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import processes
from bench.echo import COMMAND, READY
from bench.figures import CHANNEL_MEMORY, CONNECTION_MEMORY, RECORDED, SESSION_MEMORY, Figure
from bench.processes import LIMIT_S
from bench.rounds import measured
from bench.sshclient import begun, connected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import asyncssh

    from bench.options import Options
    from bench.stage import Stage

WARM_UP = 5
"""Sessions before: few, because what they leave free is used again by those that are measured."""

AT_ONCE = 5
"""Fewer than the logins at a time that any server wants to be asked about (MaxStartups begins at 10)."""


def idle(stage: Stage, options: Options) -> Iterator[Figure]:
    """(d) Memory of the bastion for each connection, for each recorded session on one, and for both, KiB."""
    once = {who: partial(_grown, stage, options, who) for who in RECORDED if who in stage.bastions}
    units = dict.fromkeys((CONNECTION_MEMORY, CHANNEL_MEMORY, SESSION_MEMORY), "KiB")
    yield from measured(options, f"{options.crowd} idle sessions", units, once, rounds=1)


def _grown(stage: Stage, options: Options, who: str) -> Mapping[str, list[float]]:
    pid = stage.pid(who)
    list(_crowd(stage, who, WARM_UP))  # what the first sessions cost is not theirs
    start = processes.rss_bytes(pid)
    connections, sessions = _crowd(stage, who, options.crowd)
    each = 1024 * options.crowd
    return {
        CONNECTION_MEMORY: [(connections - start) / each],
        CHANNEL_MEMORY: [(sessions - connections) / each],
        SESSION_MEMORY: [(sessions - start) / each],
    }


def _crowd(stage: Stage, who: str, count: int) -> Iterator[int]:
    """Have people come and go: the bastion's memory once they are connected, and once each has a session."""
    key = str(stage.folder / "person")
    argv = [sys.executable, "-m", "bench.crowd", str(stage.port(who)), stage.user(who), key, str(count)]
    with processes.client(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        for due in (b"connected\n", b"opened\n"):
            processes.expect(process, due)
            stage.settle(who)
            yield processes.rss_bytes(stage.pid(who))
            process.stdin.write(b"go\n")
            process.stdin.flush()
        process.wait(LIMIT_S)
    stage.settle(who)


async def _come(port: int, user: str, key: Path, count: int) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:

        async def connect() -> asyncssh.SSHClientConnection:
            async with limit:
                return await stack.enter_async_context(connected(port, user, key))

        async def open_session(connection: asyncssh.SSHClientConnection) -> None:
            async with limit:
                _channel, shown = await begun(connection, COMMAND, term_type="xterm")
                await shown.reached(len(READY))

        connections = await asyncio.gather(*(connect() for _ in range(count)))
        await _say("connected")
        await asyncio.gather(*map(open_session, connections))
        await _say("opened")


async def _say(what: str) -> None:
    """Say how far everybody is, and wait for the word to go on."""
    print(what, flush=True)  # noqa: T201 - what `_crowd` reads
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(_come(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
