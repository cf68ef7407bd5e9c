"""What became of a pod and of a container in it, as a sentence for the person who was there (pure); used by pods.

A status frame says 137 and a broken stream says nothing: the pod's own status
says why (recorded fields of core/v1 PodStatus).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.podfacts import ContainerKind, without_naming

if TYPE_CHECKING:
    from bastion.model import Target
    from bastion.podfacts import ContainerFacts, PodFacts, Terminated

OOM_KILLED = "OOMKilled"
COMPLETED = "Completed"
"""The reason of a container that ended with 0 (core/v1 ContainerStateTerminated)."""

KUBELET_IDLE_S = 4 * 3600
"""The kubelet cuts a stream that was idle for so long (its streamingConnectionIdleTimeout)."""

_NEARLY = 0.99


def fate(begun: PodFacts, now: PodFacts | None, container: str) -> str:
    """What has ended a session in a container, for certain; "" while it may go on.

    begun: the pod when the session began; now: what it is, None if it is gone.
    Of what the cluster says of the pod nothing is told that names another of its containers: who is in this one may
    not be meant to know of that.
    """
    if now is None:
        return f"pod {begun.name} was deleted"
    if now.uid != begun.uid:
        return f"pod {begun.name} was deleted, and another of that name is there now"
    if _failed(now):
        what = "was evicted" if now.reason == "Evicted" else f"failed ({now.reason})"
        message = without_naming(now.message, [one.name for one in now.containers if one.name != container])
        return f"pod {begun.name} {what}" + (f": {message}" if message else "")
    return _run_ended(begun.container(container), now.container(container))


def explanation(begun: PodFacts, now: PodFacts | None, container: str) -> str:
    """The same for a session that has ended already: what is under way explains it too.

    A pod that is being deleted takes its containers along, so how they end is no news.
    """
    if now is not None and now.uid == begun.uid and now.deleting and not _failed(now):
        return fate(begun, None, container)
    return fate(begun, now, container)


def is_done(begun: PodFacts, now: PodFacts | None, container: str) -> bool:
    """Whether the container's run ended by itself, and well, in a pod that stays."""
    was = begun.container(container)
    then = None if now is None or now.deleting or now.reason else now.container(container)
    if was is None or then is None or not was.container_id:
        return False
    return any(
        run is not None and run.container_id == was.container_id and run.reason == COMPLETED
        for run in (then.ended, then.last_ended)
    )


def runs(now: PodFacts | None, container: str) -> bool:
    """Whether a container runs in a pod that stays: what ended in it was not taken away with it."""
    found = None if now is None or now.deleting else now.container(container)
    return found is not None and found.running


def is_doubtful(now: PodFacts | None) -> bool:
    """Whether a pod looks as one does whose node has fallen silent: all of it ready, and yet it is not.

    The cluster finds that out after some 50 s and sets the pod's Ready condition alone; nobody is left to tell of its
    containers.
    """
    if now is None or now.phase != "Running" or now.ready or now.gated:
        return False
    return all(one.ready for one in now.containers if one.kind is ContainerKind.REGULAR)


def idle_cut(idle_s: float) -> str:
    """Why a stream broke on which nothing had passed for so long; "" if that is no reason."""
    if idle_s < KUBELET_IDLE_S * _NEARLY:
        return ""
    return f"nothing was sent for {idle_s / 3600:.0f} hours, and the node ends streams that are idle for so long"


def well(pod: str, *, then: str) -> str:
    """What is said where nothing explains an end. then: what to do, "connect again"."""
    return f"though pod {pod} is well; the API server may have been restarted: {then}"


def node_away(target: Target) -> str:
    """What is said of a pod whose node the API server cannot reach."""
    return f"{_node(target)} cannot be reached by the API server"


def node_silent(target: Target) -> str:
    """What is said where the API server answers, and nothing comes of what it passed on to a pod's node."""
    return f"{_node(target)} does not answer; try again in a moment"


def unchanged(target: Target, now: PodFacts | None, *, then: str = "connect again") -> PodFacts:
    """The same pod, if it is still what was decided about: what the policy looks at is the same.

    The catalogue may have heard of other labels than it has by now. Arguments and errors are those of `same`.
    """
    pod = same(target, now, then=then)
    if (pod.labels, pod.host_network) != (target.labels, target.host_network):
        raise BastionError(Code.TARGET_MISSING, changed(target, "changed meanwhile", then=then))
    return pod


def same(target: Target, now: PodFacts | None, *, then: str) -> PodFacts:
    """The pod of a target's name, if it is the one with the target's UID.

    now: the pod as the API server has it, None if there is none. then: what to do, or what follows, if it is not.
    Raises BastionError (TARGET_MISSING).
    """
    if now is not None and now.uid == target.pod_uid:
        return now
    how = "deleted" if now is None else "replaced by another of that name"
    raise BastionError(Code.TARGET_MISSING, changed(target, how, then=then))


def changed(target: Target, how: str, *, then: str = "connect again") -> str:
    """What is said before a session begins, of a pod that is not any more as it was when it was found."""
    return f"pod {target.pod} in namespace {target.namespace} was {how}; {then}"


def _node(target: Target) -> str:
    return f"the node of pod {target.pod}" + (f" ({target.node})" if target.node else "")


def _failed(now: PodFacts) -> bool:
    return now.phase == "Failed" and bool(now.reason)


def _run_ended(was: ContainerFacts | None, now: ContainerFacts | None) -> str:
    if was is None or now is None or not was.container_id:
        return ""
    for run in (now.ended, now.last_ended):
        if run is not None and run.container_id == was.container_id:
            return _how(now.name, run, again=now.running)
    if now.container_id in {was.container_id, ""}:
        return ""
    if now.last_ended is None:
        return f"container {now.name} was restarted"
    return _how(now.name, now.last_ended, again=now.running)


def _how(name: str, ended: Terminated, *, again: bool) -> str:
    if ended.reason == OOM_KILLED:
        return f"container {name} was OOM-killed"
    how = "by itself" if ended.reason == COMPLETED else f"with status {ended.exit_code}"
    return f"container {name} ended {how}" + (" and was restarted" if again else "")
