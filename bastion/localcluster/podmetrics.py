"""What pods use, as a metrics server tells it (metrics.k8s.io/v1beta1); used by api.

Figures are those of the containers' processes in /proc, over a moment.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, listing, places, podspec, rbac, statuses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.localcluster.http import Request, Response
    from bastion.localcluster.places import Place
    from bastion.localcluster.rbac import User
    from bastion.localcluster.runtime import ContainerName, Runtime
    from bastion.localcluster.store import Object, Store

    Usage = Mapping[ContainerName, tuple[float, int]]

WINDOW_S = 0.2
"""The moment: long enough to see a busy process in steps of 10 ms."""


class PodMetrics:
    """Looks at the pods' processes when it is asked."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store = store
        self._runtime = runtime

    async def handle(self, request: Request, place: Place, user: User) -> Response:
        """The usage of a pod, or of all. Raises ApiError."""
        if request.method != "GET":
            raise statuses.method_not_allowed()
        rbac.require(self._store, user, places.attributes(place, "get" if place.name else "list"))
        selected = listing.matcher(kinds.POD, request)
        pods = [
            pod
            for pod in self._store.list(kinds.POD, place.namespace)
            if place.name in ("", pod["metadata"]["name"]) and podspec.is_ready(pod) and selected(pod)
        ]
        if place.name and not pods:
            raise statuses.not_found(place.kind, f"{place.namespace}/{place.name}")
        before = self._runtime.usage()
        await asyncio.sleep(WINDOW_S)
        after = self._runtime.usage()
        measured = [self._measured(pod, before, after) for pod in pods]
        if place.name:
            return statuses.answer(measured[0])
        head = {"kind": "PodMetricsList", "apiVersion": place.kind.api_version, "metadata": {}}
        return statuses.answer({**head, "items": measured})

    def _measured(self, pod: Object, before: Usage, after: Usage) -> Object:
        metadata = pod["metadata"]
        kept = {key: metadata[key] for key in ("name", "namespace", "labels") if key in metadata}
        containers = []
        for name in sorted(after, key=lambda one: one.container):
            if (name.namespace, name.pod) == (metadata["namespace"], metadata["name"]):
                seconds, memory = after[name]
                used = max(0.0, seconds - before.get(name, (seconds, 0))[0]) / WINDOW_S
                containers.append({"name": name.container, "usage": {"cpu": _nanocores(used), "memory": f"{memory}Ki"}})
        return {
            "kind": kinds.POD_METRICS.name,
            "apiVersion": kinds.POD_METRICS.api_version,
            "metadata": {**kept, "creationTimestamp": self._store.now()},
            "timestamp": self._store.now(),
            "window": f"{WINDOW_S * 1000:.0f}ms",
            "containers": containers,
        }


def _nanocores(cores: float) -> str:
    return f"{cores * 1e9:.0f}n" if cores else "0"
