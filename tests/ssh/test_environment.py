"""Which variables of a client reach the pod."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.ssh import environment


@pytest.mark.parametrize(
    ("name", "value"),
    [("LANG", "de_DE.UTF-8"), ("LC_ALL", "C"), ("LC_TIME", ""), ("COLORTERM", "truecolor"), ("TERM", "xterm")],
)
def test_what_describes_a_terminal_or_a_language_passes(name: str, value: str) -> None:
    assert environment.passes(name, value)


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "BASH_ENV", "ENV", "PATH", "IFS", "GIT_SSH_COMMAND", "PROMPT_COMMAND", "HISTFILE", "PS4"),
        *("LC_", "LC_lower", "LANGUAGE", "lang", "LANG\n", "", "BASTION_SESSION", "LC_X=Y"),
    ],
)
def test_nothing_else_passes(name: str) -> None:
    assert not environment.passes(name, "C")


@given(st.text())
def test_a_value_that_passes_is_plain(value: str) -> None:
    if environment.passes("LANG", value):
        assert value.isascii()
        assert not set(value) & set("\0\n\r\x1b \"'$`;|&<>()\\")


@given(st.text())
def test_a_terminal_type_is_a_name(term: str) -> None:
    assert environment.terminal(term).replace("-", "a").replace(".", "a").replace("+", "a").replace("_", "a").isalnum()
