"""Text out of records that cannot act on a terminal; used by cli and whatever else prints what others wrote.

`line` is for fields: one record stays one line. `ReplayFilter` is for playing
a transcript: colours and cursor moves pass, whatever makes a terminal
answer, rename, copy, print or store does not.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

from bastion.capture.escapes import Token, Tokenizer, What

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats (bidi among them), surrogates, line separators


def line(text: str) -> str:
    r"""Text on one line: control, format and bidi characters and lone surrogates become escapes like `\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in _INVISIBLE else char for char in text)


def line_of_bytes(data: bytes) -> str:
    r"""As `line`, for bytes that ought to be UTF-8; those that are not become escapes like `\xff`."""
    return line(data.decode(errors="backslashreplace"))


def _escaped(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004 - what two digits can say
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - as above, four digits


# --- for playing -----------------------------------------------------------------

_CONTROLS = {b"\b", b"\t", b"\n", b"\r", b"\x0e", b"\x0f"}  # the last two switch to line drawing and back
_ESCAPES = {b"\x1b7", b"\x1b8", b"\x1bD", b"\x1bE", b"\x1bM", b"\x1b(0", b"\x1b(B", b"\x1b)0", b"\x1b)B"}
# Cursor, erase, insert, delete, scroll, repeat, colours, scroll region: numbers of at most four digits, no prefix.
_NUMBERS = re.compile(rb"\x1b\[((?:[0-9]{0,4}[;:]){0,31}[0-9]{0,4})([@A-HIJKLMPXZ`abdefmr])")
_SCROLL = re.compile(rb"\x1b\[[0-9]{0,4}[ST]")  # T with more numbers would begin mouse tracking
_BARE = re.compile(rb"\x1b\[[su]")  # with numbers they would mean something else
_MODES = re.compile(rb"\x1b\[\?([0-9]{1,4}(?:;[0-9]{1,4}){0,15})([hl])")
_INSERT_MODE = re.compile(rb"\x1b\[4[hl]")
_ALLOWED_MODES = {b"6", b"7", b"12", b"25", b"47", b"1047", b"1048", b"1049"}  # origin, wrap, cursor, second screen

RESET = "\x1b[?1049l\x1b[r\x1b[m\x1b(B\x0f\x1b[?25h\x1b[?7h\x1b[4l\r\n"
"""What puts a terminal right after a replay that ended anywhere."""


class ReplayFilter:
    """Lets through of a terminal's stream what is harmless on another one. Takes it in any pieces."""

    def __init__(self) -> None:
        self._tokens = Tokenizer()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """The harmless part of a piece. Bytes that are not UTF-8 become U+FFFD."""
        return "".join(self._pass(token) for token in self._tokens.feed(data))

    def _pass(self, token: Token) -> str:
        if token.what is What.TEXT:
            return _visible(self._decoder.decode(token.data))
        begun = self._decoder.decode(b"", final=True)  # a character that the control cut off
        return begun + _harmless(token).decode("ascii")


def _visible(text: str) -> str:
    if text.isascii():
        return text
    # Format characters may stand in a terminal's text (they join emoji), but C1 controls and bidi overrides may not.
    return "".join(char for char in text if unicodedata.category(char) != "Cc" and char not in _BIDI)


_BIDI = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def _harmless(token: Token) -> bytes:
    match token.what:
        case What.CONTROL:
            return token.data if token.data in _CONTROLS else b""
        case What.ESCAPE:
            return token.data if token.data in _ESCAPES else b""
        case What.CSI:
            return _harmless_csi(token.data)
        case _:
            return b""


def _harmless_csi(data: bytes) -> bytes:
    if any(form.fullmatch(data) for form in (_NUMBERS, _SCROLL, _BARE, _INSERT_MODE)):
        return data
    if modes := _MODES.fullmatch(data):
        kept = [mode for mode in modes[1].split(b";") if mode in _ALLOWED_MODES]
        return b"\x1b[?" + b";".join(kept) + modes[2] if kept else b""
    return b""
