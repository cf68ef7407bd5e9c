"""The signals that a running exec is sent: delivered one by one, beside input and output; used by pods.stream."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

MOST_SIGNALS = 8
"""Signals that may wait to be delivered, and complaints about them that are shown."""

BETWEEN_SIGNALS_S = 0.1


class Delivery:
    """Each signal takes an exec: what waits already waits once, so a flood of them costs little."""

    def __init__(self, deliver: Callable[[str], Awaitable[str]], complain: Callable[[str], None]) -> None:
        """Begin with none.

        deliver: delivers a signal by its name, and returns why it could not, "" if it could. complain: shows that.
        """
        self._deliver = deliver
        self._complain = complain
        self._waiting: deque[str] = deque()  # the first is being delivered
        self._said: set[str] = set()

    def take(self, name: str, start: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        """Have a signal delivered by its name. `start` starts work of a name beside what is going on."""
        if name in self._waiting or len(self._waiting) >= MOST_SIGNALS:
            return
        self._waiting.append(name)
        if len(self._waiting) == 1:
            start(self._run(), "pod-signal")

    async def _run(self) -> None:
        while self._waiting:
            complaint = await self._deliver(self._waiting[0])
            self._waiting.popleft()
            if complaint and complaint not in self._said and len(self._said) < MOST_SIGNALS:
                self._said.add(complaint)
                self._complain(complaint)
            await asyncio.sleep(BETWEEN_SIGNALS_S)
