"""Takes the mark that is printed at a program's end out of what it says; used by pods.stream."""

from __future__ import annotations

_SURE = 4
"""So much of a mark is one whose rest is on its way, however long that takes."""


class EndMark:
    """Looks for one mark in a stream, and lets everything else through.

    mark: its first byte is nowhere else in it.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._begun = b""  # the end of what came, if a mark may begin there
        self._shown = 0  # how much of that was let through
        self.found = False

    @property
    def is_doubtful(self) -> bool:
        """Whether what is held back is as likely to be something else: too little of a mark."""
        return self._shown < len(self._begun) < _SURE

    def take(self, data: bytes) -> bytes:
        """What may be shown of it, and of what was held back."""
        if self.found or not self._mark or (not self._begun and self._mark[:1] not in data):
            return data
        data, shown = self._begun + data, self._shown
        self._begun, self._shown = b"", 0
        at = data.find(self._mark)
        if at >= 0:
            self.found = True
            return data[shown:at] + data[max(shown, at + len(self._mark)) :]
        at = data.rfind(self._mark[:1])
        if at >= 0 and self._mark.startswith(data[at:]):
            self._begun, self._shown = data[at:], shown if at == 0 else 0
            return data[shown:at]
        return data[shown:]

    def release(self) -> bytes:
        """What is held back: it was no mark after all, unless the rest of it is still to come."""
        held = self._begun[self._shown :]
        self._shown = len(self._begun)
        return held
