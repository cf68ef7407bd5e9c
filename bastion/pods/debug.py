"""Debug containers: a shell beside a container that has none; used by pods.kube.

An ephemeral container that shares the target's processes is added to the pod, as
the person, and reused while it lives (recorded: ephemeral-patch, ephemeral-status).
It cannot be taken away again: its main process ends when nobody uses it any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError, Code
from bastion.podfacts import ContainerKind, pod_facts
from bastion.pods.api import Refused
from bastion.pods.markers import VARIABLE

if TYPE_CHECKING:
    from bastion.model import KubeIdentity, Target
    from bastion.podfacts import ContainerFacts, PodFacts
    from bastion.pods.api import Api
    from bastion.ports import Tell

PREFIX = "bastion-debug-"
STARTS_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5

STRATEGIC = "application/strategic-merge-patch+json"

# Ends some ten minutes after the last session in it has: by then no process carries a marker.
_MAIN = f"while sleep 600; do grep -qs {VARIABLE}= /proc/[0-9]*/environ || exit 0; done"

_HOPELESS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerError"}
)


class Debugging:
    """The debug containers of one cluster's pods."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def container(self, target: Target, image: str, identity: KubeIdentity, tell: Tell) -> Target:
        """A running debug container of an image beside a target; made, as the person, unless there is one.

        Raises BastionError: NOT_STARTED if it does not come up, TARGET_MISSING, CLUSTER_*.
        """
        pod = await self._pod(target)
        name = next((one["name"] for one in _ours(pod, target, image) if _runs(pod, one["name"])), "")
        if not name:
            name = _free_name(pod)
            await self._add(target, _spec(pod, target, name, image), identity, tell)
            await self._running(target, name, tell)
        return replace(target, container=name)

    async def running(self, target: Target) -> Target | None:
        """A running debug container beside a target, or None. Raises BastionError (TARGET_MISSING, CLUSTER_*)."""
        pod = await self._pod(target)
        names = [one["name"] for one in _ours(pod, target, None) if _runs(pod, one["name"])]
        return replace(target, container=names[0]) if names else None

    async def _pod(self, target: Target) -> dict[str, Any]:
        try:
            return dict(await self._api.get("api", "v1", "namespaces", target.namespace, "pods", target.pod))
        except Refused as refused:
            raise BastionError(
                Code.TARGET_MISSING, f"there is no pod {target.pod} in namespace {target.namespace} any more"
            ) from refused

    async def _add(self, target: Target, spec: dict[str, Any], identity: KubeIdentity, tell: Tell) -> None:
        path = ("api", "v1", "namespaces", target.namespace, "pods", target.pod, "ephemeralcontainers")
        body = {"spec": {"ephemeralContainers": [spec]}}
        try:
            await self._api.patch(*path, body=body, content_type=STRATEGIC, identity=identity, tell=tell)
        except Refused as refused:
            raise BastionError(
                Code.TARGET_MISSING, f"pod {target.pod} cannot be given a debug container: {refused.message}"
            ) from refused

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
        if one["name"].startswith(PREFIX)
        and one.get("targetContainerName") == target.container
        and image in {None, one["image"]}
    ]


def _runs(pod: dict[str, Any], name: str) -> bool:
    facts: PodFacts = pod_facts(pod)
    return any(one.name == name and one.running for one in facts.containers if one.kind is ContainerKind.EPHEMERAL)


def _free_name(pod: dict[str, Any]) -> str:
    taken = {one["name"] for one in pod["spec"].get("ephemeralContainers") or ()}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{PREFIX}{number}") not in taken)


def _spec(pod: dict[str, Any], target: Target, name: str, image: str) -> dict[str, Any]:
    """An ephemeral container with the target's processes, as restricted as the target itself."""
    beside = [one for one in pod["spec"]["containers"] if one["name"] == target.container]
    context = beside[0].get("securityContext") if beside else None
    return {
        "name": name,
        "image": image,
        "command": ["sh", "-c", _MAIN],
        "targetContainerName": target.container,
        **({"securityContext": context} if context else {}),
    }
