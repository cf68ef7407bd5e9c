"""Bastions with a fault proxy on every side; tests leave them well."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support import outages
from support.databases import ENGINES, fresh_postgresql, sqlite_url
from support.faults import faulty_bastion, prepared
from support.invariants import assert_no_traceback, assert_whole, open_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.faults import Faulty

MOST_SOCKETS = 30
"""What a bastion that rests may hold: its listener, pools to the database and the API server, six watches, signals."""


@pytest.fixture(scope="session")
def bastions(postgresql_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Faulty]]:
    """A bastion for each kind of database, started when it is first asked for."""
    running: dict[str, Faulty] = {}
    with ExitStack() as stack:

        def bastion_on(engine: str) -> Faulty:
            if engine not in running:
                folder = tmp_path_factory.mktemp("faulty")
                if engine == "sqlite":
                    url = sqlite_url(stack.enter_context(outages.small_disk(folder / "disk")) / "bastion.db")
                else:
                    url = stack.enter_context(fresh_postgresql(postgresql_server))
                running[engine] = stack.enter_context(faulty_bastion(folder, url))
            return running[engine]

        yield bastion_on
        for one in running.values():
            assert_whole(one.bastion)
            assert len(open_sockets(one.bastion)) <= MOST_SOCKETS
            assert_no_traceback(one.bastion)


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
