"""Files that rotate: what they say, read again before it is a minute old; used by pods.credentials and pods.tls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from bastion.ports import Clock

MAX_AGE_S = 60.0
"""How old what was read may be when it is used; a ServiceAccount's token is replaced long before it expires."""

_T = TypeVar("_T")


class Reread(Generic[_T]):
    """The value that `read` gives. While it cannot be read, the last one stays good, and the log says so."""

    def __init__(
        self, read: Callable[[], _T], *, clock: Clock, log: FilteringBoundLogger, otherwise: _T | None = None
    ) -> None:
        """Reads at once; raises what `read` raises, unless there is a value to use `otherwise`."""
        self._read = read
        self._clock = clock
        self._log = log
        self._fresh_until = clock.monotonic() + MAX_AGE_S
        try:
            self._value = read()
        except (OSError, ValueError):
            if otherwise is None:
                raise
            self._value = otherwise

    def get(self) -> _T:
        """The value, less than MAX_AGE_S old if it can be read."""
        if self._clock.monotonic() >= self._fresh_until:
            self._fresh_until = self._clock.monotonic() + MAX_AGE_S
            try:
                self._value = self._read()
            except (OSError, ValueError) as error:
                self._log.warning("kubernetes.not_reread", cause=str(error))
        return self._value

    def forget(self) -> None:
        """Read it anew when it is asked for next."""
        self._fresh_until = self._clock.monotonic()
