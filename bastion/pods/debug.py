"""Debug containers: a shell beside a container that has none; used by pods.kube.

An ephemeral container that shares the target's processes is added to the pod, as
the person, and reused while it lives (recorded: ephemeral-patch, ephemeral-status).
It cannot be taken away again: its main process ends when nobody uses it any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError, Code
from bastion.model import DEBUG_CONTAINERS, Beside
from bastion.podfacts import ContainerKind, pod_facts
from bastion.pods import kinds
from bastion.pods.api import Refused
from bastion.pods.markers import SOME

if TYPE_CHECKING:
    from bastion.model import KubeIdentity, Target
    from bastion.podfacts import ContainerFacts, PodFacts
    from bastion.pods.api import Api
    from bastion.ports import Tell

STARTS_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5

NAMES_TRIED = 5
"""Others who make debug containers in the same pod may take a name first."""

STRATEGIC = "application/strategic-merge-patch+json"

# Ends some ten minutes after the last session in it has: by then no process carries a marker.
_MAIN = f"while sleep 600; do {SOME} || exit 0; done"

_HOPELESS = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)

_ADMISSION = ("violates PodSecurity", "denied the request", "denied request")
"""What a 403 says that RBAC has not said: Pod Security admission, webhooks, ValidatingAdmissionPolicy."""


class Debugging:
    """The debug containers of one cluster's pods."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def container(self, target: Target, image: str, identity: KubeIdentity, tell: Tell) -> Beside:
        """A running debug container of an image beside a target; made, as the person, unless there is one.

        Raises BastionError: NOT_STARTED if it does not come up, TARGET_MISSING, CLUSTER_*.
        """
        for _ in range(NAMES_TRIED):
            pod = await self._pod(target)
            name = next((one["name"] for one in _ours(pod, target, image) if _runs(pod, one["name"])), "")
            if not name:
                name = _free_name(pod)
                if not await self._added(target, _spec(pod, target, name, image), identity, tell):
                    continue
                await self._running(target, name, tell)
            return Beside(target=replace(target, container=name), files=_files(pod))
        raise BastionError(
            Code.NOT_STARTED, f"pod {target.pod} changes too often to be given a debug container; try again in a moment"
        )

    async def running(self, target: Target) -> Target | None:
        """A running debug container beside a target, or None. Raises BastionError (TARGET_MISSING, CLUSTER_*)."""
        pod = await self._pod(target)
        names = [one["name"] for one in _ours(pod, target, None) if _runs(pod, one["name"])]
        return replace(target, container=names[0]) if names else None

    async def _pod(self, target: Target) -> dict[str, Any]:
        try:
            return dict(await self._api.get(*_path(target)))
        except Refused as refused:
            raise BastionError(
                Code.TARGET_MISSING, f"there is no pod {target.pod} in namespace {target.namespace} any more"
            ) from refused

    async def _added(self, target: Target, spec: dict[str, Any], identity: KubeIdentity, tell: Tell) -> bool:
        """Whether the pod has the container now; not if somebody else was there first."""
        body = {"spec": {"ephemeralContainers": [spec]}}
        try:
            path = (*_path(target), "ephemeralcontainers")
            await self._api.patch(*path, body=body, content_type=STRATEGIC, identity=identity, tell=tell)
        except Refused as refused:
            if refused.status == HTTPStatus.CONFLICT:
                return False
            # What is taken may not be changed; any other 422 would only come again.
            if refused.status == HTTPStatus.UNPROCESSABLE_ENTITY and _has(await self._pod(target), spec["name"]):
                return False
            code = Code.TARGET_MISSING if refused.status == HTTPStatus.NOT_FOUND else Code.NOT_STARTED
            raise BastionError(
                code, f"pod {target.pod} cannot be given a debug container: {refused.message}"
            ) from refused
        except BastionError as error:
            if error.code is not Code.CLUSTER_DENIED or not any(words in error.detail for words in _ADMISSION):
                raise
            raise BastionError(
                Code.CLUSTER_DENIED,
                f"the cluster's admission rules do not allow this debug container: {error.detail}",
                detail=error.detail,
            ) from error
        return True

    async def _running(self, target: Target, name: str, tell: Tell) -> None:
        said = ""
        deadline = asyncio.get_running_loop().time() + STARTS_WITHIN_S
        while True:
            facts = pod_facts(await self._pod(target)).container(name)
            if facts is not None and facts.running:
                return
            why = _why_not(facts)
            hopeless = facts is not None and (facts.ended is not None or facts.waiting in _HOPELESS)
            if hopeless or asyncio.get_running_loop().time() > deadline:
                raise BastionError(Code.NOT_STARTED, f"the debug container did not start: {why}")
            if why != said:
                said = why
                tell(f"waiting for the debug container: {why}")
            await asyncio.sleep(LOOK_EVERY_S)


def _path(target: Target) -> tuple[str, ...]:
    return kinds.path(kinds.POD, target.namespace, target.pod)


def _why_not(facts: ContainerFacts | None) -> str:
    if facts is None or (not facts.waiting and facts.ended is None):
        return "ContainerCreating"
    if facts.ended is not None:
        return f"{facts.ended.reason} (status {facts.ended.exit_code}) {facts.ended.message}".strip()
    return f"{facts.waiting}: {facts.waiting_message}" if facts.waiting_message else facts.waiting


def _ours(pod: dict[str, Any], target: Target, image: str | None) -> list[dict[str, Any]]:
    """The debug containers beside a target, of an image or of any."""
    return [
        one
        for one in pod["spec"].get("ephemeralContainers") or ()
        if one["name"].startswith(DEBUG_CONTAINERS)
        and one.get("targetContainerName") == target.container
        and image in {None, one["image"]}
    ]


def _runs(pod: dict[str, Any], name: str) -> bool:
    facts: PodFacts = pod_facts(pod)
    return any(one.name == name and one.running for one in facts.containers if one.kind is ContainerKind.EPHEMERAL)


def _has(pod: dict[str, Any], name: str) -> bool:
    return any(one["name"] == name for one in pod["spec"].get("ephemeralContainers") or ())


def _free_name(pod: dict[str, Any]) -> str:
    taken = {one["name"] for one in pod["spec"].get("ephemeralContainers") or ()}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{DEBUG_CONTAINERS}{number}") not in taken)


def _spec(pod: dict[str, Any], target: Target, name: str, image: str) -> dict[str, Any]:
    """An ephemeral container with the target's processes, as restricted as the target itself."""
    context = _context(pod, target.container)
    return {
        "name": name,
        "image": image,
        "command": ["sh", "-c", _MAIN],
        "targetContainerName": target.container,
        **({"securityContext": context} if context else {}),
    }


def _context(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """The securityContext of a container, with the user that it runs as, where that is known.

    Another user may not enter /proc/1/root. What a pod's own securityContext says holds for the debug container too;
    what only the image says is in the status since KEP-3619 (recorded in ephemeral-add).
    """
    spec, status = pod["spec"], pod.get("status") or {}
    regular = [*spec["containers"], *(spec.get("initContainers") or ())]
    context = dict(_named(regular, container).get("securityContext") or {})
    if "runAsUser" in {*context, *(spec.get("securityContext") or ())}:
        return context
    statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    user = (_named(statuses, container).get("user") or {}).get("linux") or {}
    found = {"runAsUser": user.get("uid"), "runAsGroup": user.get("gid")}
    return {**{key: number for key, number in found.items() if number is not None}, **context}


def _named(those: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next((one for one in those if one["name"] == name), {})


def _files(pod: dict[str, Any]) -> str:
    """Where the target's files are: its first process is PID 1, unless the pod or its node shares one count of PIDs."""
    shared = pod["spec"].get("shareProcessNamespace") or pod["spec"].get("hostPID")
    return "" if shared else "/proc/1/root"
