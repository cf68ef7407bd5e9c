"""The menu of `ssh bastion` on a terminal that can move its cursor (pure); driven by console.choosing.

It is drawn below where the cursor stood, and taken away again: there is no second screen that a broken connection
could leave behind. While it is drawn the terminal marks what is pasted: a line of that must not open a shell, nor the
next one run in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion import printable
from bastion.console import tables
from bastion.console.choices import Choice, Left, Opened, edited, leaving, matching
from bastion.console.keys import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.console.keys import Press
    from bastion.model import WindowSize

MOST_SHOWN = 15
"""Choices that are shown at once, however large the terminal."""

_PROMPT = "> "
_FRAME = 2  # lines of the menu that are no choices
_NOTE_FROM = 60
"""Characters of width from which there is room for how a pod is."""

_NOTE = 18
_ERASE_BELOW = "\x1b[J"
_ERASE_SCREEN = "\x1b[H\x1b[2J"
_MARK_PASTES, _PASTES_PLAIN = "\x1b[?2004h", "\x1b[?2004l"  # xterm's bracketed paste: see keys.Typing
_REVERSE, _PLAIN = "\x1b[7m", "\x1b[m"


def opened(choices: Sequence[Choice], size: WindowSize) -> Menu:
    """The menu of some choices, nothing typed yet."""
    return Menu(choices=tuple(choices), found=tuple(choices), size=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """What is chosen from, what was typed, and where the bar is.

    found: the choices that match what was typed. at: the one of them that the bar is on. top: the first one shown.
    drawn: lines on the screen now.
    """

    choices: tuple[Choice, ...]
    found: tuple[Choice, ...]
    size: WindowSize
    typed: str = ""
    at: int = 0
    top: int = 0
    drawn: int = 0

    @property
    def page(self) -> int:
        """How many choices are shown at once."""
        return max(1, min(MOST_SHOWN, self.size.rows - _FRAME))

    def press(self, key: Press) -> Menu | Opened | Left:
        """What a key makes of it."""
        left, typed = leaving(key), edited(self.typed, key)
        if left is not None:
            return left
        if typed is not None:
            # What matches more typing is among what matched less: of ten thousand pods, that is felt.
            among = self.found if typed.startswith(self.typed) else self.choices
            return replace(self, typed=typed, found=matching(among, typed), at=0, top=0)
        if key is Key.ENTER:
            return Opened(self.found[self.at].login) if self.found else self
        return self.moved(self._step(key))

    def resized(self, size: WindowSize) -> Menu:
        """The same on a window of another size."""
        return replace(self, size=size).moved(0)

    def moved(self, step: int) -> Menu:
        """With the bar so many choices further down, or up; it stays on one, and in sight."""
        at = max(0, min(self.at + step, len(self.found) - 1))
        top = max(min(self.top, at), at - self.page + 1)
        return replace(self, at=at, top=top)

    def draw(self, *, anew: bool = False) -> tuple[Menu, bytes]:
        """The menu as it is then on the screen, and what puts it there.

        anew: on a screen that is wiped; after a resize nobody knows on which line of it the menu is.
        """
        lines = self._lines()
        begin = ("" if self.drawn else _MARK_PASTES) + (_ERASE_SCREEN if anew else self._back())
        return replace(self, drawn=len(lines)), (begin + "\r\n".join(lines)).encode()

    def erase(self) -> bytes:
        """What takes it off the screen."""
        return (_PASTES_PLAIN + self._back()).encode()

    def _back(self) -> str:
        """To the first of the lines that are drawn, and everything from there on gone."""
        up = f"\x1b[{self.drawn - 1}A" if self.drawn > 1 else ""
        return f"\r{up}{_ERASE_BELOW}"

    def _lines(self) -> list[str]:
        """The lines, the prompt last: there the cursor stays. One character of the width is left free of them.

        A terminal that was written to in its last column may or may not have gone on to the next line.
        """
        room = max(1, self.size.cols - 1)
        shown = self.found[self.top : self.top + self.page]
        bars = [self._bar(choice, room, chosen=self.top + i == self.at) for i, choice in enumerate(shown)]
        head = [_head(len(self.found), len(self.choices), room)] if self.size.rows > _FRAME else []
        return [*head, *bars, self._prompt(room)]

    def _prompt(self, room: int) -> str:
        typed = printable.line(self.typed)
        while typed and tables.width(_PROMPT + typed) > room:
            typed = typed[1:]
        return tables.cut(_PROMPT, room) + typed

    @staticmethod
    def _bar(choice: Choice, room: int, *, chosen: bool) -> str:
        login, note = printable.line(choice.text), printable.line(choice.note)
        if room >= _NOTE_FROM:
            wide = room - _NOTE - len(_PROMPT)
            login = f"{tables.cut(login, wide):{wide}}{tables.cut(note, _NOTE)}".rstrip()
        text = tables.cut(f"{_PROMPT if chosen else '  '}{tables.cut(login, max(1, room - len(_PROMPT)))}", room)
        return f"{_REVERSE}{text}{_PLAIN}" if chosen else text

    def _step(self, key: Press) -> int:
        steps: dict[Press, int] = {
            Key.UP: -1,
            Key.DOWN: 1,
            Key.PAGE_UP: -self.page,
            Key.PAGE_DOWN: self.page,
            Key.FIRST: -len(self.choices),
            Key.LAST: len(self.choices),
        }
        return steps.get(key, 0)


def _head(found: int, all_of_them: int, room: int) -> str:
    """What is shown, and how it is used as far as there is room to say so."""
    count = f"{found} of {all_of_them}"
    forms = (f"{count}: type to narrow, Enter opens, Esc leaves", f"{count}: type, Enter, Esc", count)
    return next((form for form in forms if len(form) <= room), tables.cut(count, room))
