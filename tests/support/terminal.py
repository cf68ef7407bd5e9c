"""A person at a terminal: a program on a real pseudo-terminal, typed to and read from, resized and left."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bastion.model import WindowSize

PATIENCE_S = 20.0


class Terminal:
    """Used in a with statement; what still runs at its end is killed."""

    def __init__(self, argv: Sequence[str], size: WindowSize, env: Mapping[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self._set_size(size)
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=dict(env) if env is not None else None,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call, no lock
        )
        os.close(slave)
        self.seen = b""
        self._read_up_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str | bytes) -> None:
        """Press keys; a carriage return is Enter, the byte 3 is Ctrl-C."""
        os.write(self._master, text.encode() if isinstance(text, str) else text)

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Wait until the pattern shows in what came since the last match. Fails with what did come."""
        expression = re.compile(pattern.encode(), re.DOTALL)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            match = expression.search(self.seen, self._read_up_to)
            if match:
                self._read_up_to = match.end()
                return match
            if not self._read(deadline):
                raise AssertionError(f"no {pattern!r} in {self.seen[self._read_up_to :]!r}")

    def resize(self, size: WindowSize) -> None:
        """Change the window; the program is told as a terminal would tell it."""
        self._set_size(size)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def wait(self) -> int:
        """Read until the program ends; its exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += data
        return bool(data)

    def _set_size(self, size: WindowSize) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0))
