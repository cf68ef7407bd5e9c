"""Refusals on their way to the record, floods of them as counts; used by session and ssh.rooms, built by app.

Each refusal is an event, up to ten a minute of one kind from one source. What
comes beyond that, or while the record cannot be kept, is counted and written as one
event with the count: at the end of the minute, or when the record is back. Sources
beyond the first 256 of a minute are counted together, so that neither rows nor memory
grow with a flood from many.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from structlog.typing import FilteringBoundLogger

    from bastion.ports import AuditLog, Clock
    from bastion.records import AuditEvent

EACH_MINUTE = 10
WINDOW_S = 60.0
LOOK_EVERY_S = 5.0
MAX_SOURCES = 256
"""How many sources are told apart for each kind of refusal."""

OTHERS = ""
"""Stands for all sources beyond those."""


@dataclass(slots=True)
class _Window:
    """One kind of refusal from one source, in one minute."""

    started: float
    written: int = 0
    held: int = 0
    last: AuditEvent | None = None
    failed: bool = False


class Refusals:
    """Writes refusals down, now or as a count later. Never raises."""

    def __init__(
        self,
        audit: AuditLog,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        log: FilteringBoundLogger,
        start: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        """`start` runs a coroutine beside the caller."""
        self._audit = audit
        self._clock = clock
        self._new_id = new_id
        self._log = log
        self._start = start
        self._windows: dict[str, dict[str, _Window]] = {}  # by kind and source
        self._flushing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, event: AuditEvent) -> None:
        """Write a refusal down beside the caller. One that is only counted costs no task."""
        window = self._take(event)
        if window is not None:
            self._start(self._write(window, event), "refusal")

    async def write(self, event: AuditEvent) -> None:
        """Write a refusal down; returns when it is committed or counted."""
        window = self._take(event)
        if window is not None:
            await self._write(window, event)

    async def flush(self, *, everything: bool = False) -> None:
        """Write the counts that are due, or all of them, until one cannot be written."""
        async with self._flushing:
            now = self._clock.monotonic()
            windows = [(kind, source) for kind, sources in self._windows.items() for source in sources]
            for kind, source in windows:
                window = self._windows[kind][source]
                over = now - window.started >= WINDOW_S
                due = window.held and (over or window.failed or everything)
                if due and not await self._write_count(window, source):
                    break
                if over and not window.held:
                    self._forget(kind, source)
        if self._windows:
            self._look_later()

    async def close(self) -> None:
        """Write all counts, as far as the record can be kept, and stop."""
        await self.flush(everything=True)
        if self._timer is not None:
            self._timer.cancel()

    def _take(self, event: AuditEvent) -> _Window | None:
        """Where to write it as an event of its own; None if it was counted instead."""
        window = self._window(event)
        if window.written >= EACH_MINUTE or window.failed:
            self._hold(window, event)
            return None
        window.written += 1
        return window

    def _window(self, event: AuditEvent) -> _Window:
        now = self._clock.monotonic()
        windows = self._windows.setdefault(event.type, {})
        source = event.source if event.source in windows or len(windows) < MAX_SOURCES else OTHERS
        window = windows.get(source)
        if window is None or (now - window.started >= WINDOW_S and not window.held):
            window = windows[source] = _Window(started=now)
            self._look_later()  # also to forget it
        return window

    async def _write(self, window: _Window, event: AuditEvent) -> None:
        try:
            await self._audit.event(event)
        except BastionError as error:
            self._log.error("refusal.waits", type=event.type, source=event.source, error=str(error))
            window.failed = True
            self._hold(window, event)

    def _forget(self, kind: str, source: str) -> None:
        del self._windows[kind][source]
        if not self._windows[kind]:
            del self._windows[kind]

    def _hold(self, window: _Window, event: AuditEvent) -> None:
        window.held += 1
        window.last = event

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self._start(self.flush(), "refusals")

    async def _write_count(self, window: _Window, source: str) -> bool:
        """Whether it could be written."""
        assert window.last is not None
        count = window.held
        counted = "1 refusal" if count == 1 else f"{count} refusals"
        event = dataclasses.replace(
            window.last,
            id=self._new_id(),
            at=self._clock.now(),
            source=source,
            reason=f"{counted}{'' if source else ' from many sources'} counted, the last: {window.last.reason}",
            detail={**window.last.detail, "count": count},
        )
        try:
            await self._audit.event(event)
        except BastionError as error:
            self._log.error("refusal.waits", type=event.type, source=event.source, count=count, error=str(error))
            window.failed = True
            return False
        window.held -= count
        window.failed = False
        return True
