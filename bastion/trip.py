"""What a trip is about, as values, and the rows and events made of them (pure); used by session, relay and ssh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

from bastion import lifecycle, login
from bastion.errors import BastionError
from bastion.model import Action, ConsoleLogin, Outcome
from bastion.records import AuditEvent, CommandEnd, CommandRecord, SessionEnd, SessionRecord

if TYPE_CHECKING:
    from datetime import datetime

    from bastion.lifecycle import Ending
    from bastion.model import Allow, Credential, KubeIdentity, Person, Pty, Resolved, Source


MOST_DETAIL = 1000
"""Characters of a command that was refused, or of somebody else's error, that an event keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A fresh id, and the time it was given, by both clocks."""

    id: str
    at: datetime
    monotonic_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who stands at the door: a person, proved on a recorded connection."""

    connection: str
    person: Person
    credential: Credential
    source: Source
    login: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for on a channel: a shell (command is None), a command, or something to look at.

    action: what a role must allow for this.
    """

    command: bytes | None
    pty: Pty | None
    action: Action
    env: tuple[tuple[str, str], ...] = ()
    refused_env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A decision for, with everything that led to it."""

    resolved: Resolved
    allow: Allow
    identity: KubeIdentity
    reviewed: str
    policy_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a person was refused, by which rule, in which words.

    command: the line that was asked for, None if it was a shell or nothing that has one.
    detail: what the record says beyond them, such as the API server's own reason.
    """

    action: str
    rule: str
    reason: str
    outcome: Outcome = Outcome.DENIED
    command: bytes | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The rows with which a session begins: committed together, before the pod sees a byte.

    monotonic_s: when, by the clock that nobody sets.
    """

    session: SessionRecord
    command: CommandRecord | None
    monotonic_s: float


@dataclass(slots=True)
class Count:
    """What passed, in bytes."""

    bytes_in: int = 0
    bytes_out: int = 0


def begun(visitor: Visitor, asked: Asked, admitted: Admitted, stamp: Stamp, command_id: str) -> Begun:
    """The rows of a session that was allowed."""
    session = SessionRecord(
        id=stamp.id,
        connection=visitor.connection,
        person=visitor.person.subject,
        credential=visitor.credential,
        source=visitor.source,
        login=visitor.login,
        action=asked.action,
        target=admitted.resolved.target,
        role=admitted.allow.role,
        rule=admitted.allow.rule,
        reason=admitted.reviewed,
        policy_digest=admitted.policy_digest,
        pty=asked.pty,
        refused_env=asked.refused_env,
        record_input=admitted.allow.record.input,
        started_at=stamp.at,
    )
    if asked.command is None:
        return Begun(session=session, command=None, monotonic_s=stamp.monotonic_s)
    command = CommandRecord(
        id=command_id,
        session=stamp.id,
        seq=0,
        kind="exec",
        source="request",
        text=asked.command,
        started_at=stamp.at,
    )
    return Begun(session=session, command=command, monotonic_s=stamp.monotonic_s)


def ended(
    begun: Begun, verdict: Ending, count: Count, *, complete: bool, monotonic_s: float
) -> tuple[SessionEnd, CommandEnd | None]:
    """The rows with which a session, and its command, end.

    monotonic_s: when. The end is as much later than the start as really passed, whatever the wall clock was set to
    meanwhile; it goes with the times in the transcript.
    """
    at = begun.session.started_at + timedelta(seconds=monotonic_s - begun.monotonic_s)
    end = SessionEnd(
        session=begun.session.id,
        status=verdict.status,
        outcome=verdict.outcome,
        reason=verdict.reason if complete else f"{verdict.reason}; {lifecycle.LOSS}",
        bytes_in=count.bytes_in,
        bytes_out=count.bytes_out,
        complete=complete,
        ended_at=at,
    )
    if begun.command is None:
        return end, None
    return end, CommandEnd(command=begun.command.id, status=verdict.status, ended_at=at)


def refusal_of(asked: Asked, error: BastionError) -> Refusal:
    """What a failure before the start of a session is to the record."""
    outcome = Outcome.DENIED if error.code in lifecycle.REFUSALS else Outcome.FAILED
    return Refusal(
        action=asked.action,
        rule=str(error.code),
        reason=error.user_message,
        outcome=outcome,
        command=asked.command,
        detail=error.detail,
    )


def event_of(visitor: Visitor, stamp: Stamp, kind: str, outcome: Outcome) -> AuditEvent:
    """An event that a visitor caused; its particulars are put in by whoever tells of it."""
    return AuditEvent(
        id=stamp.id,
        at=stamp.at,
        type=kind,
        outcome=outcome,
        actor=f"person:{visitor.person.subject}",
        person=visitor.person.subject,
        credential=visitor.credential.id,
        source=visitor.source.host,
        connection=visitor.connection,
        login=visitor.login,
    )


def refused(visitor: Visitor, refusal: Refusal, stamp: Stamp) -> AuditEvent:
    """The event of a refusal."""
    command = (refusal.command or b"")[:MOST_DETAIL].decode(errors="backslashreplace")
    particulars = {"command": command, "detail": refusal.detail}
    return replace(
        event_of(visitor, stamp, "session.refused", refusal.outcome),
        action=refusal.action,
        rule=refusal.rule,
        reason=refusal.reason,
        detail={key: text[:MOST_DETAIL] for key, text in particulars.items() if text},
        **_place(visitor.login),
    )


def told(session: SessionRecord, kind: str, outcome: Outcome, reason: str, stamp: Stamp) -> AuditEvent:
    """An event about a session that nobody caused."""
    return AuditEvent(
        id=stamp.id,
        at=stamp.at,
        type=kind,
        outcome=outcome,
        actor="system",
        person=session.person,
        credential=session.credential.id,
        source=session.source.host,
        connection=session.connection,
        session=session.id,
        login=session.login,
        namespace=session.target.namespace,
        pod=session.target.pod,
        container=session.target.container,
        reason=reason,
    )


class _Place(TypedDict, total=False):
    namespace: str
    pod: str
    container: str


def _place(text: str) -> _Place:
    """Where a login leads, as far as it says, for events about a target that was not reached."""
    try:
        where = login.parse(text)
    except BastionError:
        return {}
    if isinstance(where, ConsoleLogin):
        return {}
    return {"namespace": where.namespace, "pod": where.name, "container": where.container}
