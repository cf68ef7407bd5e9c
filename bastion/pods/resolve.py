"""From a login to one container of one running pod; used by pods.kube.

A pod's name wins; else the one workload of that name, and of its pods the
first ready one by name, so that the same name leads to the same pod while it
lives. The default container is a rule of the client: the API server refuses an
exec that names none (recorded: exec-container-required).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from bastion.errors import BastionError, Code
from bastion.model import Resolved, Target, TargetLogin
from bastion.pods.api import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.pods.api import Api

    Object = dict[str, Any]
    """What the API serves, as its JSON."""

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

_WORKLOADS = {
    "deploy": ("apps", "deployments"),
    "sts": ("apps", "statefulsets"),
    "ds": ("apps", "daemonsets"),
    "job": ("batch", "jobs"),
}
"""API group (all are v1) and resource of each kind that a login may name."""


class Resolver:
    """Looks names up, as the bastion itself."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def resolve(self, login: TargetLogin) -> Resolved:
        """Find the container. Raises BastionError (TARGET_*, CLUSTER_*)."""
        if not login.kind:
            pod = await self.pod(login.namespace, login.name)
            if pod is not None:
                return Resolved(target=_target(_running(pod), login))
        kind, workload = await self._workload(login)
        pods = await self._pods_of(kind, workload, login.namespace)
        ready = sorted((pod for pod in pods if _is_ready(pod)), key=_name)
        if not ready:
            raise BastionError(
                Code.TARGET_NOT_RUNNING,
                f"{kind}/{login.name} in namespace {login.namespace} has no ready pod (it has {len(pods)})",
            )
        chosen_from = f"{kind}/{login.name}" if len(ready) > 1 else ""
        return Resolved(target=_target(ready[0], login), chosen_from=chosen_from)

    async def pod(self, namespace: str, name: str) -> Object | None:
        """The pod of that name, or None."""
        return await self._found("api", "v1", "namespaces", namespace, "pods", name)

    async def _found(self, *path: str) -> Object | None:
        try:
            return dict(await self._api.get(*path))
        except Refused:
            return None

    async def _list(self, *path: str, selector: str) -> list[Object]:
        try:
            found = await self._api.get(*path, query=[("labelSelector", selector)])
        except Refused:
            return []
        return list(found["items"])

    async def _workload(self, login: TargetLogin) -> tuple[str, Object]:
        kinds = [login.kind] if login.kind else list(_WORKLOADS)
        found = await asyncio.gather(*(self._found(*_path(kind, login)) for kind in kinds))
        choices = [(kind, workload) for kind, workload in zip(kinds, found, strict=True) if workload is not None]
        if len(choices) > 1:
            names = ", ".join(f"{kind}_{login.name}.{login.namespace}" for kind, _ in choices)
            raise BastionError(Code.TARGET_AMBIGUOUS, f"{login.name} is the name of several workloads; say {names}")
        if not choices:
            await self._missing(login)
        return choices[0]

    async def _missing(self, login: TargetLogin) -> NoReturn:
        if await self._found("api", "v1", "namespaces", login.namespace) is None:
            raise BastionError(
                Code.TARGET_MISSING,
                f"there is no namespace {login.namespace}; a login is POD.NAMESPACE"
                " (without one, ssh sends your local user name)",
            )
        what = f"{login.kind}/{login.name}" if login.kind else f"pod or workload {login.name}"
        raise BastionError(Code.TARGET_MISSING, f"there is no {what} in namespace {login.namespace}")

    async def _pods_of(self, kind: str, workload: Object, namespace: str) -> list[Object]:
        owners = {_uid(workload)}
        selector = _selector(workload["spec"]["selector"])
        if kind == "deploy":
            path = ("apis", "apps", "v1", "namespaces", namespace, "replicasets")
            sets = await self._list(*path, selector=selector)
            owners = {_uid(item) for item in sets if _owned(item, owners)}
        pods = await self._list("api", "v1", "namespaces", namespace, "pods", selector=selector)
        return [pod for pod in pods if _owned(pod, owners)]


def is_gone(pod: Object | None, target: Target) -> bool:
    """Whether the pod a target was pinned to is deleted, replaced or being deleted."""
    return pod is None or _uid(pod) != target.pod_uid or _is_being_deleted(pod)


def _path(kind: str, login: TargetLogin) -> tuple[str, ...]:
    group, resource = _WORKLOADS[kind]
    return ("apis", group, "v1", "namespaces", login.namespace, resource, login.name)


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])


def _uid(item: Object) -> str:
    return str(item["metadata"]["uid"])


def _is_being_deleted(pod: Object) -> bool:
    return pod["metadata"].get("deletionTimestamp") is not None


def _owned(item: Object, owners: set[str]) -> bool:
    return any(owner.get("uid") in owners for owner in item["metadata"].get("ownerReferences") or [])


def _selector(selector: Object) -> str:
    """A workload's selector as a label selector query (labels and expressions)."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], f"({','.join(expression.get('values') or [])})"
        match expression["operator"]:
            case "In":
                parts.append(f"{key} in {values}")
            case "NotIn":
                parts.append(f"{key} notin {values}")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)


def _running(pod: Object) -> Object:
    if _is_being_deleted(pod):
        raise BastionError(Code.TARGET_NOT_RUNNING, f"pod {_name(pod)} is being deleted")
    phase = pod.get("status", {}).get("phase")
    if phase != "Running":
        raise BastionError(Code.TARGET_NOT_RUNNING, f"pod {_name(pod)} is not running (its phase is {phase})")
    return pod


def _is_ready(pod: Object) -> bool:
    status = pod.get("status", {})
    return (
        not _is_being_deleted(pod)
        and status.get("phase") == "Running"
        and any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in status.get("conditions") or []
        )
    )


def _target(pod: Object, login: TargetLogin) -> Target:
    metadata, spec = pod["metadata"], pod["spec"]
    return Target(
        namespace=login.namespace,
        pod=_name(pod),
        pod_uid=_uid(pod),
        container=_container(login, [_container_name(one) for one in spec["containers"]], metadata),
        labels=dict(metadata.get("labels") or {}),
        node=str(spec.get("nodeName") or ""),
    )


def _container_name(container: Object) -> str:
    return str(container["name"])


def _container(login: TargetLogin, names: Sequence[str], metadata: Object) -> str:
    if login.container:
        if login.container not in names:
            raise BastionError(
                Code.TARGET_MISSING,
                f"{login.name} has no container {login.container}; it has {', '.join(names)}",
            )
        return login.container
    default = (metadata.get("annotations") or {}).get(DEFAULT_CONTAINER)
    return str(default) if default in names else names[0]
