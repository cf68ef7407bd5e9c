"""A catalogue that keeps up with an API server, the way there, and what people see; used by the tests of discovery."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from bastion.pods.catalog import Catalog
from bastion.system import SystemClock
from support.apis import api_by, kubeconfig_at
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bastion.model import Target
    from bastion.pods.api import Api
    from bastion.ports import Asks, Clock

PATIENCE_S = 30.0


def sees_all(_target: Target) -> bool:
    """A person who may do something everywhere."""
    return True


def sees_team(team: str, *containers: str) -> Asks:
    """A person who may do something in the pods of one team alone, there in some containers or in all."""
    return lambda target: target.labels.get("team") == team and (not containers or target.container in containers)


@asynccontextmanager
async def connected_to(url: str, folder: Path) -> AsyncIterator[Api]:
    """The way to a server by its URL. A request is tried once."""
    async with api_by(kubeconfig_at(folder, url)) as way:
        yield way


@asynccontextmanager
async def keeping_up(way: Api, *namespaces: str, clock: Clock | None = None) -> AsyncIterator[Catalog]:
    """A catalogue of some namespaces, or of all, that is ready and runs until left."""
    log = structlog.get_logger("test")
    catalog = Catalog(way, namespaces, clock=clock or SystemClock(), chance=lambda: 0.999, log=log)
    running = asyncio.create_task(catalog.run())
    try:
        await holds(lambda: catalog.is_ready or running.done())
        yield catalog
        assert not running.done(), "a catalogue never ends by itself"
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def holds(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail if it does not for long."""

    async def look() -> bool:
        return condition()

    await eventually(look, within=PATIENCE_S)
