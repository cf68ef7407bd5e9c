"""The gate for typed input on a terminal: lets through what the terminal showed, and nothing else; used by recorder.

From outside a pod nobody can see whether a program has switched the echo off.
So what is typed is held in memory, line by line, until the output says: a
line is released only if the output after its first key, without escape
sequences, was exactly that line and then a new line. Of every other line
nothing is kept but roughly how long it was. In doubt it is hidden:
lines that were edited, completed or typed ahead are hidden too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from bastion.capture.escapes import Tokenizer, What

MAX_LINE = 4096
"""Bytes of a line that are held; a longer line is hidden."""

_MAX_WAITING = 64  # what waits for an echo, or behind something that does; the oldest line is hidden when there is more
_BUCKET = 8
_ENTER = b"\r\n"
_BREAKS = b"\x03\x04\x1a\x1c"  # ^C ^D ^Z ^\ end a line without running it
_ESC = 0x1B
_BELL = b"\x07"


@dataclass(frozen=True, slots=True)
class Released:
    """Typed bytes that were shown, or single control keys."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Hidden:
    """A line that was not shown; `keys` says about how many bytes it had, such as "9-16"."""

    keys: str


class _Line:
    """A line from its first key on."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.keys = 0
        self.shown = 0  # how much of the text the output has shown
        self.ended_by = b""  # the key that ended it; b"" while it is being typed
        self.verdict: Released | Hidden | None = None
        self.failed = False

    def key(self, byte: int, *, plain: bool) -> None:
        self.keys += 1
        if self.failed:
            return
        self.text.append(byte)
        if not plain or len(self.text) > MAX_LINE:
            self.fail()

    def end(self, key: bytes) -> None:
        self.ended_by = key
        if self.failed:
            self.fail()

    def fail(self) -> None:
        """It was not shown as it was typed: forget what it was."""
        self.failed = True
        self.text.clear()
        if self.ended_by:
            low = (self.keys - 1) // _BUCKET * _BUCKET + 1
            self.verdict = Hidden(f"{low}-{low + _BUCKET - 1}")

    def see(self, data: bytes) -> None:
        """Visible bytes of output."""
        if self.text.startswith(data, self.shown):
            self.shown += len(data)
        else:
            self.fail()

    def see_newline(self) -> None:
        if self.ended_by and self.shown == len(self.text):
            self.verdict = Released(bytes(self.text) + self.ended_by)
        else:
            self.fail()


class EchoGate:
    """Decides about one terminal's input. What is undecided when it is dropped is never given out."""

    def __init__(self) -> None:
        self._waiting: deque[_Line | Released] = deque()  # in the order of typing
        self._tokens = Tokenizer()

    def typed(self, data: bytes) -> list[Released | Hidden]:
        """The person typed; returns what is decided now, in the order of typing."""
        verdicts: list[Released | Hidden] = []
        for byte in data:
            self._key(byte)
            if len(self._waiting) > _MAX_WAITING:
                verdicts += self._decided()
        return verdicts + self._decided()

    def shown(self, data: bytes) -> list[Released | Hidden]:
        """The terminal showed output; returns what is decided now."""
        if self._undecided():
            for token in self._tokens.feed(data):
                self._see(token.what, token.data)
        if not self._undecided():
            self._tokens = Tokenizer()  # only output after a first key counts
        return self._decided()

    def _key(self, byte: int) -> None:
        line = self._line_being_typed()
        key = bytes([byte])
        control = byte < 0x20 or byte == 0x7F  # noqa: PLR2004 - C0 and DEL
        if line is None:
            if control and byte != _ESC:
                self._release(key)
                return
            line = _Line()
            self._waiting.append(line)
            self._bound()
        if not control:
            line.key(byte, plain=True)
        elif key in _ENTER:
            line.end(key)
        elif key in _BREAKS:
            line.end(key)
            line.fail()
            self._release(key)
        else:
            line.key(byte, plain=False)

    def _line_being_typed(self) -> _Line | None:
        last = self._waiting[-1] if self._waiting else None
        return last if isinstance(last, _Line) and not last.ended_by else None

    def _release(self, key: bytes) -> None:
        self._waiting.append(Released(key))
        self._bound()

    def _bound(self) -> None:
        if len(self._waiting) > _MAX_WAITING and (undecided := self._undecided()):
            undecided[0].fail()

    def _undecided(self) -> list[_Line]:
        return [line for line in self._waiting if isinstance(line, _Line) and not line.failed and line.verdict is None]

    def _see(self, what: What, data: bytes) -> None:
        if what is What.TEXT:
            for line in self._undecided():
                line.see(data)
        elif what is What.CONTROL and data != _BELL:
            for line in self._undecided():
                if data in _ENTER:
                    line.see_newline()
                else:
                    line.fail()

    def _decided(self) -> list[Released | Hidden]:
        verdicts: list[Released | Hidden] = []
        while self._waiting:
            first = self._waiting[0]
            verdict = first.verdict if isinstance(first, _Line) else first
            if verdict is None:
                break
            verdicts.append(verdict)
            self._waiting.popleft()
        return verdicts
