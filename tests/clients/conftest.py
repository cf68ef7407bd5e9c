"""One running bastion for all clients, and the way to its door."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

import pytest

from support.clients import Door
from support.clients_programs import convert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.trips import Bastion, Starter


class Doors(Protocol):
    """Makes ways to a bastion, each with a home and an address of its own."""

    def __call__(self, *, host_key_of: str = "host") -> Door: ...


@pytest.fixture(scope="session")
def house(start: Starter) -> Iterator[Bastion]:
    """A bastion on SQLite with alice's key in every client's format."""
    with start() as bastion:
        convert(bastion.folder / "alice")
        yield bastion


@pytest.fixture(scope="session")
def doors(house: Bastion, tmp_path_factory: pytest.TempPathFactory) -> Doors:
    """Ways to pod web as alice; `host_key_of` names the key pair whose public half is trusted."""
    numbers = itertools.count(1)

    def door(*, host_key_of: str = "host") -> Door:
        number = next(numbers)
        kind, key, _ = (house.folder / f"{host_key_of}.pub").read_text().split()
        return Door(
            port=house.port,
            login="web.default",
            key=house.folder / "alice",
            host_key=f"{kind} {key}",
            home=tmp_path_factory.mktemp("home"),
            source=f"127.1.{number // 250}.{number % 250 + 1}",
        )

    return door


@pytest.fixture
def door(doors: Doors) -> Door:
    """A way to pod web as alice."""
    return doors()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the pod sees too: containers of the embedded cluster share this machine's files."""
    return tmp_path
