"""Objects in memory, each with a resourceVersion; used by api, rbac, seed and control.

Objects are JSON-able dicts and are replaced, never changed in place. Every change goes through `_changed`, which gives
the next resourceVersion: that is where a watch would listen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bastion.localcluster.kinds import Kind

Object = dict[str, Any]


def timestamp(at: datetime) -> str:
    """A time as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """All objects of the cluster."""

    def __init__(self, *, now: Callable[[], datetime], new_uid: Callable[[], str]) -> None:
        self._now = now
        self._new_uid = new_uid
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {}
        self.version = 0

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object; namespace is "" for kinds that have none."""
        return self._objects.get(kind, {}).get((namespace, name))

    def list(self, kind: Kind, namespace: str = "") -> list[Object]:
        """All objects of a kind, of one namespace or ("") of all, ordered by namespace and name."""
        found = self._objects.get(kind, {})
        return [found[key] for key in sorted(found) if namespace in ("", key[0])]

    def create(self, kind: Kind, value: Object) -> Object:
        """Add an object; it gets its uid, its time and a version. An object of that name is replaced."""
        given = value["metadata"]
        names = {key: given[key] for key in ("name", "generateName", "namespace") if key in given}
        metadata = {
            **names,
            "uid": self._new_uid(),
            "resourceVersion": "",
            "creationTimestamp": timestamp(self._now()),
            **{key: part for key, part in given.items() if key not in names},
        }
        return self._changed(kind, {**value, "metadata": metadata})

    def replace(self, kind: Kind, value: Object) -> Object:
        """Put a new state of an object in the place of the old one."""
        return self._changed(kind, value)

    def delete(self, kind: Kind, value: Object) -> Object:
        """Take an object out; returns its last state, which tells of its deletion."""
        at = {"deletionTimestamp": timestamp(self._now()), "deletionGracePeriodSeconds": 0}
        last = self._changed(kind, {**value, "metadata": {**value["metadata"], **at}})
        del self._objects[kind][key_of(last)]
        return last

    def _changed(self, kind: Kind, value: Object) -> Object:
        self.version += 1
        metadata = {**value["metadata"], "resourceVersion": str(self.version)}
        stored = {**value, "metadata": metadata}
        self._objects.setdefault(kind, {})[key_of(stored)] = stored
        return stored


def key_of(value: Object) -> tuple[str, str]:
    """Namespace ("" if it has none) and name."""
    metadata = value["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
