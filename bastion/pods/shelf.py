"""Objects of one kind, found at once by name and by owner; filled by pods.listwatch, asked by pods.catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bastion.podfacts import Owner


class Item(Protocol):
    """What can be kept: an object with a name, and perhaps with an owner."""

    @property
    def namespace(self) -> str:
        """Where it is."""

    @property
    def name(self) -> str:
        """What it is called there."""

    @property
    def owner(self) -> Owner | None:
        """Its controller."""


Kept = TypeVar("Kept", bound=Item)


class Shelf(Generic[Kept]):
    """The newest that is known of each object. Order is that of arrival."""

    def __init__(self, changed: Callable[[str, str, Kept | None], None]) -> None:
        """`changed` is told the namespace and name of what changed and what it is now, None if it is gone."""
        self._changed = changed
        self._by_name: dict[str, dict[str, Kept]] = {}
        self._by_owner: dict[str, dict[tuple[str, str], Kept]] = {}

    def get(self, namespace: str, name: str) -> Kept | None:
        """The one of that name."""
        return self._by_name.get(namespace, {}).get(name)

    def all(self, namespace: str | None) -> list[Kept]:
        """Everything in a namespace, or (None) in all of them."""
        if namespace is not None:
            return list(self._by_name.get(namespace, {}).values())
        return [item for items in self._by_name.values() for item in items.values()]

    def owned_by(self, uid: str) -> list[Kept]:
        """Those that an object controls."""
        return list(self._by_owner.get(uid, {}).values())

    @property
    def namespaces(self) -> list[str]:
        """Where there is anything."""
        return list(self._by_name)

    def put(self, item: Kept) -> None:
        """Keep what is newer than whatever was known of that name."""
        known = self.get(item.namespace, item.name)
        if item == known:
            return
        if known is not None:
            self._disown(known)
        self._by_name.setdefault(item.namespace, {})[item.name] = item
        if item.owner is not None:
            self._by_owner.setdefault(item.owner.uid, {})[item.namespace, item.name] = item
        self._changed(item.namespace, item.name, item)

    def remove(self, namespace: str, name: str) -> None:
        """Forget what is gone; it may not have been known."""
        items = self._by_name.get(namespace, {})
        item = items.pop(name, None)
        if item is None:
            return
        if not items:
            del self._by_name[namespace]
        self._disown(item)
        self._changed(namespace, name, None)

    def keep_only(self, namespace: str | None, present: Collection[tuple[str, str]]) -> None:
        """Forget what is not among these namespaces and names, in one namespace or (None) in all of them."""
        for item in self.all(namespace):
            if (item.namespace, item.name) not in present:
                self.remove(item.namespace, item.name)

    def _disown(self, item: Kept) -> None:
        if item.owner is None:
            return
        siblings = self._by_owner.get(item.owner.uid, {})
        siblings.pop((item.namespace, item.name), None)
        if not siblings:
            self._by_owner.pop(item.owner.uid, None)
