"""What a container's main process said, line by line with the times; written by mains, read by subresources.

Bounded as a kubelet bounds it: the oldest lines go first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from bastion.localcluster.bell import Bell

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

MAX_BYTES = 10 << 20
"""Of one log: a kubelet's own bound (containerLogMaxSize)."""

MAX_LINE = 16 * 1024
"""Bytes; a longer line is cut in pieces, as a container runtime cuts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What a request asks for (PodLogOptions). tail, limit: None is everything; limit counts bytes."""

    follow: bool = False
    timestamps: bool = False
    since: datetime | None = None
    tail: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    at: datetime
    data: bytes


class Log:
    """One run's output; there is one writer and any number of readers."""

    def __init__(self) -> None:
        self._lines: deque[_Line] = deque()
        self._dropped = 0  # lines that are gone from the front
        self._size = 0
        self._partial = b""
        self._ended = False
        self._bell = Bell()

    def write(self, at: datetime, data: bytes) -> None:
        """Add output; a line that has no end yet waits for it."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._add(at, line + b"\n")
        while len(self._partial) >= MAX_LINE:
            self._add(at, self._partial[:MAX_LINE])
            self._partial = self._partial[MAX_LINE:]
        self._bell.ring()

    def end(self, at: datetime) -> None:
        """Nothing more will be written."""
        if self._partial:
            self._add(at, self._partial)
            self._partial = b""
        self._ended = True
        self._bell.ring()

    async def read(self, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """What is there, and with `follow` what comes until the end."""
        left = options.limit
        position = self._start(options)
        while True:
            position = max(position, self._dropped)
            if position < self._dropped + len(self._lines):
                data = _shown(self._lines[position - self._dropped], options)
                position += 1
                yield data if left is None else data[:left]
                left = None if left is None else left - len(data)
                if left is not None and left <= 0:
                    return
            elif self._ended or not options.follow:
                return
            else:
                await self._bell.wait()

    def _start(self, options: LogOptions) -> int:
        first = 0
        if options.since is not None:
            first = sum(1 for line in self._lines if line.at < options.since)
        if options.tail is not None:
            first = max(first, len(self._lines) - options.tail)
        return self._dropped + first

    def _add(self, at: datetime, data: bytes) -> None:
        self._lines.append(_Line(at, data))
        self._size += len(data)
        while self._size > MAX_BYTES:
            self._size -= len(self._lines.popleft().data)
            self._dropped += 1


def _shown(line: _Line, options: LogOptions) -> bytes:
    if not options.timestamps:
        return line.data
    stamp = line.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    return stamp.encode() + b" " + line.data
