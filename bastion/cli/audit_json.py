"""What the record says as JSON-able objects, with the same keys everywhere; used by cli.audit_lists and its like."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from bastion.cli import output

if TYPE_CHECKING:
    from datetime import datetime

    from bastion.integrity import Verdict
    from bastion.store.views import CommandView, EventView, SessionView
    from bastion.wire.transcript import Frame


def dump(value: dict[str, Any]) -> str:
    """One line of ASCII: nothing in it can act on a terminal."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def time(at: datetime | None) -> str | None:
    """A time as it is printed, null where there is none."""
    return None if at is None else output.rfc3339(at)


def text(data: bytes) -> dict[str, str]:
    """Bytes as `text`; if they are not UTF-8, lossily, and exactly in `text_base64`."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"text": data.decode(errors="replace"), "text_base64": base64.b64encode(data).decode()}


def session(view: SessionView) -> dict[str, Any]:
    """A session; what is not known is null. One that was cut off ended between `ended_after` and `ended_before`."""
    record, end = view.record, view.end
    return {
        "id": record.id,
        "session": record.id,
        "connection": record.connection,
        "person": record.person,
        "credential": record.credential.id,
        "source": str(record.source),
        "login": record.login,
        "namespace": record.target.namespace,
        "pod": record.target.pod,
        "pod_uid": record.target.pod_uid,
        "container": record.target.container,
        "node": record.target.node,
        "action": record.action.value,
        "role": record.role,
        "rule": record.rule,
        "reason": record.reason,
        "policy_digest": record.policy_digest,
        "term": record.pty.term if record.pty else None,
        "size": str(record.pty.size) if record.pty else None,
        "refused_env": list(record.refused_env),
        "record_input": record.record_input,
        "started_at": time(record.started_at),
        "ended_at": time(view.ended_at),
        "ended_after": time(end.ended_at) if end and view.found_at else None,
        "ended_before": time(view.found_at),
        "status": end.status if end else None,
        "outcome": end.outcome.value if end else None,
        "end_reason": end.reason if end else None,
        "bytes_in": view.bytes_in,
        "bytes_out": view.bytes_out,
        "complete": end.complete if end else None,
    }


def command(view: CommandView) -> dict[str, Any]:
    """A command; `source` says how it is known."""
    record = view.record
    return {
        "id": record.id,
        "session": record.session,
        "seq": record.seq,
        "person": view.person,
        "credential": view.credential,
        "namespace": view.namespace,
        "pod": view.pod,
        "container": view.container,
        "action": view.action.value,
        "rule": view.rule,
        "kind": record.kind,
        "source": record.source,
        **text(record.text),
        "started_at": time(record.started_at),
        "ended_at": time(view.ended_at),
        "status": view.end.status if view.end else None,
    }


def event(view: EventView) -> dict[str, Any]:
    """An event; what does not apply is empty."""
    record = view.record
    return {
        "id": record.id,
        "at": time(record.at),
        "type": record.type,
        "outcome": record.outcome.value,
        "actor": record.actor,
        "person": record.person,
        "credential": record.credential,
        "source": record.source,
        "connection": record.connection,
        "session": record.session,
        "login": record.login,
        "namespace": record.namespace,
        "pod": record.pod,
        "container": record.container,
        "action": record.action,
        "rule": record.rule,
        "reason": record.reason,
        "detail": dict(record.detail),
    }


def verdict(found: Verdict) -> dict[str, Any]:
    """What became of verifying a chain."""
    return {
        "intact": found.intact,
        "links": found.head.length,
        "head": found.head.hash.hex(),
        "broken": str(found.broken) if found.broken else None,
    }


def frame(value: Frame) -> dict[str, Any]:
    """A frame of a transcript; `at_us` is microseconds since the session's start."""
    return {"at_us": value.at_us, "kind": value.kind.name.lower(), **text(value.data)}
