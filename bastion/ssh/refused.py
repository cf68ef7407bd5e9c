"""The events of what the door refused or lost, as values (pure); written down by ssh.connection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from bastion.admission import Ending
from bastion.model import Outcome
from bastion.records import AuditEvent
from bastion.trip import event_of

if TYPE_CHECKING:
    from bastion.model import Source
    from bastion.ssh.attempts import Attempts
    from bastion.ssh.doorkeeper import TurnedAway
    from bastion.trip import Stamp, Visitor


class Cause(StrEnum):
    """What ended a connection."""

    LOGIN_TIMEOUT = "login-timeout"  # it took too long to log in
    KEEPALIVE = "keepalive"  # the client did not answer any more
    BUG = "bug"  # an exception that nobody meant
    OTHER = "other"  # either side closed it, or the network did


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How a connection ended, and what the library says of it."""

    cause: Cause
    said: str


def ending(loss: Loss, attempts: Attempts) -> Ending | None:
    """What a connection that never logged in is penalised for; nothing if people could not be looked up."""
    if attempts.unavailable:
        return None
    if loss.cause is Cause.BUG:
        return Ending.CRASH
    if loss.cause is Cause.LOGIN_TIMEOUT:
        return Ending.GRACE_EXCEEDED
    return Ending.AUTHFAIL if attempts.failed else Ending.NOAUTH


def turned_away(stamp: Stamp, source: Source, why: TurnedAway) -> AuditEvent:
    """A connection that was closed before anything was read from it."""
    return AuditEvent(
        id=stamp.id,
        at=stamp.at,
        type="connection.refused",
        outcome=Outcome.DENIED,
        actor="system",
        source=source.host,
        rule=why.rule,
        reason=why.reason,
    )


def login(stamp: Stamp, connection: str, source: Source, attempts: Attempts, loss: Loss) -> AuditEvent | None:
    """A connection that never logged in; None for one that left without a word, as a health check does."""
    if loss.cause is not Cause.LOGIN_TIMEOUT and attempts.login is None:
        return None
    rule, reason = _why(attempts, loss)
    return AuditEvent(
        id=stamp.id,
        at=stamp.at,
        type="login.refused",
        outcome=Outcome.DENIED,
        actor="system",
        credential=attempts.offered[0] if attempts.offered else "",
        source=source.host,
        connection=connection,
        login=(attempts.login or "")[:1024],
        rule=rule,
        reason=reason,
        detail={"offered": ",".join(attempts.offered), "failed": attempts.failed, "ended": loss.said[:200]},
    )


def _why(attempts: Attempts, loss: Loss) -> tuple[str, str]:
    if attempts.exhausted:
        return "max-auth-tries", "too many attempts"
    if loss.cause is Cause.LOGIN_TIMEOUT:
        return "login-timeout", "the login took too long"
    if attempts.unavailable:
        return "unavailable", "people and their keys could not be looked up"
    if attempts.offered:
        return "unknown-credential", "nobody has a key that was offered"
    return "unknown-credential", "nothing that was tried would do" if attempts.failed else "no key was offered"


def channel(stamp: Stamp, visitor: Visitor, most: int) -> AuditEvent:
    """A session beyond the most that one connection may have."""
    return replace(
        event_of(visitor, stamp, "channel.refused", Outcome.DENIED),
        rule="max-channels",
        reason=f"no more than {most} sessions on one connection",
    )


def unanswered(stamp: Stamp, visitor: Visitor) -> AuditEvent:
    """A connection whose client answered no keepalive any more."""
    return replace(
        event_of(visitor, stamp, "connection.lost", Outcome.FAILED),
        actor="system",
        rule="keepalive",
        reason="the client did not answer any more",
    )
