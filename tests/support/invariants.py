"""What must hold after every abuse, whatever came of it; used by the tests of limits and of abuse cases.

    I1  whatever the cluster was ever asked to run has a session row (which comes first: tests of the trip hold that)
    I3  each denial is an event, or is counted in one
    I4  every chain of the record verifies
    I5  no connection, no session without its end and no process in a pod is left

I2, that nothing outside a grant is reached, each case asserts for itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bastion.integrity import Verifier
from bastion.store import open_reader
from bastion.store.views import Filter
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from bastion.integrity import Link
    from bastion.store.reader import Reader
    from support.trips import Bastion

MOST = 100_000
OURS = 'export BASTION_SESSION="$1"'
GONE = {"06", "07"}  # TIME_WAIT and CLOSE in /proc/net/tcp
LISTENING = "0A"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the record says."""

    sessions: frozenset[str]
    unended: tuple[str, ...]
    denials: Mapping[str, int]
    broken: tuple[str, ...]


def now() -> datetime:
    """The time from which `assert_whole` counts denials."""
    return datetime.now(UTC)


def assert_whole(bastion: Bastion, *, since: datetime | None = None, denials: Mapping[str, int] | None = None) -> None:
    """Assert the invariants of a running bastion, once what still ends has ended.

    denials: how many events of which types ("session.refused") there must be since then, those counted in one event
    included; a type that is not named is not looked at.
    """
    begun = sessions_begun(bastion)  # their rows were written before they began
    assert begun <= _read(bastion, None).sessions
    wait_until(lambda: not connections(bastion))
    wait_until(lambda: not bastion.running(""))
    wait_until(lambda: not _read(bastion, since).unended)
    assert not _read(bastion, since, verify=True).broken
    for kind, count in (denials or {}).items():
        wait_until(lambda kind=kind, count=count: _read(bastion, since).denials.get(kind, 0) >= count)  # type: ignore[misc] # mypy cannot infer a lambda with defaults
        assert _read(bastion, since).denials.get(kind, 0) == count, kind


def assert_no_traceback(bastion: Bastion) -> None:
    """Assert that the bastion's log tells of no bug."""
    bad = [line for line in bastion.log if "exception" in line or "Traceback" in str(line)]
    assert not bad


def sessions_begun(bastion: Bastion) -> set[str]:
    """The sessions whose commands the cluster was asked to run, ever, by their markers."""
    commands = [one["argv"] for one in bastion.control({"do": "execs"})["execs"]]
    return {argv[4] for argv in commands if len(argv) > 4 and argv[2].startswith(OURS)}


def connections(bastion: Bastion) -> list[str]:
    """The remote ends of the connections to the bastion's ssh port that it holds open."""
    held = open_sockets(bastion)
    return [
        remote
        for local, remote, state, inode in _tcp()
        if inode in held and int(local.rpartition(":")[2], 16) == bastion.port and state not in {*GONE, LISTENING}
    ]


def open_sockets(bastion: Bastion) -> set[str]:
    """The inodes of all sockets the bastion's process holds."""
    found = set()
    for descriptor in Path(f"/proc/{bastion.pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def rss(bastion: Bastion) -> int:
    """The bastion's resident memory, in bytes."""
    status = Path(f"/proc/{bastion.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _tcp() -> list[tuple[str, str, str, str]]:
    """Local address, remote address, state and inode of each TCP socket of this machine."""
    rows = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            rows.append((words[1], words[2], words[3], words[9]))
    return rows


def _read(bastion: Bastion, since: datetime | None, *, verify: bool = False) -> Found:
    """In a thread of its own: the caller may be a coroutine. verify: the chains too, of sessions those since then."""
    url = bastion.env["BASTION_DATABASE_URL"]
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_look(url, since, verify=verify))).result()


async def _look(url: str, since: datetime | None, *, verify: bool) -> Found:
    async with open_reader(url) as reader:
        sessions = await reader.sessions(Filter(), limit=MOST)
        denials: Counter[str] = Counter()
        for view in await reader.events(Filter(since=since), limit=MOST):
            if view.record.outcome == "denied":
                denials[view.record.type] += int(view.record.detail.get("count", 1))
        return Found(
            sessions=frozenset(view.record.id for view in sessions),
            unended=tuple(view.record.id for view in sessions if view.end is None),
            denials=denials,
            broken=tuple([text async for text in _breaks(reader, since)]) if verify else (),
        )


async def _breaks(reader: Reader, since: datetime | None) -> AsyncIterator[str]:
    sessions = await reader.sessions(Filter(since=since), limit=MOST)
    chains = [(view.record.id, reader.session_chain(view.record.id)) for view in sessions]
    chains += [(one, reader.writer_chain(one)) for one in await reader.writers()]
    for name, links in chains:
        broken = await _broken(name, links)
        if broken:
            yield broken


async def _broken(name: str, links: AsyncIterator[Link]) -> str:
    verifier = Verifier(name)
    async for link in links:
        verifier.add(link)
    verdict = verifier.verdict()
    return f"{name}: {verdict.broken}" if verdict.broken else ""
