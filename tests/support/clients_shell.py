"""A terminal over a channel of a library, typed to and read from as a person would; used by clients_*.py."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Protocol

from support.clients import PATIENCE_S

if TYPE_CHECKING:
    from bastion.model import WindowSize


class ShellChannel(Protocol):
    """A session channel of a library, with a terminal."""

    def send(self, data: bytes) -> None:
        """Send input."""

    def receive(self, timeout_s: float) -> bytes:
        """Wait for output; b"" at its end. Raises TimeoutError."""

    def resize(self, size: WindowSize) -> None:
        """Say that the window has another size."""

    def status(self) -> int:
        """The exit status, once output has ended."""


class LibraryShell:
    """Fills Shell over a channel."""

    def __init__(self, channel: ShellChannel) -> None:
        self.channel = channel
        self._seen = b""
        self._read_up_to = 0

    def type(self, text: str | bytes) -> None:
        self.channel.send(text.encode() if isinstance(text, str) else text)

    def expect(self, pattern: str) -> re.Match[bytes]:
        expression, deadline = re.compile(pattern.encode(), re.DOTALL), time.monotonic() + PATIENCE_S
        while not (match := expression.search(self._seen, self._read_up_to)):
            if not self._read(deadline):
                raise AssertionError(f"no {pattern!r} in {self._seen[self._read_up_to :]!r}")
        self._read_up_to = match.end()
        return match

    def resize(self, size: WindowSize) -> None:
        self.channel.resize(size)

    def wait(self) -> int:
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        return self.channel.status()

    def _read(self, deadline: float) -> bool:
        try:
            data = self.channel.receive(max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            return False
        self._seen += data
        return bool(data)
