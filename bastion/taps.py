"""The ordered list of taps that see a session's events before they are forwarded; built and used by session.

One clock for all of them, and fail closed: a tap that raises withholds the
event, and the session ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.events import SessionEvent
    from bastion.ports import Clock, Tap


class Taps:
    """Taps of one session, first to last."""

    def __init__(self, taps: Sequence[Tap], clock: Clock) -> None:
        """Time of the session starts now."""
        self._taps = tuple(taps)
        self._clock = clock
        self._started = clock.monotonic()

    async def on_event(self, event: SessionEvent) -> None:
        """Show an event to every tap; returns when it may be forwarded. Raises what a tap raises."""
        at_us = round((self._clock.monotonic() - self._started) * 1_000_000)
        for tap in self._taps:
            await tap.on_event(at_us, event)
