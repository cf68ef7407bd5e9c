"""From a login to one container of one running pod; used by pods.kube.

A pod's name wins; else the one workload of that name, and of its pods the
first ready one by name, so that the same name leads to the same pod while it
lives. The default container is a rule of the client: the API server refuses an
exec that names none (recorded: exec-container-required).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from kubernetes_asyncio import client
from kubernetes_asyncio.client.exceptions import ApiException

from bastion.errors import BastionError, Code
from bastion.model import Resolved, Target, TargetLogin
from bastion.pods.api import status_message, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from bastion.pods.api import Api

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_REQUEST_TIMEOUT_S = 15


class Resolver:
    """Looks names up, as the bastion itself."""

    def __init__(self, api: Api) -> None:
        self._core = client.CoreV1Api(api.typed)
        self._apps = client.AppsV1Api(api.typed)
        self._batch = client.BatchV1Api(api.typed)
        self._read_workload = {
            "deploy": self._apps.read_namespaced_deployment,
            "sts": self._apps.read_namespaced_stateful_set,
            "ds": self._apps.read_namespaced_daemon_set,
            "job": self._batch.read_namespaced_job,
        }

    async def resolve(self, login: TargetLogin) -> Resolved:
        """Find the container. Raises BastionError (TARGET_*, CLUSTER_*)."""
        if not login.kind:
            pod = await self.pod(login.namespace, login.name)
            if pod is not None:
                return Resolved(target=_target(_running(pod), login))
        kind, workload = await self._workload(login)
        pods = await self._pods_of(kind, workload, login.namespace)
        ready = sorted((pod for pod in pods if _is_ready(pod)), key=lambda pod: str(pod.metadata.name))
        if not ready:
            raise BastionError(
                Code.TARGET_NOT_RUNNING,
                f"{kind}/{login.name} in namespace {login.namespace} has no ready pod (it has {len(pods)})",
            )
        chosen_from = f"{kind}/{login.name}" if len(ready) > 1 else ""
        return Resolved(target=_target(ready[0], login), chosen_from=chosen_from)

    async def pod(self, namespace: str, name: str) -> Any | None:
        """The pod of that name, or None."""
        return await _found(self._core.read_namespaced_pod(name, namespace, _request_timeout=_REQUEST_TIMEOUT_S))

    async def _workload(self, login: TargetLogin) -> tuple[str, Any]:
        kinds = [login.kind] if login.kind else list(self._read_workload)
        found = await asyncio.gather(
            *(
                _found(self._read_workload[kind](login.name, login.namespace, _request_timeout=_REQUEST_TIMEOUT_S))
                for kind in kinds
            )
        )
        choices = [(kind, workload) for kind, workload in zip(kinds, found, strict=True) if workload is not None]
        if len(choices) > 1:
            names = ", ".join(f"{kind}_{login.name}.{login.namespace}" for kind, _ in choices)
            raise BastionError(Code.TARGET_AMBIGUOUS, f"{login.name} is the name of several workloads; say {names}")
        if not choices:
            await self._missing(login)
        return choices[0]

    async def _missing(self, login: TargetLogin) -> NoReturn:
        if await _found(self._core.read_namespace(login.namespace, _request_timeout=_REQUEST_TIMEOUT_S)) is None:
            raise BastionError(
                Code.TARGET_MISSING,
                f"there is no namespace {login.namespace}; a login is POD.NAMESPACE"
                " (without one, ssh sends your local user name)",
            )
        what = f"{login.kind}/{login.name}" if login.kind else f"pod or workload {login.name}"
        raise BastionError(Code.TARGET_MISSING, f"there is no {what} in namespace {login.namespace}")

    async def _pods_of(self, kind: str, workload: Any, namespace: str) -> list[Any]:
        owners = {workload.metadata.uid}
        selector = _selector(workload.spec.selector)
        if kind == "deploy":
            sets = await answer(
                self._apps.list_namespaced_replica_set(
                    namespace, label_selector=selector, _request_timeout=_REQUEST_TIMEOUT_S
                )
            )
            owners = {item.metadata.uid for item in sets.items if _owned(item, owners)}
        pods = await answer(
            self._core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=_REQUEST_TIMEOUT_S)
        )
        return [pod for pod in pods.items if _owned(pod, owners)]


def is_gone(pod: Any | None, target: Target) -> bool:
    """Whether the pod a target was pinned to is deleted, replaced or being deleted."""
    return pod is None or str(pod.metadata.uid) != target.pod_uid or pod.metadata.deletion_timestamp is not None


async def answer(call: Awaitable[Any]) -> Any:
    """Await a typed call, its failures as ours."""
    try:
        return await call
    except ApiException as error:
        if error.status == 403:  # noqa: PLR2004 - Forbidden
            raise BastionError(
                Code.CLUSTER_DENIED,
                "the bastion itself may not look that up in the cluster; tell its operators",
                detail=status_message(str(error.body or error.reason)),
            ) from error
        if error.status == 404:  # noqa: PLR2004 - Not Found
            raise
        raise unavailable(f"HTTP {error.status} {error.reason}") from error
    except (TimeoutError, OSError, ValueError) as error:
        raise unavailable(f"{type(error).__name__} {error}") from error


async def _found(call: Awaitable[Any]) -> Any | None:
    try:
        return await answer(call)
    except ApiException:
        return None


def _owned(item: Any, owners: set[Any]) -> bool:
    return any(owner.uid in owners for owner in item.metadata.owner_references or [])


def _selector(selector: Any) -> str:
    """A workload's selector as a label selector query (labels and expressions)."""
    parts = [f"{key}={value}" for key, value in (selector.match_labels or {}).items()]
    for expression in selector.match_expressions or []:
        values = f"({','.join(expression.values or [])})"
        match expression.operator:
            case "In":
                parts.append(f"{expression.key} in {values}")
            case "NotIn":
                parts.append(f"{expression.key} notin {values}")
            case "Exists":
                parts.append(str(expression.key))
            case _:
                parts.append(f"!{expression.key}")
    return ",".join(parts)


def _running(pod: Any) -> Any:
    name = pod.metadata.name
    if pod.metadata.deletion_timestamp is not None:
        raise BastionError(Code.TARGET_NOT_RUNNING, f"pod {name} is being deleted")
    if pod.status.phase != "Running":
        raise BastionError(Code.TARGET_NOT_RUNNING, f"pod {name} is not running (its phase is {pod.status.phase})")
    return pod


def _is_ready(pod: Any) -> bool:
    return (
        pod.metadata.deletion_timestamp is None
        and pod.status.phase == "Running"
        and any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions or [])
    )


def _target(pod: Any, login: TargetLogin) -> Target:
    names = [str(container.name) for container in pod.spec.containers]
    return Target(
        namespace=login.namespace,
        pod=str(pod.metadata.name),
        pod_uid=str(pod.metadata.uid),
        container=_container(login, names, pod.metadata.annotations or {}),
        labels=dict(pod.metadata.labels or {}),
        node=str(pod.spec.node_name or ""),
    )


def _container(login: TargetLogin, names: Sequence[str], annotations: dict[str, str]) -> str:
    if login.container:
        if login.container not in names:
            raise BastionError(
                Code.TARGET_MISSING,
                f"{login.name} has no container {login.container}; it has {', '.join(names)}",
            )
        return login.container
    default = annotations.get(DEFAULT_CONTAINER)
    return default if default is not None and default in names else names[0]
