"""Debug containers: a shell beside a container that has none; used by pods.kube.

An ephemeral container that shares the target's processes is added to the pod, as
the person (recorded: ephemeral-add, ephemeral-status). It cannot be taken away again: its main process ends when
nobody uses it any more. So its name says what was wanted, one of that name that has not ended is used or waited for,
and none is added where one hangs, or where several failed.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError, Code
from bastion.model import DEBUG_CONTAINERS, Beside
from bastion.podfacts import ContainerKind, pod_facts
from bastion.pods import fate, kinds
from bastion.pods.answers import Refused, is_by_admission, not_admitted
from bastion.pods.markers import SOME

if TYPE_CHECKING:
    from bastion.model import KubeIdentity, Target
    from bastion.podfacts import ContainerFacts
    from bastion.pods.api import Api
    from bastion.ports import Tell

STARTS_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5

TRIES = 5
"""How often it is tried to add one: others may change the pod in the same moment."""

MOST_FAILED = 3
"""Of so many of one name that failed, the pod would only get more: they stay in it as long as it lives."""

STRATEGIC = "application/strategic-merge-patch+json"

# Ends some ten minutes after the last session in it has: by then no process carries a marker.
_MAIN = f"while sleep 600; do {SOME} || exit 0; done; exit 1"

_ENDS_WELL = frozenset({0, 128 + 9, 128 + 15})
"""Exit codes of a debug container that nobody used any more, or that was ended with its pod."""

_HOPELESS = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)


class Debugging:
    """The debug containers of one cluster's pods."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def container(
        self, target: Target, image: str, user: int | None, identity: KubeIdentity, tell: Tell
    ) -> Beside:
        """A running debug container of an image beside a target; made, as the person, unless there is one.

        user: the number of whom it runs as where the pod does not say whom the target runs as; None: its image decides.
        Raises BastionError: NOT_STARTED if it does not come up, TARGET_MISSING, CLUSTER_*.
        """
        begins = _name(target, image, user)
        for _ in range(TRIES):
            pod = await self._pod(target)
            there = _ours(pod, target, begins)
            name = _unended(there)
            if not name:
                _check_failed(there, target)
                name = _free_name(pod, begins)
                if not await self._added(target, _spec(pod, target, name, image, user), identity, tell):
                    continue
                pod = await self._pod(target)
                if not _has(pod, name):  # an old API server takes what it does not know, and drops it
                    old = "this cluster takes no debug containers; they need Kubernetes 1.25 or newer"
                    raise BastionError(Code.NOT_STARTED, old)
            await self._running(target, name, pod, tell)
            return Beside(target=_beside(target, name), files=_files(pod))
        raise BastionError(
            Code.NOT_STARTED, f"pod {target.pod} changes too often to be given a debug container; try again in a moment"
        )

    async def _pod(self, target: Target) -> dict[str, Any]:
        """The pod as it is now. Raises BastionError: TARGET_MISSING if it is gone, or another; CLUSTER_*."""
        try:
            pod = dict(await self._api.get(*_path(target)))
        except Refused as refused:
            raise BastionError(
                Code.TARGET_MISSING, f"there is no pod {target.pod} in namespace {target.namespace} any more"
            ) from refused
        if pod["metadata"]["uid"] != target.pod_uid:
            raise BastionError(Code.TARGET_MISSING, fate.changed(target, "replaced by another of that name"))
        return pod

    async def _added(self, target: Target, spec: dict[str, Any], identity: KubeIdentity, tell: Tell) -> bool:
        """Whether the pod has the container now; not if somebody else was there first."""
        # A pod that was replaced meanwhile has another UID, which is refused with 422: no patch may change it.
        body = {"metadata": {"uid": target.pod_uid}, "spec": {"ephemeralContainers": [spec]}}
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
            if error.code is not Code.CLUSTER_DENIED or not is_by_admission(error.detail):
                raise
            raise not_admitted(error.detail, "this debug container") from error
        return True

    async def _running(self, target: Target, name: str, pod: dict[str, Any], tell: Tell) -> None:
        """Wait until a container runs, looking at its pod as it was just now first. Raises BastionError."""
        said = ""
        deadline = asyncio.get_running_loop().time() + STARTS_WITHIN_S
        while True:
            facts = pod_facts(pod).container(name)
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
            pod = await self._pod(target)


def _path(target: Target) -> tuple[str, ...]:
    return kinds.path(kinds.POD, target.namespace, target.pod)


def _why_not(facts: ContainerFacts | None) -> str:
    if facts is None or (not facts.waiting and facts.ended is None):
        return "ContainerCreating"
    if facts.ended is not None:
        return f"{facts.ended.reason} (status {facts.ended.exit_code}) {facts.ended.message}".strip()
    return f"{facts.waiting}: {facts.waiting_message}" if facts.waiting_message else facts.waiting


def _name(target: Target, image: str, user: int | None) -> str:
    """What the names of debug containers of an image, and of a user if one is asked for, beside a target begin with.

    The image that the API server keeps need not be the one that was asked for: webhooks put mirrors and digests there.
    """
    asked_for = "" if user is None else f"\n{user}"
    wanted = hashlib.sha256(f"{image}\n{target.container}{asked_for}".encode()).hexdigest()
    return f"{DEBUG_CONTAINERS}{wanted[:8]}-"


def _ours(pod: dict[str, Any], target: Target, name: str) -> list[ContainerFacts]:
    """The debug containers beside a target whose names begin so."""
    return [
        one
        for one in pod_facts(pod).containers
        if one.kind is ContainerKind.EPHEMERAL and one.name.startswith(name) and one.beside == target.container
    ]


def _unended(those: list[ContainerFacts]) -> str:
    """The name of one that runs, else of one that is yet to, "" if there is none."""
    unended = [one for one in those if one.ended is None]
    return min(unended, key=lambda one: not one.running).name if unended else ""


def _check_failed(those: list[ContainerFacts], target: Target) -> None:
    """Raises BastionError: NOT_STARTED if what is wanted has failed too often to be tried again."""
    failed = [one for one in those if one.ended is not None and one.ended.exit_code not in _ENDS_WELL]
    if len(failed) >= MOST_FAILED:
        last = max(failed, key=lambda one: (len(one.name), one.name))
        raise BastionError(
            Code.NOT_STARTED,
            f"a debug container of this image failed {len(failed)} times in pod {target.pod}, which keeps them all, so"
            f" it is given no more; the last: {_why_not(last)}",
        )


def _beside(target: Target, name: str) -> Target:
    return replace(target, container=name, ephemeral=True, beside=target.container)


def _has(pod: dict[str, Any], name: str) -> bool:
    return any(one["name"] == name for one in pod["spec"].get("ephemeralContainers") or ())


def _free_name(pod: dict[str, Any], begins: str) -> str:
    taken = {one["name"] for one in pod["spec"].get("ephemeralContainers") or ()}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{begins}{number}") not in taken)


def _spec(pod: dict[str, Any], target: Target, name: str, image: str, user: int | None) -> dict[str, Any]:
    """An ephemeral container with the target's processes, as restricted as the target itself."""
    context = _context(pod, target.container, user)
    return {
        "name": name,
        "image": image,
        "command": ["sh", "-c", _MAIN],
        "targetContainerName": target.container,
        **({"securityContext": context} if context else {}),
    }


def _context(pod: dict[str, Any], container: str, otherwise: int | None) -> dict[str, Any]:
    """The securityContext of a container, with the user that it runs as, where that is known.

    Another user may not enter /proc/1/root. What a pod's own securityContext says holds for the debug container too;
    what only the image says is in the status since KEP-3619 (recorded in ephemeral-add).
    otherwise: the user where nothing says who. Without one, the debug container's own image decides, and a kubelet that
    was told runAsNonRoot refuses root.
    """
    spec, status = pod["spec"], pod.get("status") or {}
    regular = [*spec["containers"], *(spec.get("initContainers") or ())]
    context = dict(_named(regular, container).get("securityContext") or {})
    if "runAsUser" in {*context, *(spec.get("securityContext") or ())}:
        return context
    statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    user = (_named(statuses, container).get("user") or {}).get("linux") or {}
    found = {"runAsUser": user.get("uid", otherwise), "runAsGroup": user.get("gid")}
    return {**{key: number for key, number in found.items() if number is not None}, **context}


def _named(those: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next((one for one in those if one["name"] == name), {})


def _files(pod: dict[str, Any]) -> str:
    """Where the target's files are: its first process is PID 1, unless the pod or its node shares one count of PIDs."""
    shared = pod["spec"].get("shareProcessNamespace") or pod["spec"].get("hostPID")
    return "/proc/PID/root of its processes" if shared else "/proc/1/root"
