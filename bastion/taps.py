"""The ordered list of taps that see a session's events before they are forwarded; built and used by session.

One clock for all of them, and fail closed: an event goes on only when it has
passed the gate of every tap, and a gate that raises ends the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.events import SessionEvent
    from bastion.ports import Clock, Gate, Tap


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates of one event, first to last; itself a ports.Gate."""

    gates: tuple[Gate, ...]

    async def passed(self) -> None:
        """Return when the event may be forwarded. Raises what a tap raises."""
        for gate in self.gates:
            await gate.passed()


class Taps:
    """Taps of one session, first to last."""

    def __init__(self, taps: Sequence[Tap], clock: Clock) -> None:
        """Time of the session starts now."""
        self._taps = tuple(taps)
        self._clock = clock
        self._started = clock.monotonic()

    def take(self, event: SessionEvent) -> Gates:
        """Show an event to every tap; it may be forwarded when it has passed what is returned."""
        at_us = round((self._clock.monotonic() - self._started) * 1_000_000)
        return Gates(tuple(tap.take(at_us, event) for tap in self._taps))
