"""The shapes of pods; used by seed, kubelet, workloads and objects.

They have the keys of recorded objects (tests/data/kube-wire: pod-get, ephemeral-status), without
managedFields and the volumes that every pod gets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container at a moment.

    state, last: as in a status: `{"running": {…}}`, `{"waiting": {…}}` or `{"terminated": {…}}`; last may be {}.
    identity: its containerID, "" before it was started.
    """

    name: str
    image: str
    state: dict[str, Any]
    last: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    identity: str = ""
    ephemeral: bool = False

    @property
    def running(self) -> bool:
        """Whether its main process lives."""
        return "running" in self.state


def is_ready(pod: Object) -> bool:
    """Whether all of a pod's containers run."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def scheduled(spec: Object) -> Object:
    """A pod's spec with everything that an API server and a scheduler would add."""
    template = template_spec(spec["containers"])
    return {**template, **_POD_DEFAULTS, **spec, "containers": template["containers"], "nodeName": NODE}


def with_ephemeral(spec: Object, ephemeral: list[Object]) -> Object:
    """A pod's spec with these ephemeral containers, which stand behind its containers."""
    first = {"containers": spec["containers"], "ephemeralContainers": ephemeral}
    return {**first, **{key: part for key, part in spec.items() if key not in first}}


def ephemeral_container(spec: Object) -> Object:
    """An ephemeral container's spec with its defaults, in the server's order."""
    first: Object = {key: spec[key] for key in ("name", "image", "command", "args") if key in spec}
    return {**first, **_CONTAINER_DEFAULTS, **{key: spec[key] for key in spec if key not in first}}


def pending(pod: Object) -> Object:
    """A new pod, scheduled and not started."""
    started = {"phase": "Pending", "qosClass": "BestEffort"}
    value = {"kind": kinds.POD.name, "apiVersion": "v1", "metadata": {**pod["metadata"], "generation": 1}}
    return {**value, "spec": scheduled(pod["spec"]), "status": started}


def status(pod: Object, containers: Iterable[ContainerState]) -> Object:
    """A pod's status, from the states of its containers."""
    listed = sorted(containers, key=lambda one: one.name)
    regular = [one for one in listed if not one.ephemeral]
    at = pod["metadata"]["creationTimestamp"]
    ready = bool(regular) and all(one.running for one in regular)
    generation = pod["metadata"].get("generation", 1)
    result = {
        "observedGeneration": generation,
        "phase": _phase(regular),
        "conditions": list(_conditions(at, generation, ready=ready)),
        "hostIP": NODE_IP,
        "hostIPs": [{"ip": NODE_IP}],
        "podIP": NODE_IP,
        "podIPs": [{"ip": NODE_IP}],
        "startTime": at,
        "containerStatuses": [_container_status(one) for one in regular],
        "qosClass": "BestEffort",
    }
    if len(regular) < len(listed):
        result["ephemeralContainerStatuses"] = [_container_status(one) for one in listed if one.ephemeral]
    return result


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


def _phase(containers: list[ContainerState]) -> str:
    codes = [one.state["terminated"]["exitCode"] for one in containers if "terminated" in one.state]
    if containers and len(codes) == len(containers):
        return "Failed" if any(codes) else "Succeeded"
    return "Running" if any(one.running or one.identity for one in containers) else "Pending"


def _conditions(at: str, generation: int, *, ready: bool) -> Iterable[Object]:
    for kind in _CONDITIONS:
        holds = ready or kind not in ("Ready", "ContainersReady")
        yield {
            "type": kind,
            "observedGeneration": generation,
            "status": "True" if holds else "False",
            "lastProbeTime": None,
            "lastTransitionTime": at,
        }


def _container_status(one: ContainerState) -> Object:
    status = {
        "name": one.name,
        "state": one.state,
        "lastState": one.last,
        "ready": one.running and not one.ephemeral,
        "restartCount": one.restarts,
        "image": one.image,
        "imageID": f"sha256:{_digest(one.image)}" if one.identity else "",
    }
    if one.identity:
        status["containerID"] = one.identity
    if not one.ephemeral:
        status["started"] = one.running
    return {**status, "resources": {}}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
