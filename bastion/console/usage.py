"""`ssh bastion top`: what the containers of a pod use, as a table or as JSON (pure); used by console.looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.console import quantities, tables
from bastion.console.tables import Column

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from bastion.console.tables import Paper

    Object = Mapping[str, Any]
    """What the API serves, as its JSON."""

_COLUMNS = (Column("POD", least=12, rank=1), Column("CONTAINER", least=8), Column("CPU"), Column("MEMORY"))


def table(usage: Object, containers: Collection[str], paper: Paper) -> bytes:
    """For people, in the units of kubectl."""
    pod = str(usage["metadata"]["name"])
    rows = (
        (pod, str(one["name"]), quantities.millicores(_used(one, "cpu")), quantities.mebibytes(_used(one, "memory")))
        for one in _of(usage, containers)
    )
    return tables.text(tables.table(_COLUMNS, rows, paper), paper)


def json_lines(usage: Object, containers: Collection[str], paper: Paper) -> bytes:
    """For programs: an object for each container, in cores and bytes."""
    rows = (
        {
            "namespace": usage["metadata"]["namespace"],
            "pod": usage["metadata"]["name"],
            "container": one["name"],
            "cpu_cores": float(quantities.amount(_used(one, "cpu"))),
            "memory_bytes": int(quantities.amount(_used(one, "memory"))),
            "at": quantities.rfc3339(str(usage.get("timestamp") or "")),
        }
        for one in _of(usage, containers)
    )
    return tables.json_lines(rows, paper)


def _of(usage: Object, containers: Collection[str]) -> Iterator[Object]:
    return (one for one in usage["containers"] if one["name"] in containers)


def _used(container: Object, what: str) -> str:
    return str(container["usage"].get(what) or "0")
