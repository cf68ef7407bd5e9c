"""What the tests of limits do and look for; used by tests/limits."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from support.invariants import connections
from support.sshpeer import own_address
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion

GRACE_S = 3
EXEMPT = "127.200.0.0/16"
PATIENT = {"BASTION_SSH_EXEMPT_SOURCES": EXEMPT}
HURRIED = {"BASTION_SSH_LOGIN_TIMEOUT_S": str(GRACE_S), **PATIENT}
FULL = 100
MOST_TRIES = 2_500
EACH = 10
"""Refusals of one source that are events of their own; more would be counted in one, a minute later."""


async def event(bastion: Bastion, **expected: Any) -> dict[str, Any]:
    """The newest event that says so; waits for it."""

    def look() -> dict[str, Any] | None:
        events = bastion.audit("events", "--limit", "100")
        return next((one for one in events if expected.items() <= one.items()), None)

    return await asyncio.to_thread(wait_until, look)


async def ssh(bastion: Bastion, address: str, *arguments: str, person: str = "alice") -> tuple[int, bytes, str]:
    """Run ssh from an address: its status, stdout and stderr."""
    done = await asyncio.to_thread(bastion.ssh, "-b", address, *arguments, person=person)
    return done.returncode, done.stdout, done.stderr.decode()


async def gets_in(bastion: Bastion, address: str = "", *arguments: str) -> bool:
    """Whether a good client gets in."""
    found = await ssh(bastion, address or own_address(bastion), *arguments, "web.default@b", "echo in")
    return found[:2] == (0, b"in\n")


@contextmanager
def crowded(bastion: Bastion) -> Iterator[None]:
    """As many connections that say nothing as the bastion takes, from exempt addresses."""
    with ExitStack() as stack:
        taken = tried = 0
        while taken < FULL:
            tried += 1
            assert tried < MOST_TRIES
            address = f"127.200.{tried // EACH // 250 + 1}.{tried // EACH % 250 + 1}"
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", bastion.port), 30, (address, 0)))
            taken += peer.recv(4) == b"SSH-"
        yield


async def settled(bastion: Bastion) -> None:
    """Wait until the bastion holds no connection."""
    await asyncio.to_thread(wait_until, lambda: not connections(bastion))
