"""Values to rows and back; used by store.writer, store.access and store.reader.

A row that is to be written is a table and its values without the columns of
the chain, which store.chains adds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bastion.model import Action, Credential, Outcome, Pty, Source, Target, WindowSize
from bastion.records import AuditEvent, Chunk, CommandEnd, CommandRecord, ConnectionRecord, SessionEnd, SessionRecord
from bastion.store import schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Table

    from bastion.integrity import Fact

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Row:
    """A row to be written."""

    table: Table
    values: dict[str, Fact]


def to_us(at: datetime) -> int:
    """An aware datetime as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Microseconds since 1970 as an aware UTC datetime."""
    return _EPOCH + us * _MICROSECOND


def storable(text: str) -> str:
    r"""Text that both engines can keep: NUL (PostgreSQL refuses it) and lone surrogates become escapes like `\x00`."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def to_json(value: object) -> str:
    """JSON for a text column: sorted and ASCII, so that its bytes are the same everywhere."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- values to rows ----------------------------------------------------------


def connection_row(record: ConnectionRecord, *, writer: str) -> Row:
    """A connection; a link of the writer's chain."""
    return _row(
        schema.connection,
        id=record.id,
        person=record.person,
        credential_kind=record.credential.kind,
        credential=record.credential.id,
        source_host=record.source.host,
        source_port=record.source.port,
        client_version=record.client_version,
        opened_at=to_us(record.opened_at),
        writer=writer,
    )


def session_row(record: SessionRecord, *, writer: str, writer_name: str) -> Row:
    """A session; the first link of its chain."""
    return _row(
        schema.session,
        id=record.id,
        connection=record.connection,
        person=record.person,
        credential_kind=record.credential.kind,
        credential=record.credential.id,
        source_host=record.source.host,
        source_port=record.source.port,
        login=record.login,
        action=record.action.value,
        namespace=record.target.namespace,
        pod=record.target.pod,
        pod_uid=record.target.pod_uid,
        container=record.target.container,
        node=record.target.node,
        labels=to_json(dict(record.target.labels)),
        role=record.role,
        rule=record.rule,
        reason=record.reason,
        policy_digest=record.policy_digest,
        term=record.pty.term if record.pty else None,
        cols=record.pty.size.cols if record.pty else None,
        rows=record.pty.size.rows if record.pty else None,
        refused_env=to_json(list(record.refused_env)),
        record_input=record.record_input,
        started_at=to_us(record.started_at),
        writer=writer,
        writer_name=writer_name,
    )


def command_row(record: CommandRecord, session: SessionRecord) -> Row:
    """A command of a session; who and where stand in it too."""
    return _row(
        schema.command,
        id=record.id,
        session=record.session,
        seq=record.seq,
        kind=record.kind,
        source=record.source,
        text=record.text,
        started_at=to_us(record.started_at),
        person=session.person,
        namespace=session.target.namespace,
        pod=session.target.pod,
        container=session.target.container,
        action=session.action.value,
    )


def command_end_row(end: CommandEnd, *, session: str) -> Row:
    """The end of a command of that session."""
    return _row(
        schema.command_end, command=end.command, session=session, status=end.status, ended_at=to_us(end.ended_at)
    )


def session_end_row(end: SessionEnd) -> Row:
    """The end of a session."""
    return _row(
        schema.session_end,
        session=end.session,
        status=end.status,
        outcome=end.outcome.value,
        reason=end.reason,
        bytes_in=end.bytes_in,
        bytes_out=end.bytes_out,
        complete=end.complete,
        ended_at=to_us(end.ended_at),
    )


def chunk_row(chunk: Chunk, *, sha256: bytes) -> Row:
    """A run of transcript frames, with the digest by which it stands in the chain."""
    return _row(
        schema.transcript_chunk,
        session=chunk.session,
        seq=chunk.seq,
        t0_us=chunk.t0_us,
        t1_us=chunk.t1_us,
        raw_len=chunk.raw_len,
        codec=chunk.codec,
        data=chunk.data,
        sha256=sha256,
    )


def event_row(event: AuditEvent, *, writer: str) -> Row:
    """An event; a link of the writer's chain."""
    return _row(
        schema.event,
        id=event.id,
        at=to_us(event.at),
        type=event.type,
        outcome=event.outcome.value,
        actor=event.actor,
        person=event.person,
        credential=event.credential,
        source=event.source,
        connection=event.connection,
        session=event.session,
        login=event.login,
        namespace=event.namespace,
        pod=event.pod,
        container=event.container,
        action=event.action,
        rule=event.rule,
        reason=event.reason,
        detail=to_json(dict(event.detail)),
        writer=writer,
    )


def _row(table: Table, **values: Fact) -> Row:
    return Row(table, {name: storable(value) if isinstance(value, str) else value for name, value in values.items()})


# --- rows to values ----------------------------------------------------------


def session_of(row: Mapping[str, Any]) -> SessionRecord:
    """A session from its columns."""
    size = None if row["cols"] is None else WindowSize(cols=row["cols"], rows=row["rows"])
    return SessionRecord(
        id=row["id"],
        connection=row["connection"],
        person=row["person"],
        credential=Credential(kind=row["credential_kind"], id=row["credential"]),
        source=Source(host=row["source_host"], port=row["source_port"]),
        login=row["login"],
        action=Action(row["action"]),
        target=Target(
            namespace=row["namespace"],
            pod=row["pod"],
            pod_uid=row["pod_uid"],
            container=row["container"],
            labels=json.loads(row["labels"]),
            node=row["node"],
        ),
        role=row["role"],
        rule=row["rule"],
        reason=row["reason"],
        policy_digest=row["policy_digest"],
        pty=None if size is None else Pty(term=row["term"], size=size),
        refused_env=tuple(json.loads(row["refused_env"])),
        record_input=row["record_input"],
        started_at=from_us(row["started_at"]),
    )


def session_end_of(row: Mapping[str, Any]) -> SessionEnd:
    """The end of a session from its columns."""
    return SessionEnd(
        session=row["session"],
        status=row["status"],
        outcome=Outcome(row["outcome"]),
        reason=row["reason"],
        bytes_in=row["bytes_in"],
        bytes_out=row["bytes_out"],
        complete=row["complete"],
        ended_at=from_us(row["ended_at"]),
    )


def command_of(row: Mapping[str, Any]) -> CommandRecord:
    """A command from its columns."""
    return CommandRecord(
        id=row["id"],
        session=row["session"],
        seq=row["seq"],
        kind=row["kind"],
        source=row["source"],
        text=row["text"],
        started_at=from_us(row["started_at"]),
    )


def chunk_of(row: Mapping[str, Any]) -> Chunk:
    """A run of transcript frames from its columns."""
    return Chunk(
        session=row["session"],
        seq=row["seq"],
        t0_us=row["t0_us"],
        t1_us=row["t1_us"],
        raw_len=row["raw_len"],
        codec=row["codec"],
        data=row["data"],
    )


def event_of(row: Mapping[str, Any]) -> AuditEvent:
    """An event from its columns."""
    return AuditEvent(
        id=row["id"],
        at=from_us(row["at"]),
        type=row["type"],
        outcome=Outcome(row["outcome"]),
        actor=row["actor"],
        person=row["person"],
        credential=row["credential"],
        source=row["source"],
        connection=row["connection"],
        session=row["session"],
        login=row["login"],
        namespace=row["namespace"],
        pod=row["pod"],
        container=row["container"],
        action=row["action"],
        rule=row["rule"],
        reason=row["reason"],
        detail=json.loads(row["detail"]),
    )
