"""Which terminal modes of a pty request reach the pod, as words for stty (pure); used by ssh.channel.

RFC 4254 section 8 numbers the modes, RFC 8160 adds IUTF8. The words are those
that the stty of GNU, BusyBox and toybox know alike, because a stty that knows
one of them not applies none. Left out is what Linux's pseudo-terminals do not
have (parity, character size, speed, delayed suspend, status) and what only
upper-case terminals wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHARACTERS = {
    1: "intr",
    2: "quit",
    3: "erase",
    4: "kill",
    5: "eof",
    6: "eol",
    7: "eol2",
    8: "start",
    9: "stop",
    10: "susp",
    12: "rprnt",
    13: "werase",
    14: "lnext",
}

_FLAGS = {
    30: "ignpar",
    31: "parmrk",
    32: "inpck",
    33: "istrip",
    34: "inlcr",
    35: "igncr",
    36: "icrnl",
    38: "ixon",
    39: "ixany",
    40: "ixoff",
    41: "imaxbel",
    42: "iutf8",
    50: "isig",
    51: "icanon",
    53: "echo",
    54: "echoe",
    55: "echok",
    56: "echonl",
    57: "noflsh",
    58: "tostop",
    59: "iexten",
    60: "echoctl",
    61: "echoke",
    70: "opost",
    72: "onlcr",
    73: "ocrnl",
    74: "onocr",
    75: "onlret",
}

_NO_CHARACTER = 255


def stty_words(modes: Mapping[int, int]) -> tuple[str, ...]:
    """The known modes as arguments of stty, always in the same order; a mode that is not known is left out.

    Nothing a client sent is in a word but a number from 0 to 255.
    """
    characters = [(word, _character(modes[code])) for code, word in _CHARACTERS.items() if code in modes]
    flags = [word if modes[code] else f"-{word}" for code, word in _FLAGS.items() if code in modes]
    return (*(part for pair in characters for part in pair), *flags)


def _character(value: int) -> str:
    """A control character for stty, which takes one digit for the digit's own character: hence ^A to ^I."""
    if not 0 < value < _NO_CHARACTER:  # RFC 4254: 255 is none; a terminal of Linux says 0 for that
        return "undef"
    return f"^{chr(0x40 + value)}" if value < 10 else str(value)  # noqa: PLR2004 - the first number of two digits
