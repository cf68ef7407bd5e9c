"""One bastion for all tests of trips on each kind of database."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from bastion.store.migrate import upgrade
from support.databases import ENGINES, fresh_postgresql, postgresql_server, sqlite_url
from support.trips import Bastion, running_bastion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["postgresql_server"]


@pytest.fixture(scope="session", params=ENGINES)
def bastion(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """A running bastion with its cluster, its record in a database of that kind."""
    folder = tmp_path_factory.mktemp(f"bastion-{request.param}")
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = sqlite_url(folder / "bastion.db")
        else:
            url = stack.enter_context(fresh_postgresql(request.getfixturevalue("postgresql_server")))
        asyncio.run(upgrade(url))
        yield stack.enter_context(running_bastion(folder, url))


@pytest.fixture
def own_bastion(tmp_path: Path) -> Iterator[Bastion]:
    """A bastion for a test that leaves its cluster or its record as no other test could use it."""
    url = sqlite_url(tmp_path / "bastion.db")
    asyncio.run(upgrade(url))
    with running_bastion(tmp_path, url) as bastion:
        yield bastion
