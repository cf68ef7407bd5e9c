"""A pod's description as a page for people (pure); used by console.looks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bastion.console.reach import WITHHELD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bastion.console.description import Description
    from bastion.console.tables import Paper

_INDENT = 2
_NAMES = 18
"""Characters of the column of names."""


def page(about: Description, events: Sequence[str]) -> list[str]:
    """The page, what happened (lines of a table, or why they are not there) at its end."""
    return [*_pod(about), *_all_containers(about), *_rest(about), "Events:", *_moved(events, 1)]


def indented(paper: Paper) -> Paper:
    """What the lines about what happened are written on."""
    return replace(paper, cols=max(1, paper.cols - _INDENT) if paper.cols else None)


def _pod(about: Description) -> Iterator[str]:
    yield from _fields(
        {
            "Name": about["pod"],
            "Namespace": about["namespace"],
            "UID": about["uid"],
            "Priority": about["priority"],
            "Service Account": about["service_account"],
            "Node": about["node"],
            "Created": about["created_at"],
            "Deleted": about["deleted_at"],
        }
    )
    yield from _listed("Labels", [f"{name}={value}" for name, value in about["labels"].items()])
    annotations = [f"{name}: {value}" for name, value in about["annotations"].items()]
    annotations += [f"{name}: {WITHHELD}" for name in about["annotations_withheld"]]
    yield from _listed("Annotations", annotations)
    yield from _fields(
        {
            "Status": about["status"],
            "Reason": about["reason"],
            "Message": about["message"],
            "IP": about["ip"],
            "Controlled By": about["controlled_by"],
        }
    )


def _all_containers(about: Description) -> Iterator[str]:
    headings = {
        "init container": "Init Containers",
        "container": "Containers",
        "ephemeral container": "Ephemeral Containers",
    }
    for kind, heading in headings.items():
        found = [one for one in about["containers"] if one["kind"] == kind]
        if found:
            yield f"{heading}:"
        for one in found:
            yield f"{' ' * _INDENT}{one['container']}:"
            yield from _moved(list(_container(one)), 2)


def _container(one: Description) -> Iterator[str]:
    yield from _fields({"Container ID": one["id"], "Image": one["image"], "Image ID": one["image_id"]})
    yield from _fields({"Ports": ", ".join(one["ports"])})
    yield from _state("State", one["state"])
    yield from _state("Last State", one["last_state"])
    yield from _fields({"Ready": str(one["ready"]), "Restart Count": one["restarts"]})
    for name in ("limits", "requests"):
        yield from _fields({name.capitalize(): ", ".join(f"{what} {much}" for what, much in one[name].items())})
    variables = [
        f"{variable['name']} ({'from ' + variable['from'] if variable['from'] else 'set'})"
        for variable in one["environment"]
    ]
    yield from _listed(
        "Environment", [*variables, *(f"all of {source}" for source in one["environment_from"] if source)]
    )
    yield from _listed(
        "Mounts",
        [f"{mount['path']} from {mount['volume']} ({'ro' if mount['read_only'] else 'rw'})" for mount in one["mounts"]],
    )


def _state(name: str, state: Description | None) -> Iterator[str]:
    if state is None:
        return
    yield from _fields({name: state["state"].capitalize()})
    more = {
        "Reason": state["reason"],
        "Message": state["message"],
        "Exit Code": state["status"],
        "Started": state["started_at"],
        "Finished": state["ended_at"],
    }
    yield from _moved(list(_fields(more, _NAMES - _INDENT)), 1)


def _rest(about: Description) -> Iterator[str]:
    yield from _listed("Conditions", [f"{name}: {value}" for name, value in about["conditions"].items()])
    yield from _listed(
        "Volumes",
        [
            f"{one['volume']}: {one['kind']}{' ' + one['refers_to'] if one['refers_to'] else ''}"
            for one in about["volumes"]
        ],
    )
    yield from _fields({"QoS Class": about["qos"]})
    yield from _listed("Node-Selectors", [f"{name}={value}" for name, value in about["node_selector"].items()])
    yield from _listed("Tolerations", about["tolerations"])


def _fields(fields: Mapping[str, object], names: int = _NAMES) -> Iterator[str]:
    """Those that have something to say."""
    return (f"{name + ':':{names}}{value}" for name, value in fields.items() if value not in {None, ""})


def _listed(name: str, values: Sequence[str]) -> Iterator[str]:
    """Values beneath each other."""
    for at, value in enumerate(values or ["<none>"]):
        yield f"{name + ':' if not at else '':{_NAMES}}{value}"


def _moved(lines: Sequence[str], levels: int) -> Iterator[str]:
    return (f"{' ' * _INDENT * levels}{line}" for line in lines)
