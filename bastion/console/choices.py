"""The words of a menu: what there is to choose, and what came of it (pure); used by its menus and console.choosing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.console.keys import Character, Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.console.keys import Press
    from bastion.model import TargetLogin

INTERRUPTED = 130
"""The status of who leaves with Ctrl-C, as shells have it: 128 and SIGINT."""

LONGEST_FILTER = 120
"""Characters that may be typed to narrow the list down: a login has hardly more."""


_LAST_WORD = re.compile(r"\S*\s*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A place where a shell may be opened. text: the login, as it is shown and looked for. note: how the pod is."""

    login: TargetLogin
    text: str
    note: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A place was chosen."""

    login: TargetLogin


@dataclass(frozen=True, slots=True)
class Left:
    """The person left without choosing. status: for their client."""

    status: int


def matching(choices: Sequence[Choice], typed: str) -> tuple[Choice, ...]:
    """Those whose login holds every word that was typed."""
    words = typed.casefold().split()
    return tuple(choice for choice in choices if all(word in choice.text for word in words))


def edited(typed: str, key: Press) -> str | None:
    """What was typed, once a key has been pressed; None if that is no key to type with."""
    match key:
        case Character(text=text):
            return typed + text if len(typed) < LONGEST_FILTER else typed
        case Key.BACKSPACE:
            return typed[:-1]
        case Key.ERASE_WORD:
            return _LAST_WORD.sub("", typed)
        case Key.ERASE_LINE:
            return ""
        case _:
            return None


def leaving(key: Press) -> Left | None:
    """How a key leaves a menu; None if it does not."""
    match key:
        case Key.ESCAPE | Key.END_OF_INPUT:
            return Left(0)
        case Key.INTERRUPT:
            return Left(INTERRUPTED)
        case _:
            return None
