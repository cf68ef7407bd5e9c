"""An audit log that keeps events in memory, and fails when it is told to; used by tests of refusals."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.records import (
        AuditEvent,
        Chunk,
        CommandEnd,
        CommandRecord,
        ConnectionRecord,
        SessionEnd,
        SessionRecord,
    )


class Events:
    """Fills `ports.AuditLog` for events; fails while `broken`."""

    def __init__(self) -> None:
        self.written: list[AuditEvent] = []
        self.asked = 0
        self.broken = False

    async def event(self, event: AuditEvent) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.broken:
            raise BastionError(Code.RECORD_UNAVAILABLE, "not now")
        self.written.append(event)

    async def open_connection(self, connection: ConnectionRecord) -> None:
        raise NotImplementedError

    async def start_session(self, session: SessionRecord, command: CommandRecord | None) -> None:
        raise NotImplementedError

    async def append(self, chunks: Sequence[Chunk]) -> None:
        raise NotImplementedError

    async def end_session(self, end: SessionEnd, command: CommandEnd | None) -> None:
        raise NotImplementedError
