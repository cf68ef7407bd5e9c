"""Waits until connections that were closed are gone: a TLS one takes its leave first; used by tests of pods."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_S = 30.0


@asynccontextmanager
async def all_closed() -> AsyncIterator[None]:
    """Leave only when no more sockets are open than there were on entering."""
    before = _open()

    async def closed() -> bool:
        return _open() <= before

    yield
    await eventually(closed, within=PATIENCE_S)


def _open() -> int:
    """How many sockets this process has."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:  # the one that lists them
            continue
    return found
