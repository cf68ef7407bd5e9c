"""Namespaces as they come and go: nothing new is made in one that ends; used by objects and controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion.localcluster import kinds, podspec, statuses

if TYPE_CHECKING:
    from bastion.localcluster.kinds import Kind
    from bastion.localcluster.store import Object, Store

DEFAULT_ACCOUNT = "default"


def active(value: Object) -> Object:
    """A new namespace, with what an API server adds."""
    metadata = value["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    metadata = {**metadata, "labels": labels}
    return {**value, "metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def terminate(store: Store, value: Object) -> Object:
    """Let a namespace end: it goes when everything in it has gone. Returns it."""
    if podspec.is_deleting(value):
        return value
    ending = {"metadata": {**value["metadata"], "deletionTimestamp": store.now()}, "status": {"phase": "Terminating"}}
    return store.replace(kinds.NAMESPACE, {**value, **ending})


def require_open(store: Store, kind: Kind, namespace: str, name: str) -> None:
    """Raise ApiError unless something can be made there: 404 without such a namespace, 403 if it ends."""
    found = store.get(kinds.NAMESPACE, "", namespace)
    if found is None:
        raise statuses.not_found(kinds.NAMESPACE, namespace)
    if podspec.is_deleting(found):
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise statuses.forbidden(f'{kind.qualified} "{name}" is forbidden: {why}', kind.details(name))


def see_to(store: Store) -> list[Object]:
    """Give each namespace its account, and take away those that end; returns the pods that go with them."""
    doomed: list[Object] = []
    for namespace in store.list(kinds.NAMESPACE):
        name = namespace["metadata"]["name"]
        if podspec.is_deleting(namespace):
            doomed += _empty(store, namespace)
        elif store.get(kinds.SERVICE_ACCOUNT, name, DEFAULT_ACCOUNT) is None:
            store.create(kinds.SERVICE_ACCOUNT, service_account(name, DEFAULT_ACCOUNT))
    return doomed


def service_account(namespace: str, name: str) -> Object:
    """A ServiceAccount."""
    metadata = {"name": name, "namespace": namespace}
    return {"kind": kinds.SERVICE_ACCOUNT.name, "apiVersion": "v1", "metadata": metadata}


def _empty(store: Store, namespace: Object) -> list[Object]:
    name = namespace["metadata"]["name"]
    pods = store.list(kinds.POD, name)
    for kind in kinds.KINDS:
        if kind.namespaced and kind is not kinds.POD:
            for value in store.list(kind, name):
                store.delete(kind, value)
    if not pods:
        store.delete(kinds.NAMESPACE, namespace)
    return [pod for pod in pods if not podspec.is_deleting(pod)]
