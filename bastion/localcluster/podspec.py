"""The shapes of pods; used by seed, kubelet, workloads and objects.

They have the keys of recorded objects (tests/data/kube-wire: pod-get, ephemeral-status), without
managedFields and the volumes that every pod gets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bastion.localcluster.store import Object

NODE = "local-node"
NODE_IP = "127.0.0.1"

_CONTAINER_DEFAULTS = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "Never",
}
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_POD_DEFAULTS: Object = {
    "serviceAccountName": "default",
    "serviceAccount": "default",
    "tolerations": [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300} for key in _TOLERATED
    ],
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}
_GATED = "Scheduling is blocked due to non-empty scheduling gates"


class Role(StrEnum):
    """Which list of a pod's spec a container stands in."""

    INIT = "initContainers"
    MAIN = "containers"
    EPHEMERAL = "ephemeralContainers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container at a moment.

    state, last: as in a status: `{"running": {…}}`, `{"waiting": {…}}` or `{"terminated": {…}}`; last may be {}.
    identity: its containerID, "" before it was started. sidecar: an init container that goes on beside the others.
    """

    name: str
    image: str
    state: dict[str, Any]
    last: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    identity: str = ""
    role: Role = Role.MAIN
    sidecar: bool = False

    @property
    def running(self) -> bool:
        """Whether its main process lives."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """How its main process ended; None if it did not."""
        code: int | None = self.state.get("terminated", {}).get("exitCode")
        return code


def is_ready(pod: Object) -> bool:
    """Whether all of a pod's containers run."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_finished(pod: Object) -> bool:
    """Whether nothing of a pod will ever run again."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def is_deleting(value: Object) -> bool:
    """Whether an object is on its way out."""
    return "deletionTimestamp" in value["metadata"]


def is_gated(pod: Object) -> bool:
    """Whether a pod may not have a node yet."""
    return bool(pod["spec"].get("schedulingGates"))


def specs(pod: Object) -> Iterator[tuple[Object, Role]]:
    """Each container's spec, and which list it stands in."""
    for role in Role:
        for spec in pod["spec"].get(role, ()):
            yield spec, role


def is_sidecar(spec: Object, role: Role) -> bool:
    """Whether an init container goes on beside those that follow (its own restartPolicy says so)."""
    return role is Role.INIT and spec.get("restartPolicy") == "Always"


def policy(pod: Object, spec: Object, role: Role) -> str:
    """Whether a container is started again: "Always", "OnFailure" or "Never"."""
    own: str = pod["spec"].get("restartPolicy", "Always")
    if role is Role.EPHEMERAL:
        return "Never"
    if role is Role.INIT and own == "Always" and not is_sidecar(spec, role):
        return "OnFailure"  # it has to succeed, once
    return "Always" if is_sidecar(spec, role) else own


def with_ephemeral(spec: Object, ephemeral: list[Object]) -> Object:
    """A pod's spec with these ephemeral containers, which stand behind its containers."""
    first = {"containers": spec["containers"], "ephemeralContainers": ephemeral}
    return {**first, **{key: part for key, part in spec.items() if key not in first}}


def ephemeral_container(spec: Object) -> Object:
    """An ephemeral container's spec with its defaults, in the server's order."""
    first: Object = {key: spec[key] for key in ("name", "image", "command", "args") if key in spec}
    return {**first, **_CONTAINER_DEFAULTS, **{key: spec[key] for key in spec if key not in first}}


def pending(pod: Object) -> Object:
    """A new pod, not started, with all that an API server adds; without a node if it has scheduling gates."""
    template = template_spec(pod["spec"]["containers"])
    spec = {**template, **_POD_DEFAULTS, **pod["spec"], "containers": template["containers"]}
    if "initContainers" in spec:
        spec["initContainers"] = template_spec(spec["initContainers"])["containers"]
    started = {"phase": "Pending", "qosClass": "BestEffort"}
    value = {"kind": kinds.POD.name, "apiVersion": "v1", "metadata": {**pod["metadata"], "generation": 1}}
    value |= {"spec": spec, "status": started}
    return value if is_gated(value) else scheduled(value)


def scheduled(pod: Object) -> Object:
    """A pod with its node."""
    return {**pod, "spec": {**pod["spec"], "nodeName": NODE}}


def gated(pod: Object, at: str) -> Object:
    """A pod whose status says that it waits at its scheduling gates."""
    why = {"reason": "SchedulingGated", "message": _GATED}
    condition = {"type": "PodScheduled", "status": "False", "lastProbeTime": None, "lastTransitionTime": at, **why}
    return {**pod, "status": {**pod["status"], "conditions": [condition]}}


def status(pod: Object, containers: Iterable[ContainerState], at: str) -> Object:
    """A pod's status, from the states of its containers; `at` is now."""
    listed = list(containers)
    of = {role: [one for one in listed if one.role is role] for role in Role}
    mains = sorted(of[Role.MAIN], key=lambda one: one.name)
    started = pod["metadata"]["creationTimestamp"]
    generation = pod["metadata"].get("generation", 1)
    result = {
        "observedGeneration": generation,
        "phase": _phase(pod, of[Role.INIT], mains),
        "conditions": list(_conditions(pod, of[Role.INIT], mains, at)),
        "hostIP": NODE_IP,
        "hostIPs": [{"ip": NODE_IP}],
        "podIP": NODE_IP,
        "podIPs": [{"ip": NODE_IP}],
        "startTime": started,
        "containerStatuses": [_container_status(one) for one in mains],
        "qosClass": "BestEffort",
    }
    if of[Role.INIT]:
        result["initContainerStatuses"] = [_container_status(one) for one in of[Role.INIT]]
    if of[Role.EPHEMERAL]:
        debuggers = sorted(of[Role.EPHEMERAL], key=lambda one: one.name)
        result["ephemeralContainerStatuses"] = [_container_status(one) for one in debuggers]
    return result


def unready(pod: Object, at: str) -> Object:
    """A pod whose node was not heard of for too long."""
    old = pod.get("status", {})
    conditions = [
        {**one, "status": "False", "lastTransitionTime": at} if one["type"] == "Ready" else one
        for one in old.get("conditions", ())
    ]
    return {**pod, "status": {**old, "conditions": conditions}}


def container_id(uid: str, name: str, restarts: int) -> str:
    """What a container runtime would call one run of a container."""
    return f"containerd://{_digest(f'{uid}/{name}/{restarts}')}"


def template_spec(containers: Iterable[Object]) -> Object:
    """The spec of a workload's pods, from its containers' specs."""
    return {
        "containers": [
            {"name": one["name"], "image": one["image"], **_CONTAINER_DEFAULTS, **one} for one in containers
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }


def _phase(pod: Object, inits: list[ContainerState], mains: list[ContainerState]) -> str:
    restarting = pod["spec"].get("restartPolicy", "Always")
    if _incomplete(inits):
        failed = restarting == "Never" and any(one.exit_code for one in inits)
        return "Failed" if failed else "Pending"
    codes = [one.exit_code for one in mains]
    if None not in codes and (restarting == "Never" or (restarting == "OnFailure" and not any(codes))):
        return "Failed" if any(codes) else "Succeeded"
    return "Running" if any(one.running or one.identity for one in mains) else "Pending"


def _conditions(pod: Object, inits: list[ContainerState], mains: list[ContainerState], at: str) -> Iterator[Object]:
    before = {one["type"]: one for one in pod.get("status", {}).get("conditions", ())}
    incomplete = _incomplete(inits)
    unready = [one.name for one in mains if not one.running]
    waits = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]") if unready else None
    inits_wait = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")
    table = {
        "PodReadyToStartContainers": None,
        "Initialized": inits_wait if incomplete else None,
        "Ready": waits,
        "ContainersReady": waits,
        "PodScheduled": None,
    }
    for kind, why in table.items():
        said = "False" if why else "True"
        old = before.get(kind, {"status": "", "lastTransitionTime": at})
        condition: Object = {
            "type": kind,
            "observedGeneration": pod["metadata"].get("generation", 1),
            "status": said,
            "lastProbeTime": None,
            "lastTransitionTime": old["lastTransitionTime"] if old["status"] == said else at,
        }
        yield {**condition, "reason": why[0], "message": why[1]} if why else condition


def _incomplete(inits: list[ContainerState]) -> list[str]:
    """The init containers that the others still wait for; one that goes on beside them is complete when it runs."""
    return [one.name for one in inits if not (one.exit_code == 0 or (one.sidecar and one.running))]


def _container_status(one: ContainerState) -> Object:
    status = {
        "name": one.name,
        "state": one.state,
        "lastState": one.last,
        "ready": one.exit_code == 0 if one.role is Role.INIT and not one.sidecar else _serves(one),
        "restartCount": one.restarts,
        "image": one.image,
        "imageID": f"sha256:{_digest(one.image)}" if one.identity else "",
    }
    if one.identity:
        status["containerID"] = one.identity
    if one.role is not Role.EPHEMERAL:
        status["started"] = one.running
    return {**status, "resources": {}}


def _serves(one: ContainerState) -> bool:
    return one.running and one.role is not Role.EPHEMERAL


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
