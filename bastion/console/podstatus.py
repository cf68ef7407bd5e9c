"""READY, STATUS and RESTARTS of a pod as `kubectl get pods` says them (pure); used by console.listing, description.

One word for a pod: why it is not running if it is not, and else the phase. Worked out from what kubectl 1.36 prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion.podfacts import ContainerKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.podfacts import ContainerFacts, PodFacts, Terminated

_NODE_LOST = "NodeLost"


def ready(pod: PodFacts) -> str:
    """How many of its containers are ready, "1/2"; sidecars are among them, other init containers are not."""
    counted = [one for one in pod.containers if one.kind is ContainerKind.REGULAR or one.sidecar]
    return f"{sum(one.ready and one.running for one in counted)}/{len(counted)}"


def restarts(pod: PodFacts) -> int:
    """How often its containers were started again; of init containers only while the pod begins."""
    init, regular = _of(pod, ContainerKind.INIT), _of(pod, ContainerKind.REGULAR)
    if _initializing(init, regular):
        return sum(one.restarts for one in init)
    return sum(one.restarts for one in (*(one for one in init if one.sidecar), *regular))


def status(pod: PodFacts) -> str:
    """The one word: Running, CrashLoopBackOff, Completed, Terminating, Init:0/1, Evicted and so on."""
    if pod.deleting and pod.reason == _NODE_LOST:
        return "Unknown"
    if pod.deleting and pod.phase not in {"Succeeded", "Failed"}:
        return "Terminating"
    init, regular = _of(pod, ContainerKind.INIT), _of(pod, ContainerKind.REGULAR)
    said = _initializing(init, regular) or _of_regular(pod, regular)
    return said or pod.reason or pod.phase or "Unknown"


def _initializing(init: Sequence[ContainerFacts], regular: Sequence[ContainerFacts]) -> str:
    """What the first init container that is not done is at; "" once the pod is past them."""
    if any(one.container_id for one in regular):  # a regular container began, so they were done
        return ""
    for at, one in enumerate(init):
        if (one.ended is not None and one.ended.exit_code == 0) or (one.sidecar and one.running):
            continue
        if one.ended is not None:
            return f"Init:{_how(one.ended)}"
        if one.waiting and one.waiting != "PodInitializing":
            return f"Init:{one.waiting}"
        return f"Init:{at}/{len(init)}"
    return ""


def _of_regular(pod: PodFacts, regular: Sequence[ContainerFacts]) -> str:
    """The reason of the first container that does not run; "" if there is none."""
    reasons = [one.waiting or (_how(one.ended) if one.ended else "") for one in regular]
    said = next((reason for reason in reasons if reason), "")
    if said == "Completed" and any(one.running and one.ready for one in regular):
        return "Running" if pod.ready else "NotReady"
    return said


def _how(ended: Terminated) -> str:
    return ended.reason or f"ExitCode:{ended.exit_code}"


def _of(pod: PodFacts, kind: ContainerKind) -> list[ContainerFacts]:
    return [one for one in pod.containers if one.kind is kind]
