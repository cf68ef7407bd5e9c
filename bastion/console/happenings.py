"""`ssh bastion events`: what happened to a pod, as a table or as JSON (pure); used by console.looks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bastion.console import quantities, tables
from bastion.console.tables import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from bastion.console.reach import Reached
    from bastion.console.tables import Paper

    Object = Mapping[str, Any]
    """What the API serves, as its JSON."""

_COLUMNS = (
    Column("LAST SEEN"),
    Column("TYPE", rank=2),
    Column("REASON"),
    Column("COUNT", rank=1),
    Column("MESSAGE", least=12, folds=True),
)
_CONTAINER = re.compile(r"spec\.\w+\{(.+)\}", re.ASCII)


def shown(events: Iterable[Object], seen: Reached, container: str = "") -> list[Object]:
    """Those about a pod as a whole and about its containers, or one of them, to a person who sees it so.

    The oldest first. What is about the pod may speak of a container that is hidden; it is shown without its message.
    """
    about, is_all = {None, *seen.names(container)}, not (seen.hidden or container)
    found = [_told(event, seen) for event in events if is_all or _container(event) in about]
    return sorted(found, key=lambda event: quantities.rfc3339(_last_seen(event)) or "")


def table(events: Sequence[Object], now: datetime, paper: Paper) -> list[str]:
    """For people. Messages go on in more lines: their end is what matters as often as their beginning."""
    return tables.table(_COLUMNS, (_row(event, now) for event in events), paper)


def objects(events: Sequence[Object]) -> list[dict[str, object]]:
    """For programs: an object for each event."""
    return [
        {
            "at": quantities.rfc3339(_last_seen(event)),
            "first_at": quantities.rfc3339(_first_seen(event)),
            "namespace": event["involvedObject"].get("namespace"),
            "pod": event["involvedObject"].get("name"),
            "container": _container(event),
            "type": event.get("type"),
            "reason": event.get("reason"),
            "count": _count(event),
            "source": _source(event),
            "text": event.get("message"),
        }
        for event in events
    ]


def _told(event: Object, seen: Reached) -> Object:
    return {**event, "message": seen.said(str(event.get("message") or ""))}


def _row(event: Object, now: datetime) -> tuple[str, ...]:
    return (
        quantities.age(_last_seen(event), now),
        str(event.get("type") or ""),
        str(event.get("reason") or ""),
        str(_count(event)),
        str(event.get("message") or "").strip(),
    )


def _container(event: Object) -> str | None:
    """The container that an event is about, None if it is about the pod; of any other part of it, the path.

    The kubelet writes spec.containers{app}, and "implicitly required container POD" of what is in no spec.
    """
    path: str = event["involvedObject"].get("fieldPath") or ""
    found = _CONTAINER.fullmatch(path)
    return found[1] if found else path or None


def _last_seen(event: Object) -> str:
    """When it happened last; a series, and an event of the newer API, say so in fields of their own (recorded)."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next(filter(None, times), event["metadata"].get("creationTimestamp") or ""))


def _first_seen(event: Object) -> str:
    return str(
        event.get("firstTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
    )


def _count(event: Object) -> int:
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


def _source(event: Object) -> str:
    return str(event.get("reportingComponent") or (event.get("source") or {}).get("component") or "")
