"""Attempts to log in are counted as OpenSSH counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model import Credential
from bastion.ssh.attempts import MAX_OFFERED, MAX_REQUESTS, Attempts


def counted(story: str) -> int:
    """What a story counts: n none, k key nobody has, o good key offered, s wrong signature, p password, x no answer."""
    attempts = Attempts(allowed=1000)
    for step in story:
        attempts.begins(b"none" if step == "n" else b"password" if step == "p" else b"publickey")
        if step in "os":
            attempts.stands()
        if step in "nksp":
            attempts.fails()
    return attempts.failed


@pytest.mark.parametrize(
    ("story", "count"),
    [
        ("n", 0),
        ("nn", 1),
        ("kn", 2),
        ("nkkkkko", 5),
        ("nooooos", 1),
        ("ns", 1),
        ("npppp", 4),
        ("nxxk", 3),
        ("nxo", 1),
        ("", 0),
    ],
)
def test_failures_count_but_a_first_none_and_offers_of_a_good_key_do_not(story: str, count: int) -> None:
    assert counted(story) == count


@given(st.text("nkospx", max_size=30))
def test_nothing_but_offers_and_a_first_none_is_free(story: str) -> None:
    free = story.count("o") + story.startswith("n") + story.endswith("x")

    assert counted(story) == len(story) - free


def test_they_are_exhausted_by_failures_and_by_requests_without_end() -> None:
    failing, offering = Attempts(allowed=6), Attempts(allowed=6)
    for number in range(6):
        assert not failing.exhausted, number
        failing.begins(b"password")
        failing.fails()
    assert failing.exhausted
    for _ in range(MAX_REQUESTS):
        offering.begins(b"publickey")
        offering.stands()
    assert not offering.exhausted
    offering.begins(b"publickey")
    assert offering.exhausted


def test_the_keys_that_are_remembered_are_few_and_named_once() -> None:
    attempts = Attempts(allowed=1000)
    for number in range(100):
        attempts.refuse(Credential(kind="key", id=f"SHA256:{number // 2}"))

    assert attempts.offered == [f"SHA256:{number}" for number in range(MAX_OFFERED)]
