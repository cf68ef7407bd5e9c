"""Objects in memory, each with a resourceVersion, and what changed lately; used by every part that knows of objects.

Objects are JSON-able dicts and are replaced, never changed in place. Every change goes through `_changed`, which gives
the next resourceVersion and wakes whoever waits.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bastion.localcluster.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bastion.localcluster.kinds import Kind

Object = dict[str, Any]

REMEMBERED = 4096
"""Changes that can still be watched; whoever comes with an older version has to list again."""


def timestamp(at: datetime) -> str:
    """A time as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object before and after; None is "was not there". `version` is the resourceVersion that it made."""

    version: int
    kind: Kind
    old: Object | None
    new: Object | None


class TooOldError(Exception):
    """A version whose changes are forgotten; `oldest` is the first that is remembered."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"the oldest version is {oldest}")
        self.oldest = oldest


class Store:
    """All objects of the cluster."""

    def __init__(self, *, now: Callable[[], datetime], new_uid: Callable[[], str]) -> None:
        self._now = now
        self._new_uid = new_uid
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {}
        self._changes: deque[Change] = deque()
        self._forgotten = 0
        self._bell = Bell()
        self.version = 0

    def now(self) -> str:
        """The time, as objects carry it."""
        return timestamp(self._now())

    def time(self) -> datetime:
        """The time."""
        return self._now()

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
        own = {"uid": self._new_uid(), "resourceVersion": "", "creationTimestamp": self.now()}
        rest = {key: part for key, part in given.items() if key not in names and key not in own}
        return self._changed(kind, {**value, "metadata": {**names, **own, **rest}})

    def replace(self, kind: Kind, value: Object) -> Object:
        """Put a new state of an object in the place of the old one."""
        return self._changed(kind, value)

    def delete(self, kind: Kind, value: Object) -> Object:
        """Take an object out; returns its last state, which tells of its deletion."""
        self.version += 1
        ended = {"deletionTimestamp": self.now(), "deletionGracePeriodSeconds": 0}
        ended |= {key: value["metadata"][key] for key in ended if key in value["metadata"]}
        last = {**value, "metadata": {**value["metadata"], "resourceVersion": str(self.version), **ended}}
        del self._objects[kind][key_of(last)]
        self._remember(Change(version=self.version, kind=kind, old=last, new=None))
        return last

    def forget_changes(self) -> None:
        """Nobody can watch from before this moment."""
        self._changes.clear()
        self._forgotten = self.version

    def changes(self, after: int) -> tuple[Change, ...]:
        """What changed after a version, oldest first. Raises TooOldError."""
        if after < self._forgotten:
            raise TooOldError(self._forgotten)
        first = len(self._changes)
        while first and self._changes[first - 1].version > after:
            first -= 1
        return tuple(itertools.islice(self._changes, first, None))

    async def wait_changed(self, after: int) -> None:
        """Until there is a version after this one."""
        while self.version <= after:
            await self._bell.wait()

    def _changed(self, kind: Kind, value: Object) -> Object:
        self.version += 1
        stored = {**value, "metadata": {**value["metadata"], "resourceVersion": str(self.version)}}
        objects = self._objects.setdefault(kind, {})
        old = objects.get(key_of(stored))
        objects[key_of(stored)] = stored
        self._remember(Change(version=self.version, kind=kind, old=old, new=stored))
        return stored

    def _remember(self, change: Change) -> None:
        self._changes.append(change)
        if len(self._changes) > REMEMBERED:
            self._forgotten = self._changes.popleft().version
        self._bell.ring()


def key_of(value: Object) -> tuple[str, str]:
    """Namespace ("" if it has none) and name."""
    metadata = value["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
