"""This machine's clock and randomness, as `ports.Clock` and as ids; used by cli and app, which pass them on."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


class SystemClock:
    """Fills `ports.Clock`."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never backwards."""
        return time.monotonic()


def new_id() -> str:
    """A name for a connection, session, command, event or writer: 80 random bits in hexadecimal."""
    return secrets.token_hex(10)
