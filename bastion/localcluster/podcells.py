"""What `kubectl get pods` says of a pod in its columns; used by tables. Pure.

The words are those of the API server's printer (Kubernetes, pkg/printers/internalversion, printPod).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.localcluster import podspec

if TYPE_CHECKING:
    from bastion.localcluster.store import Object


def ready(pod: Object) -> str:
    """How many containers are ready, of how many."""
    return f"{sum(1 for one in containers(pod) if one['ready'])}/{len(pod['spec']['containers'])}"


def containers(pod: Object) -> list[Object]:
    """The states of a pod's own containers."""
    listed: list[Object] = pod.get("status", {}).get("containerStatuses", [])
    return listed


def state(pod: Object) -> str:
    """One word for how it is."""
    if podspec.is_deleting(pod) and not podspec.is_finished(pod):
        return "Terminating"
    status = pod.get("status", {})
    if status.get("reason"):
        return str(status["reason"])
    if podspec.is_gated(pod):
        return "SchedulingGated"
    if initializing := _initializing(pod):
        return initializing
    for one in containers(pod):
        if reason := _reason(one["state"]):
            return reason
    return str(status.get("phase", "Unknown"))


def _initializing(pod: Object) -> str:
    """What the first init container that is not done says; "" if there is none."""
    sidecars = {one["name"] for one in pod["spec"].get("initContainers", ()) if one.get("restartPolicy") == "Always"}
    statuses = pod.get("status", {}).get("initContainerStatuses", [])
    for index, one in enumerate(statuses):
        ended: Any = one["state"].get("terminated")
        if (ended and ended["exitCode"] == 0) or (one["name"] in sidecars and one["started"]):
            continue
        reason = _reason(one["state"])
        return f"Init:{reason}" if reason and reason != "PodInitializing" else f"Init:{index}/{len(statuses)}"
    return ""


def _reason(container: Object) -> str:
    """Why a container does not run; "" if it does."""
    return next((str(part["reason"]) for part in container.values() if "reason" in part), "")
