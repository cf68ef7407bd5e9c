"""What the record is asked and what it answers, as values; used by store.reader and cli.audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from bastion.model import Action
    from bastion.records import AuditEvent, CommandEnd, CommandRecord, SessionEnd, SessionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries are meant; empty means any. `since` is included, `until` is not."""

    person: str = ""
    namespace: str = ""
    pod: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page of a listing ended: the time and id of its last entry. The next page lies before it."""

    at: datetime
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session and, unless it is running or was cut off, how it ended.

    writer: the process that recorded it.
    found_at: when that process's next start found it open, None if it was closed in order. It ended at some time
    between the last that is known of it, which stands in its end, and this.
    """

    record: SessionRecord
    end: SessionEnd | None
    writer: str
    found_at: datetime | None = None

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None until it did, and where that is not known."""
        return self.end.ended_at if self.end and self.found_at is None else None

    @property
    def bytes_in(self) -> int | None:
        """What the person sent; None until it ended, and if its end is not complete: that is not known then."""
        return self.end.bytes_in if self.end and self.end.complete else None

    @property
    def bytes_out(self) -> int | None:
        """What the pod sent; None as `bytes_in`."""
        return self.end.bytes_out if self.end and self.end.complete else None

    @property
    def position(self) -> Position:
        """Where it stands in a listing."""
        return Position(at=self.record.started_at, id=self.record.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandView:
    """A command, who ran it where, and how it ended. found_at: as of its session."""

    record: CommandRecord
    person: str
    credential: str
    namespace: str
    pod: str
    container: str
    action: Action
    rule: str
    end: CommandEnd | None
    found_at: datetime | None = None

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None until it did, and where that is not known."""
        return self.end.ended_at if self.end and self.found_at is None else None

    @property
    def position(self) -> Position:
        """Where it stands in a listing."""
        return Position(at=self.record.started_at, id=self.record.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event and the process that wrote it down."""

    record: AuditEvent
    writer: str

    @property
    def position(self) -> Position:
        """Where it stands in a listing."""
        return Position(at=self.record.at, id=self.record.id)
