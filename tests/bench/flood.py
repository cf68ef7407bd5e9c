"""(g) Logging in while strangers flood the door; called by __main__. As a program it is the strangers.

    python -m bench.flood PORT USER RATE SECONDS ADDRESSES

makes RATE connections a second for SECONDS, from so many addresses in turn, each of which offers a key that nobody
knows; then says how many a second it really made, and what share of them got as far as having their key refused.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import asyncssh

from bench import processes
from bench.figures import (
    FLOOD_RATE,
    FLOOD_REFUSED,
    FROM_MANY,
    FROM_ONE,
    LOGIN_MAX,
    LOGIN_P99,
    SQLITE,
    Figure,
    percentile,
)
from bench.processes import LIMIT_S
from bench.rounds import measured
from bench.sshclient import connected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.options import Options
    from bench.stage import Stage

RATE = 100
GOOD = "127.0.0.2"
"""Where the person comes from."""

FLOODS = {FROM_ONE: 1, FROM_MANY: 5000}
"""From how many addresses strangers come: one is soon turned away for good, many are as hard to tell from people."""

PAUSE_S = 0.1
"""Between two logins of the person."""

STRANGER_LIMIT_S = 10.0
"""How long a stranger waits for an answer."""


def logins(stage: Stage, options: Options) -> Iterator[Figure]:
    """(g) How long a person needs to log in meanwhile, from the first try to the one that succeeds, s."""
    for what, addresses in FLOODS.items():
        once = {SQLITE: partial(_flooded, stage, options, what, addresses)} if SQLITE in stage.bastions else {}
        units = {LOGIN_P99 + what: "s", LOGIN_MAX + what: "s", FLOOD_RATE + what: "/s", FLOOD_REFUSED + what: "%"}
        yield from measured(options, f"login in a flood{what}", units, once, rounds=1)


def _flooded(stage: Stage, options: Options, what: str, addresses: int) -> Mapping[str, list[float]]:
    who = SQLITE
    how_much = (str(RATE), str(options.flood_s), str(addresses))
    argv = [sys.executable, "-m", "bench.flood", str(stage.port(who)), stage.user(who), *how_much]
    with processes.client(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        processes.expect(process, b"begun\n")
        times = asyncio.run(_log_in(stage, who, options.flood_s))
        process.wait(LIMIT_S)
        assert process.stdout is not None
        rate, refused = json.loads(process.stdout.readline())
    stage.settle(who)
    return {
        LOGIN_P99 + what: [percentile(times, 99)],
        LOGIN_MAX + what: [max(times)],
        FLOOD_RATE + what: [rate],
        FLOOD_REFUSED + what: [refused],
    }


async def _log_in(stage: Stage, who: str, seconds: float) -> list[float]:
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        while not await _tried(stage, who):
            pass
        times.append(time.monotonic() - begin)
        await asyncio.sleep(PAUSE_S)
    return times


async def _tried(stage: Stage, who: str) -> bool:
    """Log in once, if it can be done."""
    try:
        async with asyncio.timeout(LIMIT_S), connected(stage.port(who), stage.user(who), stage.folder / "person", GOOD):
            return True
    except (asyncssh.Error, OSError):
        await asyncio.sleep(PAUSE_S)
        return False


async def _flood(port: int, user: str, rate: float, seconds: float, addresses: int) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    print("begun", flush=True)  # noqa: T201 - what `_flooded` reads
    begin = time.monotonic()
    tasks: list[asyncio.Task[bool]] = []
    while (now := time.monotonic()) < begin + seconds:
        due = range(len(tasks), int((now - begin) * rate) + 1)
        tasks += [asyncio.create_task(_come(port, user, key, _address(n % addresses))) for n in due]
        await asyncio.sleep(1 / rate)
    took = time.monotonic() - begin
    refused = await asyncio.gather(*tasks)
    answer = [len(tasks) / took, 100 * sum(refused) / len(tasks)]
    print(json.dumps(answer), flush=True)  # noqa: T201 - as above


def _address(number: int) -> str:
    """One of the addresses of loopback that nobody else here uses."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


async def _come(port: int, user: str, key: asyncssh.SSHKey, source: str) -> bool:
    """One stranger: whether their key was looked at."""
    try:
        async with asyncio.timeout(STRANGER_LIMIT_S), connected(port, user, key, source):
            return False
    except asyncssh.PermissionDenied:
        return True
    except (asyncssh.Error, OSError):  # turned away before, or never answered
        return False


if __name__ == "__main__":
    asyncio.run(_flood(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
