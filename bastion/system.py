"""This machine's clock, randomness and signals, as `ports.Clock`, ids and an event; used by cli, app, localcluster."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; for a program's main coroutine, which ends the program after it.

    From leaving on, both are ignored. Else a second one would kill the
    interpreter while it ends, and what ended well would end with a signal.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
