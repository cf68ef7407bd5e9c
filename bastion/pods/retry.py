"""When a request that failed is made again, and what is said meanwhile; used by pods.api and the catalogue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from bastion.errors import BastionError
    from bastion.metrics import Metrics
    from bastion.ports import Clock, Tell

Answer = TypeVar("Answer")

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Passing(Exception):  # noqa: N818 - it may not be an error yet: another try may do
    """A try failed in a way that may pass: too many requests, an error of the server, a lost connection.

    error: what to raise if no other try follows. retry_after_s: what the server asks for, None if it does not.
    """

    def __init__(self, error: BastionError, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


def pause_s(tried: int, chance: float, retry_after_s: float | None = None) -> float:
    """Seconds until the next try after so many: 1, 2, 4 … up to 30, of which chance (0 to 1) takes up to half away.

    The server's own wish is waited for at least.
    """
    full = min(FIRST_PAUSE_S * 2.0 ** min(tried - 1, 10), LONGEST_PAUSE_S)
    return max(full * (1 - chance / 2), retry_after_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Makes tries until one holds or the patience is over.

    patience_s: how long after the first try another may begin.
    chance: 0 to 1, so that many who wait do not all come back at once.
    """

    patience_s: float
    clock: Clock
    chance: Callable[[], float]
    log: FilteringBoundLogger
    metrics: Metrics

    async def make(self, attempt: Callable[[], Awaitable[Answer]], what: str, tell: Tell | None) -> Answer:
        """What an attempt returns. Raises what it raises, and the error of the last `Passing`."""
        tried, began = 0, self.clock.monotonic()
        while True:
            tried += 1
            try:
                return await attempt()
            except Passing as failed:
                left = self.patience_s - (self.clock.monotonic() - began)
                if left <= 0 or left < (failed.retry_after_s or 0):
                    raise failed.error from failed
                pause = min(pause_s(tried, self.chance(), failed.retry_after_s), left)
                self.metrics.api_retried()
                self.log.warning("api.retry", what=what, retry=tried, in_s=round(pause, 1), error=str(failed))
                if tell is not None:
                    tell(f"waiting for the API server, retry {tried} in {max(round(pause), 1)} s")
                await asyncio.sleep(pause)
