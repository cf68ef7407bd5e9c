"""The menu of `ssh bastion` as a numbered list, for terminals that move no cursor (pure); driven by console.choosing.

Typed lines narrow the list down or choose a number of it. The person's own terminal does not echo, so this does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion import printable
from bastion.console import tables
from bastion.console.choices import Choice, Left, Opened, edited, leaving, matching
from bastion.console.keys import Key

if TYPE_CHECKING:
    from bastion.console.keys import Press
    from bastion.model import WindowSize

MOST_SHOWN = 50
"""Choices of one list; who has more narrows it down."""

_ASK = "number or name: "
_RUB_OUT = "\b \b"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedList:
    """What is chosen from, what it was narrowed down to, what is being typed, and what is yet to be said."""

    choices: tuple[Choice, ...]
    size: WindowSize
    narrowed: str = ""
    typed: str = ""
    unsaid: str = ""

    @property
    def matching(self) -> tuple[Choice, ...]:
        """The choices that are listed, by number from 1."""
        return matching(self.choices, self.narrowed)

    def press(self, key: Press) -> NumberedList | Opened | Left:
        """What a key makes of it."""
        left, typed = leaving(key), edited(self.typed, key)
        if left is not None:
            return left
        if typed is not None:
            return replace(self, typed=typed, unsaid=self.unsaid + _change(self.typed, typed))
        if key is Key.ENTER:
            return self._entered()
        return self._listed(self.narrowed) if key is Key.REDRAW else self

    def resized(self, size: WindowSize) -> NumberedList:
        """The same on a window of another size; what is on it stays."""
        return replace(self, size=size)

    def begun(self) -> NumberedList:
        """With the list to be said."""
        return self._listed("")

    def draw(self, *, anew: bool = False) -> tuple[NumberedList, bytes]:
        """The list with nothing left to say, and what says it; there is nothing to draw anew."""
        del anew
        return replace(self, unsaid=""), self.unsaid.encode()

    def erase(self) -> bytes:
        """What is left to say, and the end of the line that is being typed; the list stays."""
        return f"{self.unsaid}\r\n".encode()

    def _entered(self) -> NumberedList | Opened:
        typed = self.typed.strip()
        if typed.isascii() and typed.isdigit():
            found = self.matching[:MOST_SHOWN]
            number = int(typed[:9])
            if 1 <= number <= len(found):
                return Opened(found[number - 1].login)
            return self._asked_again(f"there is no number {typed[:9]}")
        if not matching(self.choices, typed):
            return self._asked_again(f"nothing fits {typed}")
        return self._listed(typed)

    def _asked_again(self, said: str) -> NumberedList:
        room = max(1, self.size.cols)
        said = tables.cut(printable.line(said), room)
        return replace(self, typed="", unsaid=f"{self.unsaid}\r\n{said}\r\n{_ASK}")

    def _listed(self, narrowed: str) -> NumberedList:
        listed = replace(self, narrowed=narrowed, typed="")
        found, room = listed.matching, max(1, self.size.cols)
        digits = len(str(min(len(found), MOST_SHOWN)))
        lines = [
            tables.cut(f"{number:{digits}} {printable.line(choice.text)}", room)
            for number, choice in enumerate(found[:MOST_SHOWN], start=1)
        ]
        if len(found) > MOST_SHOWN:
            lines.append(tables.cut(f"and {len(found) - MOST_SHOWN} more: type part of a name", room))
        return replace(listed, unsaid=self.unsaid + "\r\n".join(["", *lines, _ASK]))


def _change(before: str, after: str) -> str:
    """What makes of a line what it is after a key: more of it, or less."""
    return after[len(before) :] + _RUB_OUT * tables.width(before[len(after) :])
