"""(e) What a reader that never reads costs in memory; called by __main__. As a program it is that reader.

    python -m bench.stalled PORT USER KEYFILE SECONDS

has the pod print without end, offers it the largest window there is (2^31 - 1), and reads nothing for that long.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import processes
from bench.figures import STALLED_DOWNLOAD, STALLED_UPLOAD, Figure
from bench.processes import timed
from bench.rounds import measured
from bench.sshclient import begun, connected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.options import Options
    from bench.stage import Stage

LARGEST_WINDOW = 2**31 - 1


def readers(stage: Stage, options: Options) -> Iterator[Figure]:
    """(e) Growth of the bastion while a client does not read a download, and a pod not an upload, MB."""
    for what, grown in ((STALLED_DOWNLOAD, _client_stalls), (STALLED_UPLOAD, _pod_stalls)):
        once = {who: partial(grown, stage, options, who) for who in stage.bastions}
        yield from measured(options, what, {what: "MB"}, once, rounds=1)


def _client_stalls(stage: Stage, options: Options, who: str) -> Mapping[str, list[float]]:
    start = _warm(stage, who)
    key, seconds = str(stage.folder / "person"), str(options.stall_s)
    argv = [sys.executable, "-m", "bench.stalled", str(stage.port(who)), stage.user(who), key, seconds]
    with processes.client(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        processes.expect(process, b"stalled\n")
        peak = _peak(stage.pid(who), options.stall_s)
    stage.settle(who)
    return {STALLED_DOWNLOAD: [(peak - start) / 1e6]}


def _pod_stalls(stage: Stage, options: Options, who: str) -> Mapping[str, list[float]]:
    start = _warm(stage, who)
    argv = stage.argv(who, f"echo ready; exec sleep {options.stall_s + 60:.0f}")
    with (
        Path("/dev/zero").open("rb") as zeros,
        processes.client(argv, stdin=zeros, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        processes.expect(process, b"ready\n")
        peak = _peak(stage.pid(who), options.stall_s)
    stage.settle(who)
    return {STALLED_UPLOAD: [(peak - start) / 1e6]}


def _warm(stage: Stage, who: str) -> int:
    """The bastion's memory after a session like those that are measured."""
    for _ in range(3):
        timed(stage.argv(who, stage.blocks(5)))
    stage.settle(who)
    return processes.rss_bytes(stage.pid(who))


def _peak(pid: int, seconds: float) -> int:
    """The most memory that a process had within so many seconds."""
    end, most = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        most = max(most, processes.rss_bytes(pid))
        time.sleep(0.05)
    return most


async def _stall(port: int, user: str, key: Path, seconds: float) -> None:
    async with connected(port, user, key) as connection:
        _channel, shown = await begun(connection, "exec yes", window=LARGEST_WINDOW)
        await shown.reached(1)
        print("stalled", flush=True)  # noqa: T201 - what `_client_stalls` reads
        time.sleep(seconds)  # noqa: ASYNC251 - nothing is read from the connection while the loop stands still
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(_stall(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])))
