"""Which terminal modes of a client reach the pod, and as which words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model import WindowSize
from bastion.ssh.terminalmodes import stty_words
from support.terminal import Terminal


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (1, "^A"),
        (3, "^C"),
        (9, "^I"),
        (10, "10"),
        (27, "27"),
        (65, "65"),
        (127, "127"),
        (254, "254"),
        (255, "undef"),
        (0, "undef"),
        (256, "undef"),
        (2**32 - 1, "undef"),
    ],
)
def test_a_control_character_is_written_so_that_stty_cannot_take_it_for_another(value: int, word: str) -> None:
    assert stty_words({1: value}) == ("intr", word)


def test_a_flag_is_on_for_any_number_but_zero() -> None:
    assert stty_words({53: 0, 36: 1, 42: 7}) == ("icrnl", "iutf8", "-echo")


def test_no_modes_are_no_words() -> None:
    assert stty_words({}) == ()


@pytest.mark.parametrize("mode", [0, 11, 15, 16, 17, 18, 37, 52, 62, 71, 90, 91, 92, 93, 128, 129, 159])
def test_what_a_pods_terminal_does_not_have_is_left_out(mode: int) -> None:
    assert stty_words({mode: 1}) == ()


@given(st.dictionaries(st.integers(0, 255), st.integers(0, 2**32 - 1)))
def test_whatever_a_client_sends_only_plain_words_and_numbers_come_out(modes: dict[int, int]) -> None:
    for word in stty_words(modes):
        assert re.fullmatch(r"-?[a-z0-9]+|\^[A-I]", word)


@pytest.mark.parametrize("value", [0, 1, 3, 27, 127, 200, 255])
def test_stty_knows_every_word(value: int) -> None:
    words = stty_words(dict.fromkeys(range(256), value))

    with Terminal(["stty", *words], WindowSize(cols=80, rows=24)) as terminal:
        assert terminal.wait() == 0, terminal.seen
