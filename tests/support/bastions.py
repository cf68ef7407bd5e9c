"""Running bastions as fixtures: one for all tests on each kind of database, and own ones; used by tests/conftest.py."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bastion.store.migrate import upgrade
from support.databases import ENGINES, fresh_postgresql, sqlite_url
from support.grounds import VARIABLE, Prepared
from support.trips import Bastion, Starter, running_bastion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


EVERY_WAY = (*ENGINES, "stock")
"""Both kinds of database, and SQLite with asyncssh's own way for channel data: for tests of what flows."""


@pytest.fixture(scope="session", params=ENGINES)
def bastion(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """A running bastion with its cluster, its record in a database of that kind (or one of EVERY_WAY)."""
    folder = tmp_path_factory.mktemp(f"bastion-{request.param}")
    settings = {"BASTION_SSH_FAST_PATH": str(request.param != "stock").lower()}
    with ExitStack() as stack:
        if request.param == "postgresql":
            url = stack.enter_context(fresh_postgresql(request.getfixturevalue("postgresql_server")))
        else:
            url = sqlite_url(folder / "bastion.db")
        asyncio.run(upgrade(url))
        yield stack.enter_context(running_bastion(folder, url, settings=settings, found=_found()))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Starter:
    """Starts a bastion with a cluster as a test wants it."""

    @contextmanager
    def starter(*cluster_arguments: str, settings: Mapping[str, str] | None = None) -> Iterator[Bastion]:
        folder = tmp_path_factory.mktemp("bastion")
        url = sqlite_url(folder / "bastion.db")
        asyncio.run(upgrade(url))
        with running_bastion(folder, url, *cluster_arguments, settings=settings, found=_found()) as bastion:
            yield bastion

    return starter


def _found() -> Prepared | None:
    """The cluster that `make e2e` prepared; None lets each bastion have an embedded one of its own."""
    path = os.environ.get(VARIABLE)
    return Prepared.read(Path(path)) if path else None


@pytest.fixture
def own_bastion(start: Starter) -> Iterator[Bastion]:
    """A bastion for a test that leaves its cluster or its record as no other test could use it."""
    with start() as bastion:
        yield bastion
