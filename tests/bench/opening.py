"""(b) What it costs to run `true`: time for the person, CPU for the bastion; called by __main__."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import cluster, processes
from bench.figures import CPU, CPU_SHARED, OPEN, OPEN_SHARED, WEBSOCKET, Figure
from bench.processes import LIMIT_S
from bench.rounds import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.options import Options
    from bench.stage import Stage


def sessions(stage: Stage, options: Options) -> Iterator[Figure]:
    """(b) Wall time of `… true` and CPU of the bastion for each, on fresh connections, then on a shared one."""
    fresh = {who: partial(_many, stage, who, _fresh(stage, who), options, (OPEN, CPU)) for who in stage.contenders}
    yield from measured(options, OPEN, {OPEN: "ms", CPU: "ms"}, fresh, rounds=options.rounds)
    names = (OPEN_SHARED, CPU_SHARED)
    with ExitStack() as stack:
        shared = {
            who: partial(_many, stage, who, stack.enter_context(_shared(stage, who)), options, names)
            for who in stage.ssh_contenders
        }
        yield from measured(options, OPEN_SHARED, dict.fromkeys(names, "ms"), shared, rounds=options.rounds)


def _many(
    stage: Stage, who: str, once: Callable[[], float], options: Options, names: tuple[str, str]
) -> Mapping[str, list[float]]:
    """Open one session after the other: the time of each, and the mean CPU."""
    wall, cpu = names
    if who not in stage.bastions:
        return {wall: [once() * 1000 for _ in range(options.sessions)]}
    before = processes.cpu_s(stage.pid(who))
    times = [once() * 1000 for _ in range(options.sessions)]
    stage.settle(who)  # what a session leaves to do is part of what it costs
    return {wall: times, cpu: [(processes.cpu_s(stage.pid(who)) - before) * 1000 / options.sessions]}


def _fresh(stage: Stage, who: str) -> Callable[[], float]:
    if who == WEBSOCKET:  # in this process: a program of its own would be measured starting Python
        return lambda: asyncio.run(_timed_websocket(stage))
    return lambda: processes.timed(stage.argv(who, "true"))


@contextmanager
def _shared(stage: Stage, who: str) -> Iterator[Callable[[], float]]:
    """Sessions on a connection that is open already (ControlMaster)."""
    path = stage.folder / f"m{stage.port(who)}"
    master = stage.argv(who, "", "-o", f"ControlPath={path}", "-o", "ControlMaster=yes", "-N")[:-1]
    with processes.started(master, stdin=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + LIMIT_S
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        yield lambda: processes.timed(stage.argv(who, "true", "-o", f"ControlPath={path}", "-o", "ControlMaster=no"))


async def _timed_websocket(stage: Stage) -> float:
    begin = time.perf_counter()
    await cluster.run(stage.pod, "true")
    return time.perf_counter() - begin
