"""Pods and workloads as the API's JSON, with what a test says of them; used by the tests of discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Object = dict[str, Any]

RUNNING: Object = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "ready": True}


def waiting(reason: str, message: str = "", **more: Any) -> Object:
    """The status of a container that waits."""
    return {"state": {"waiting": {"reason": reason, **({"message": message} if message else {})}}, **more}


def terminated(reason: str, exit_code: int, **more: Any) -> Object:
    """The status of a container that has ended."""
    return {"state": {"terminated": {"reason": reason, "exitCode": exit_code}}, **more}


def owned_by(uid: str, kind: str = "ReplicaSet") -> list[Object]:
    """The ownerReferences of what a controller made."""
    return [{"apiVersion": "apps/v1", "kind": kind, "name": "owner", "uid": uid, "controller": True}]


def pod(  # noqa: PLR0913 - what tests vary
    name: str,
    *,
    containers: dict[str, Object] | None = None,
    init: dict[str, Object] | None = None,
    ephemeral: dict[str, Object] | None = None,
    phase: str = "Running",
    ready: bool = True,
    owner: str = "",
    namespace: str = "shop",
    metadata: Object | None = None,
    status: Object | None = None,
) -> Object:
    """A pod; `containers`, `init` and `ephemeral` are names and statuses ({} is a container without a status)."""
    lists = (
        ("containers", "containerStatuses", containers if containers is not None else {"app": RUNNING}),
        ("initContainers", "initContainerStatuses", init or {}),
        ("ephemeralContainers", "ephemeralContainerStatuses", ephemeral or {}),
    )
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": {"app": "api"},
            **({"ownerReferences": owned_by(owner)} if owner else {}),
            **(metadata or {}),
        },
        "spec": {"nodeName": "node-1", **{specs: [{"name": one} for one in those] for specs, _, those in lists}},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            **{key: [{"name": one, **said} for one, said in those.items() if said] for _, key, those in lists},
            **(status or {}),
        },
    }


def template(
    *, labels: dict[str, str] | None = None, containers: Sequence[str] = ("app",), init: Sequence[str] = (), **spec: Any
) -> Object:
    """What a workload makes its pods of; `labels` beside `app: api`, and `spec` goes into the pods' spec."""
    lists = {"containers": containers, "initContainers": init}
    named = {key: [{"name": one} for one in those] for key, those in lists.items()}
    return {"metadata": {"labels": {"app": "api", **(labels or {})}}, "spec": {**named, **spec}}


def workload(  # noqa: PLR0913 - what tests vary
    name: str,
    uid: str,
    *,
    owner: str = "",
    namespace: str = "shop",
    replicas: int = 2,
    makes: Object | None = None,
    **more: Any,
) -> Object:
    """A workload of any kind that selects what is labelled `app: api`; `makes` is its template, `more` its metadata."""
    owners = {"ownerReferences": owned_by(owner, "Deployment")} if owner else {}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "1", **owners, **more},
        "spec": {
            "selector": {"matchLabels": {"app": "api"}},
            "replicas": replicas,
            "template": template() if makes is None else makes,
        },
    }
