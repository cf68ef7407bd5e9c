"""A bastion with the limits as they are, but with less patience, for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.limits import HURRIED, PATIENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion, Starter


@pytest.fixture(scope="package")
def hurried_bastion(start: Starter) -> Iterator[Bastion]:
    """A bastion that waits a few seconds for a login."""
    with start(settings=HURRIED) as bastion:
        yield bastion


@pytest.fixture
def patient_bastion(start: Starter) -> Iterator[Bastion]:
    """A bastion that waits for a login as long as it does for people: nobody is dropped while a test fills it."""
    with start(settings=PATIENT) as bastion:
        yield bastion
