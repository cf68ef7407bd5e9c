"""`ssh bastion pods`: the pods that a person may know of, as a table or as JSON (pure); used by console.commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion.console import podstatus, quantities, tables
from bastion.console.tables import Column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bastion.console.reach import Reached
    from bastion.console.selectors import Selector
    from bastion.console.tables import Paper

_COLUMNS = (
    Column("NAMESPACE", least=9),
    Column("NAME", least=12),
    Column("READY", rank=2),
    Column("STATUS", least=9),
    Column("RESTARTS", rank=4),
    Column("AGE", rank=3),
    Column("CONTAINERS", least=12, rank=5),
    Column("LOGIN", folds=True, rank=1),
)


def chosen(pods: Sequence[Reached], namespace: str, selector: Selector) -> list[Reached]:
    """Those in a namespace ("" is any) that a selector selects."""
    return [one for one in pods if namespace in {"", one.pod.namespace} and selector.selects(one.pod.labels)]


def table(pods: Sequence[Reached], now: datetime, paper: Paper) -> bytes:
    """For people; a login for each container where there are several."""
    return tables.text(tables.table(_COLUMNS, (_row(one, now) for one in pods), paper), paper)


def json_lines(pods: Sequence[Reached], paper: Paper) -> bytes:
    """For programs: an object for each pod."""
    return tables.json_lines((_object(one) for one in pods), paper)


def _row(one: Reached, now: datetime) -> tuple[str, ...]:
    pod = one.pod
    return (
        pod.namespace,
        pod.name,
        podstatus.ready(pod),
        podstatus.status(pod),
        str(podstatus.restarts(pod)),
        quantities.age(pod.created, now),
        ",".join(container.name for container in one.containers),
        " ".join(str(one.login(container)) for container in one.containers),
    )


def _object(one: Reached) -> dict[str, object]:
    pod = one.pod
    return {
        "namespace": pod.namespace,
        "pod": pod.name,
        "ready": podstatus.ready(pod),
        "status": podstatus.status(pod),
        "restarts": podstatus.restarts(pod),
        "created_at": quantities.rfc3339(pod.created),
        "labels": dict(pod.labels),
        "containers": [
            {"container": container.name, "login": str(one.login(container))} for container in one.containers
        ],
    }
