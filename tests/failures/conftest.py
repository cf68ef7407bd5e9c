"""Bastions with a fault proxy on every side; tests leave them well."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support import outages
from support.databases import ENGINES, fresh_postgresql, sqlite_url
from support.faults import faulty_bastion, prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.faults import Faulty


@pytest.fixture(scope="session")
def bastions(postgresql_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Faulty]]:
    """A bastion for each kind of database, started when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def bastion_on(engine: str) -> Faulty:
            folder = tmp_path_factory.mktemp("faulty")
            if engine == "sqlite":
                url = sqlite_url(stack.enter_context(outages.small_disk(folder / "disk")) / "bastion.db")
            else:
                url = stack.enter_context(fresh_postgresql(postgresql_server))
            return stack.enter_context(faulty_bastion(folder, url))

        yield bastion_on


@pytest.fixture
def faulty(bastions: Callable[[str], Faulty]) -> Faulty:
    """The one on SQLite, for what has nothing to do with databases."""
    return bastions("sqlite")


@pytest.fixture(params=ENGINES)
def resting(request: pytest.FixtureRequest, postgresql_server: str, tmp_path: Path) -> Iterator[Faulty]:
    """Everything but a bastion that serves."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = sqlite_url(tmp_path / "bastion.db")
        else:
            url = stack.enter_context(fresh_postgresql(postgresql_server))
        yield stack.enter_context(prepared(tmp_path, url))
