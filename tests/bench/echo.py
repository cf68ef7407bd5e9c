"""(c) How long a keystroke takes to show, idle and beside bulk transfers; the loop's lag; run by __main__."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from bench import cluster, processes
from bench.figures import (
    BUSY_P50,
    BUSY_P99,
    ECHO_P50,
    ECHO_P99,
    KUBECTL,
    LAG_MAX,
    LAG_P50,
    LAG_P99,
    WEBSOCKET,
    Figure,
    percentile,
)
from bench.processes import LIMIT_S
from bench.rounds import measured
from bench.sshclient import begun, connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from bench.options import Options
    from bench.stage import Stage

TRANSFERS = 4
PAUSE_S = 0.003
"""Between an echo and the next key: nobody types in bursts."""

LONGEST_LINE = 4000
"""A terminal echoes no more of one line (N_TTY_BUF_SIZE is 4096)."""

COMMAND, READY = "echo ready; exec cat", b"ready\r\n"

Press: TypeAlias = "Callable[[], Awaitable[None]]"
"""Press a key; returns when it shows."""


def keystrokes(stage: Stage, options: Options) -> Iterator[Figure]:
    """(c) One byte to the terminal of a `cat` and back, by the same client for all that speak ssh; the loop's lag."""
    contenders = [who for who in stage.contenders if who != KUBECTL]
    units = dict.fromkeys((ECHO_P50, ECHO_P99), "ms")
    idle = {who: partial(_idle, stage, options, who) for who in contenders}
    yield from measured(options, "echo", units, idle, rounds=options.rounds)
    units = dict.fromkeys((BUSY_P50, BUSY_P99, LAG_P50, LAG_P99, LAG_MAX), "ms")
    busy = {who: partial(_busy, stage, options, who) for who in contenders}
    yield from measured(options, "echo beside transfers", units, busy, rounds=options.rounds)


def _idle(stage: Stage, options: Options, who: str) -> Mapping[str, list[float]]:
    times = asyncio.run(_typed(stage, who, options.keys))
    stage.settle(who)
    return {ECHO_P50: [percentile(times, 50)], ECHO_P99: [percentile(times, 99)]}


def _busy(stage: Stage, options: Options, who: str) -> Mapping[str, list[float]]:
    bastion = stage.bastions.get(who)
    with transfers(stage, who):
        if bastion:
            bastion.tell("lag")
        times = asyncio.run(_typed(stage, who, options.keys))
        lag = bastion.ask("lagged") if bastion else {}
    stage.settle(who)
    found = {BUSY_P50: [percentile(times, 50)], BUSY_P99: [percentile(times, 99)]}
    if lag:
        found |= {LAG_P50: [lag["p50"]], LAG_P99: [lag["p99"]], LAG_MAX: [lag["max"]]}
    return found


@contextmanager
def transfers(stage: Stage, who: str) -> Iterator[None]:
    """Bulk downloads without end, each through a client of its own."""
    flag = f"{stage.block}.go"
    # "ready" goes to stderr, so that stdout needs no reader. The flag ends the loop: a process in a pod outlives its
    # reader, and what it says then is read and forgotten.
    command = f": > {flag}; echo ready >&2; while [ -e {flag} ]; do {stage.blocks(5)}; done"
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with ExitStack() as stack:
        stack.callback(stage.remove, flag)
        for _ in range(TRANSFERS):
            client = stack.enter_context(processes.client(stage.argv(who, command), **pipes))
            processes.expect(client, b"ready\n", errors=True)
        yield


async def _typed(stage: Stage, who: str, keys: int) -> list[float]:
    """The time of each echo, ms."""
    opened = _websocket(stage) if who == WEBSOCKET else _ssh(stage, who)
    times = []
    async with asyncio.timeout(LIMIT_S), opened as press:
        for _ in range(min(keys, LONGEST_LINE)):
            begin = time.perf_counter()
            await press()
            times.append((time.perf_counter() - begin) * 1000)
            await asyncio.sleep(PAUSE_S)
    return times


@asynccontextmanager
async def _ssh(stage: Stage, who: str) -> AsyncIterator[Press]:
    async with connected(stage.port(who), stage.user(who), stage.folder / "person") as connection:
        channel, shown = await begun(connection, COMMAND, term_type="xterm")
        await shown.reached(len(READY))
        numbers = itertools.count(len(READY) + 1)

        async def press() -> None:
            channel.write(b"x")
            await shown.reached(next(numbers))

        yield press


@asynccontextmanager
async def _websocket(stage: Stage) -> AsyncIterator[Press]:
    async with cluster.opened(stage.pod, COMMAND, tty=True) as ws:

        async def shown(count: int) -> None:
            while count > 0:
                frame = await cluster.next_frame(ws)
                count -= len(frame) - 1 if frame[0] == cluster.STDOUT else 0

        async def press() -> None:
            await ws.send_bytes(b"\x00x")
            await shown(1)

        await shown(len(READY))
        try:
            yield press
        finally:
            await ws.send_bytes(b"\x00\n\x04")  # the terminal stays when the WebSocket goes: let its `cat` end
