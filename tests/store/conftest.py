"""A PostgreSQL of one's own, and one behind a proxy that fails; for the tests of tests/store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from bastion.store.migrate import upgrade
from support.databases import fresh_postgresql
from support.faultproxy import fault_proxy
from support.faults import database_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.faultproxy import FaultProxy


@pytest.fixture
def postgresql(postgresql_server: str) -> Iterator[str]:
    """A database of PostgreSQL with all tables."""
    with fresh_postgresql(postgresql_server) as url:
        asyncio.run(upgrade(url))
        yield url


@pytest.fixture
def proxied(postgresql: str) -> Iterator[tuple[str, FaultProxy]]:
    """The same through a proxy, and the proxy."""
    upstream = database_address(postgresql)
    assert upstream is not None
    with fault_proxy(upstream) as proxy:
        through = make_url(postgresql).set(host="127.0.0.1", port=proxy.port, query={})
        yield through.render_as_string(hide_password=False), proxy
