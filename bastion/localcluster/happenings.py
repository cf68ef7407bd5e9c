"""Event objects: what happened to a pod, for `kubectl describe`; written by kubelet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds, podspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.localcluster.store import Object, Store

MOST = 1000
"""Events that are kept; the oldest go first. A real cluster forgets them after an hour."""


class Happenings:
    """Records events. new_suffix: 16 hexadecimal digits that grow, for names."""

    def __init__(self, store: Store, new_suffix: Callable[[], str]) -> None:
        self._store = store
        self._new_suffix = new_suffix

    def scheduled(self, pod: Object) -> None:
        """A pod has a node (shape recorded in events-list)."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        at = self._store.now().replace("Z", ".000000Z")
        parts: dict[str, Any] = {
            "reason": "Scheduled",
            "message": f"Successfully assigned {namespace}/{name} to {podspec.NODE}",
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "type": "Normal",
            "eventTime": at,
            "action": "Binding",
            "reportingComponent": "default-scheduler",
            "reportingInstance": f"default-scheduler-{podspec.NODE}",
        }
        self._add(pod, parts)

    def kubelet(self, pod: Object, reason: str, message: str, *, container: str = "", warning: bool = False) -> None:
        """Something that the node did for a pod, or for one container of it (shape recorded in events-list)."""
        at = self._store.now()
        parts = {
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": podspec.NODE},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "type": "Warning" if warning else "Normal",
            "eventTime": None,
            "reportingComponent": "kubelet",
            "reportingInstance": podspec.NODE,
        }
        self._add(pod, parts, f"spec.containers{{{container}}}" if container else "")

    def _add(self, pod: Object, parts: dict[str, Any], field_path: str = "") -> None:
        metadata = pod["metadata"]
        involved = {
            "kind": kinds.POD.name,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": "v1",
            "resourceVersion": metadata["resourceVersion"],
        }
        if field_path:
            involved["fieldPath"] = field_path
        name = f"{metadata['name']}.{self._new_suffix()}"
        self._store.create(
            kinds.EVENT,
            {
                "kind": kinds.EVENT.name,
                "apiVersion": "v1",
                "metadata": {"name": name, "namespace": metadata["namespace"]},
                "involvedObject": involved,
                **parts,
            },
        )
        events = self._store.list(kinds.EVENT)
        if len(events) > MOST:
            oldest = min(events, key=lambda one: int(one["metadata"]["resourceVersion"]))
            self._store.delete(kinds.EVENT, oldest)
