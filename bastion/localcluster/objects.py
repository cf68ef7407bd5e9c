"""Objects of all kinds: get, list, watch, create, update, patch and delete; used by api."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.localcluster import (
    kinds,
    listing,
    namespaces,
    patches,
    places,
    podspec,
    rbac,
    statuses,
    tables,
    validation,
    watching,
    workloads,
)
from bastion.localcluster.bodies import read_grace, read_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.localcluster.http import Request, Response
    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.places import Place
    from bastion.localcluster.rbac import User
    from bastion.localcluster.store import Object, Store

_KEPT = (
    "uid",
    "creationTimestamp",
    "name",
    "namespace",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


class Objects:
    """Everything in the store.

    new_suffix: five characters for objects that bring only the beginning of a name.
    bookmarks_every_s: how often a watch that wants bookmarks gets one.
    """

    def __init__(
        self, *, store: Store, kubelet: Kubelet, new_suffix: Callable[[], str], bookmarks_every_s: float
    ) -> None:
        self._store = store
        self._kubelet = kubelet
        self._new_suffix = new_suffix
        self._bookmarks_every_s = bookmarks_every_s

    async def handle(self, request: Request, place: Place, user: User) -> Response:
        """The answer. Raises ApiError."""
        match request.method, bool(place.name):
            case "GET", _:
                return self._read(request, place, user)
            case "POST", False if place.namespace or not place.kind.namespaced:
                self._require(place, user, "create")
                return self._create(request, place)
            case "PUT", True:
                self._require(place, user, "update")
                return statuses.answer(self.update(place, read_object(request)))
            case "PATCH", True:
                self._require(place, user, "patch")
                return statuses.answer(self.update(place, patches.apply(self.get(place), request)))
            case "DELETE", True:
                self._require(place, user, "delete")
                return statuses.answer(await self._delete(request, place))
            case _:
                raise statuses.method_not_allowed()

    def get(self, place: Place) -> Object:
        """The object of a place. Raises ApiError: 404."""
        found = self._store.get(place.kind, place.namespace, place.name)
        if found is None:
            raise statuses.not_found(place.kind, place.name)
        return found

    def update(self, place: Place, given: Object) -> Object:
        """Put a new state in the place of the old; status and what a server sets stay. Raises ApiError: 409."""
        old = self.get(place)
        version = given["metadata"].get("resourceVersion")
        if version not in (None, "", old["metadata"]["resourceVersion"]):
            raise statuses.conflict(place.kind, place.name)
        metadata = {**given["metadata"], **{key: old["metadata"][key] for key in _KEPT if key in old["metadata"]}}
        changed = {**given, "kind": old["kind"], "apiVersion": old["apiVersion"], "metadata": metadata}
        if "status" in old:
            changed["status"] = old["status"]
        validation.check(place.kind, changed)
        if changed.get("spec") != old.get("spec") and "generation" in metadata:
            metadata["generation"] = old["metadata"]["generation"] + 1
        return self._store.replace(place.kind, changed)

    def _read(self, request: Request, place: Place, user: User) -> Response:
        if place.name:
            self._require(place, user, "get")
            return self._shown(request, place, self.get(place))
        if request.flag("watch"):
            self._require(place, user, "watch")
            return watching.watch(self._store, place, request, self._bookmarks_every_s)
        self._require(place, user, "list")
        found = listing.list_objects(self._store, place.kind, place.namespace, request)
        return self._shown(request, place, found)

    def _create(self, request: Request, place: Place) -> Response:
        given = read_object(request)
        metadata: dict[str, Any] = {**given["metadata"]}
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{self._new_suffix()}"
        if place.kind.namespaced:
            namespaces.require_open(self._store, place.kind, place.namespace, str(metadata.get("name")))
            metadata["namespace"] = place.namespace
        if self._store.get(place.kind, place.namespace, str(metadata.get("name"))) is not None:
            raise statuses.already_exists(place.kind, metadata["name"])
        value = {**given, "kind": place.kind.name, "apiVersion": place.kind.api_version, "metadata": metadata}
        validation.check(place.kind, value)
        created = self._store.create(place.kind, _completed(place.kind, value))
        return statuses.answer(created, HTTPStatus.CREATED)

    async def _delete(self, request: Request, place: Place) -> Object:
        value = self.get(place)
        if place.kind is kinds.POD:
            return await self._kubelet.delete(value, read_grace(request))
        if place.kind is kinds.NAMESPACE:
            return namespaces.terminate(self._store, value)
        self._store.delete(place.kind, value)
        details = {**place.kind.details(place.name), "uid": value["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _shown(self, request: Request, place: Place, value: Object) -> Response:
        if not tables.wanted(request):
            return statuses.answer(value)
        return statuses.answer(tables.table(place.kind, value, self._store.time()))

    def _require(self, place: Place, user: User, verb: str) -> None:
        rbac.require(self._store, user, places.attributes(place, verb))


def _completed(kind: kinds.Kind, value: Object) -> Object:
    """A new object with what an API server adds."""
    if kind is kinds.POD:
        return podspec.pending(value)
    if kind is kinds.NAMESPACE:
        return namespaces.active(value)
    return workloads.completed(kind, value) if kind in workloads.KINDS else value
