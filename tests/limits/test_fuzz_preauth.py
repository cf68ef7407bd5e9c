"""Packets that are wrong, before anybody is authenticated: the server lives, says little and keeps nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import pytest

from support.invariants import assert_no_traceback, assert_whole, rss
from support.openings import recorded, spoil, spoiled
from support.rawssh import raw
from support.sshpeer import logging_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from support.effort import Effort
    from support.openings import Opening
    from support.sshpeer import Login
    from support.trips import Bastion, Starter

    Run = Callable[[Bastion, Opening, int], Awaitable[int]]

OUT_OF_THE_WAY = {
    "BASTION_SSH_MAX_STARTUPS": "1000",
    "BASTION_SSH_MAX_STARTUPS_PER_SOURCE": "1000",
    "BASTION_SSH_PENALTIES": "no",
    "BASTION_SSH_MAX_AUTH_TRIES": "1000",
}
AT_ONCE = 8
MOST_ON_ONE = 50
NO_ANSWER_S = 0.2
WARM_UP = 300
GROWTH = 10 << 20


@pytest.fixture(scope="module")
def patient_bastion(start: Starter) -> Iterator[Bastion]:
    """A bastion that turns nobody away."""
    with start(settings=OUT_OF_THE_WAY) as bastion:
        yield bastion


async def plain_run(bastion: Bastion, opening: Opening, seed: int) -> int:
    """One connection with something wrong before the encryption. Counts for one: what follows is hardly looked at."""
    run = spoiled(opening.plain, Random(seed))  # noqa: S311 - to repeat a failure, not to keep a secret
    async with raw(bastion) as peer:
        for data in run:
            await peer.write(data)
        await peer.end()
        answer = await peer.everything()
    assert b"Traceback" not in answer, f"seed {seed}: {run}"
    return 1


async def encrypted_run(bastion: Bastion, opening: Opening, seed: int) -> int:
    """One connection on which wrong packets come after the key exchange, until it is closed; how many there were.

    Half of them one by one, each answered before the next, the other half in one go and out of order.
    """
    chance = Random(seed)  # noqa: S311 - as above
    async with logging_in(bastion) as login:
        sent = await _one_by_one(login, opening, chance) if seed % 2 else _in_one_go(login, opening, chance)
        login.connection.close()
        await login.connection.wait_closed()
    assert "Traceback" not in str(login.why_lost), f"seed {seed}"
    return sent


async def _one_by_one(login: Login, opening: Opening, chance: Random) -> int:
    sent = 0
    while "lost" not in login.answers and sent < MOST_ON_ONE:
        payload = spoil(chance.choice(opening.payloads), chance) or b"\0"
        due = len(login.answers) + 1
        login.send(payload[0], payload[1:])
        sent += 1
        with contextlib.suppress(TimeoutError):  # to some packets there is no answer
            async with asyncio.timeout(NO_ANSWER_S):
                await login.answered(due)
    return sent


def _in_one_go(login: Login, opening: Opening, chance: Random) -> int:
    for payload in spoiled(opening.payloads, chance):
        if payload:
            login.send(payload[0], payload[1:])
    return 1


async def many(bastion: Bastion, opening: Opening, run: Run, packets: int, seed: int) -> None:
    """Runs until so many packets were sent, a few at once, each by a seed of its own."""
    seeds = count(seed)
    sent = 0

    async def worker() -> None:
        nonlocal sent
        while sent < packets:
            done = await run(bastion, opening, next(seeds))
            sent += done

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


@pytest.mark.fuzz
@pytest.mark.parametrize(("run", "share"), [(plain_run, 0.8), (encrypted_run, 0.2)], ids=["plain", "encrypted"])
async def test_wrong_packets_before_the_login_do_no_harm(
    patient_bastion: Bastion, effort: Effort, run: Run, share: float
) -> None:
    bastion, packets = patient_bastion, int(effort.packets * share)
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with a failure
    opening = await recorded(bastion)
    await many(bastion, opening, run, WARM_UP, seed - WARM_UP)
    before = rss(bastion)
    await many(bastion, opening, run, packets, seed)

    assert rss(bastion) - before < GROWTH
    assert (await asyncio.to_thread(bastion.ssh, "web.default@b", "echo", "good")).stdout == b"good\n"
    await asyncio.to_thread(assert_whole, bastion)
    assert_no_traceback(bastion)
    assert not [line for line in bastion.log if line["event"] == "connection.bug"]
