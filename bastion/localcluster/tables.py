"""Objects as the tables that `kubectl get` prints; used by objects and watching. Pure.

Columns are those of the API server's printers (Kubernetes, "Receiving resources as Tables").
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds, podcells

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.localcluster.http import Request
    from bastion.localcluster.kinds import Kind
    from bastion.localcluster.store import Object

_NONE = "<none>"


def wanted(request: Request) -> bool:
    """Whether a client would rather have a table."""
    return any("as=Table" in value for value in request.header_values("accept"))


def table(kind: Kind, value: Object, now: datetime) -> Object:
    """A list or an object as a table."""
    columns = _COLUMNS.get(kind, _DEFAULT)
    rows = [value] if value["kind"] == kind.name else value["items"]
    metadata = value["metadata"]
    kept = {key: metadata[key] for key in ("resourceVersion", "continue", "remainingItemCount") if key in metadata}
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": kept,
        "columnDefinitions": [_definition(name, priority) for name, priority, _ in columns],
        "rows": [
            {
                "cells": [cell(one, now) for _, _, cell in columns],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": one["metadata"],
                },
            }
            for one in rows
        ],
    }


def age(since: str, now: datetime) -> str:
    """How long ago, in the two largest units that say something: 45s, 3m20s, 5h, 12d."""
    seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 2:  # noqa: PLR2004 - the thresholds are kubectl's
        return f"{seconds}s"
    if minutes < 10:  # noqa: PLR2004 - as above
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:  # noqa: PLR2004 - as above
        return f"{minutes}m"
    if hours < 8:  # noqa: PLR2004 - as above
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"  # noqa: PLR2004 - as above


def _definition(name: str, priority: int) -> Object:
    kind = {"Name": "name"}.get(name, "")
    return {"name": name, "type": "string", "format": kind, "description": name, "priority": priority}


def _name(value: Object, _now: datetime) -> str:
    return str(value["metadata"]["name"])


def _age(value: Object, now: datetime) -> str:
    return age(value["metadata"]["creationTimestamp"], now)


def _at(*path: str, default: str = _NONE) -> Callable[[Object, datetime], str]:
    def cell(value: Object, _now: datetime) -> str:
        found: Any = value
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        return default if found in (None, "") else str(found)

    return cell


def _ready(value: Object, _now: datetime) -> str:
    return podcells.ready(value)


def _status(value: Object, _now: datetime) -> str:
    return podcells.state(value)


def _restarts(value: Object, now: datetime) -> str:
    count = sum(one["restartCount"] for one in podcells.containers(value))
    ends = [one["lastState"]["terminated"]["finishedAt"] for one in podcells.containers(value) if one["lastState"]]
    return f"{count} ({age(max(ends), now)} ago)" if count and ends else str(count)


def _last_seen(value: Object, now: datetime) -> str:
    seen = value.get("lastTimestamp") or value["metadata"]["creationTimestamp"]
    return age(seen, now)


def _involved(value: Object, _now: datetime) -> str:
    return f"{value['involvedObject']['kind'].lower()}/{value['involvedObject']['name']}"


def _replicas(value: Object, _now: datetime) -> str:
    return f"{value.get('status', {}).get('readyReplicas', 0)}/{value['spec'].get('replicas', 1)}"


def _completions(value: Object, _now: datetime) -> str:
    return f"{value.get('status', {}).get('succeeded', 0)}/{value['spec'].get('completions', 1)}"


def _job_status(value: Object, _now: datetime) -> str:
    ended = value.get("status", {}).get("conditions", [])
    return str(ended[0]["type"]) if ended else "Running"


_DEFAULT = (("Name", 0, _name), ("Age", 0, _age))
_COLUMNS: dict[Kind, tuple[tuple[str, int, Callable[[Object, datetime], str]], ...]] = {
    kinds.POD: (
        ("Name", 0, _name),
        ("Ready", 0, _ready),
        ("Status", 0, _status),
        ("Restarts", 0, _restarts),
        ("Age", 0, _age),
        ("IP", 1, _at("status", "podIP")),
        ("Node", 1, _at("spec", "nodeName")),
        ("Nominated Node", 1, _at("status", "nominatedNodeName")),
        ("Readiness Gates", 1, _at("spec", "readinessGates")),
    ),
    kinds.NAMESPACE: (("Name", 0, _name), ("Status", 0, _at("status", "phase")), ("Age", 0, _age)),
    kinds.EVENT: (
        ("Last Seen", 0, _last_seen),
        ("Type", 0, _at("type")),
        ("Reason", 0, _at("reason")),
        ("Object", 0, _involved),
        ("Message", 0, _at("message", default="")),
    ),
    kinds.DEPLOYMENT: (
        ("Name", 0, _name),
        ("Ready", 0, _replicas),
        ("Up-to-date", 0, _at("status", "updatedReplicas", default="0")),
        ("Available", 0, _at("status", "availableReplicas", default="0")),
        ("Age", 0, _age),
    ),
    kinds.REPLICA_SET: (
        ("Name", 0, _name),
        ("Desired", 0, _at("spec", "replicas", default="0")),
        ("Current", 0, _at("status", "replicas", default="0")),
        ("Ready", 0, _at("status", "readyReplicas", default="0")),
        ("Age", 0, _age),
    ),
    kinds.STATEFUL_SET: (("Name", 0, _name), ("Ready", 0, _replicas), ("Age", 0, _age)),
    kinds.DAEMON_SET: (
        ("Name", 0, _name),
        ("Desired", 0, _at("status", "desiredNumberScheduled", default="0")),
        ("Current", 0, _at("status", "currentNumberScheduled", default="0")),
        ("Ready", 0, _at("status", "numberReady", default="0")),
        ("Up-to-date", 0, _at("status", "updatedNumberScheduled", default="0")),
        ("Available", 0, _at("status", "numberAvailable", default="0")),
        ("Node Selector", 0, _at("spec", "template", "spec", "nodeSelector")),
        ("Age", 0, _age),
    ),
    kinds.JOB: (("Name", 0, _name), ("Status", 0, _job_status), ("Completions", 0, _completions), ("Age", 0, _age)),
}
_COLUMNS[kinds.ROLE_BINDING] = _COLUMNS[kinds.CLUSTER_ROLE_BINDING] = (
    ("Name", 0, _name),
    ("Role", 0, lambda value, _now: f"{value['roleRef']['kind']}/{value['roleRef']['name']}"),
    ("Age", 0, _age),
)
