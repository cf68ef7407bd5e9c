"""Wakes everybody who waits for a change; used by logs and store."""

from __future__ import annotations

import asyncio


class Bell:
    """Whoever waits hears the next ring; one that rang before is not heard."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    async def wait(self) -> None:
        """Return at the next ring."""
        woken = asyncio.Event()
        self._waiting.add(woken)
        try:
            await woken.wait()
        finally:
            self._waiting.discard(woken)

    def ring(self) -> None:
        """Wake all who wait."""
        for woken in self._waiting:
            woken.set()
