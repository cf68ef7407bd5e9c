"""What every test has in common: real databases, and how hard tests that try at random try."""

from __future__ import annotations

import signal

import hypothesis
import pytest

from support.bastions import bastion, own_bastion, start
from support.databases import database_url, empty_database_url, postgresql_server
from support.effort import Effort

__all__ = ["bastion", "database_url", "empty_database_url", "own_bastion", "postgresql_server", "start"]

hypothesis.settings.register_profile("bastion", deadline=None)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=20_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fuzz`: the same tests, for hours instead of minutes."""
    parser.addoption("--fuzz", action="store_true", help="try much more often what is tried at random (make fuzz)")


def pytest_configure(config: pytest.Config) -> None:
    """A property test is not failed for a slow moment, and signals mean what they mean to everybody."""
    config.addinivalue_line("markers", "fuzz: tries at random, and more often under --fuzz")
    # Whoever starts the tests in the background may ignore these, and what is started here would ignore them too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    hypothesis.settings.load_profile("fuzz" if config.getoption("--fuzz") else "bastion")


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> Effort:
    """How often to try."""
    return Effort(kills=1_000, packets=1_000_000, swaps=1_000) if request.config.getoption("--fuzz") else Effort()
