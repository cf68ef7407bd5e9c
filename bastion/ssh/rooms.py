"""What every connection needs; built by app, used by ssh.connection and ssh.sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bastion.trip import Stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from structlog.typing import FilteringBoundLogger

    from bastion.console.door import Console
    from bastion.ports import AuditLog, Clock, Identities
    from bastion.refusals import Refusals
    from bastion.session import Trips
    from bastion.ssh.doorkeeper import Doorkeeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What every connection needs; one of these for a whole server.

    start: runs a coroutine by name, so that nothing is lost or left behind.
    """

    identities: Identities
    audit: AuditLog
    refusals: Refusals
    trips: Trips
    console: Console
    clock: Clock
    new_id: Callable[[], str]
    log: FilteringBoundLogger
    start: Callable[[Coroutine[Any, Any, None], str], None]
    doorkeeper: Doorkeeper
    max_auth_tries: int
    max_channels: int

    def stamp(self) -> Stamp:
        """A fresh id, and the time."""
        return Stamp(id=self.new_id(), at=self.clock.now(), monotonic_s=self.clock.monotonic())
