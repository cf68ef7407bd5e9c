"""What is known of a pod and of a workload, as values made from the API's JSON (pure); used by pods and console.

Only what a decision, a listing or an explanation needs is kept: a catalogue
holds ten thousand of these. Field names follow the API (core/v1 Pod).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bastion.model import Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    Object = Mapping[str, Any]
    """What the API serves, as its JSON."""

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
REVISION = "deployment.kubernetes.io/revision"

OVER = frozenset({"Succeeded", "Failed"})
"""Phases of a pod in which nothing runs any more, whatever its containers' states say."""


class ContainerKind(StrEnum):
    """The three lists of containers in a pod's spec."""

    REGULAR = "container"
    INIT = "init container"
    EPHEMERAL = "ephemeral container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    """How a run of a container ended: `state.terminated` or `lastState.terminated`."""

    reason: str
    exit_code: int
    message: str = ""
    container_id: str = ""
    """Which run it was, the runtime's id; "" if it never began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """One container at a moment.

    container_id: of the present run, "" before the first; another id is another run.
    beside: of an ephemeral container, the one whose processes it shares (targetContainerName), "" if none.
    sidecar: an init container that goes on beside the regular ones (restartPolicy Always, KEP-753).
    waiting: the reason it waits for ("CrashLoopBackOff"), "" if it does not; waiting_message goes with it.
    ended, last_ended: how this run, and the one before, ended.
    """

    name: str
    kind: ContainerKind
    image: str = ""
    beside: str = ""
    sidecar: bool = False
    running: bool = False
    ready: bool = False
    container_id: str = ""
    restarts: int = 0
    waiting: str = ""
    waiting_message: str = ""
    ended: Terminated | None = None
    last_ended: Terminated | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The controller of a pod or of a ReplicaSet; kind is `ReplicaSet`, `StatefulSet` and so on."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """A pod at a moment.

    created: `creationTimestamp` as it came, RFC 3339 in UTC, so it sorts by time.
    phase, reason, message: of its status ("Failed", "Evicted", "The node was low on resource: memory.").
    unscheduled: why no node has been found for it yet ("0/3 nodes are available: ..."), "" if one has.
    deleting: it has a deletionTimestamp.
    default_container: what its annotation names, "" without one.
    version: `resourceVersion`.
    host_network: it is in its node's own network.
    gated: others than its containers decide whether it is ready (spec.readinessGates).
    """

    namespace: str
    name: str
    uid: str
    created: str = ""
    version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    owner: Owner | None = None
    phase: str = ""
    reason: str = ""
    message: str = ""
    unscheduled: str = ""
    deleting: bool = False
    ready: bool = False
    default_container: str = ""
    host_network: bool = False
    gated: bool = False
    containers: tuple[ContainerFacts, ...] = ()

    def container(self, name: str) -> ContainerFacts | None:
        """The container of that name, of whichever kind."""
        return next((one for one in self.containers if one.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The pods that a workload makes, as far as a policy can tell them apart: its spec.template.

    containers: by name, init containers among them. host_network: as of a pod.
    """

    labels: Mapping[str, str]
    containers: tuple[str, ...]
    host_network: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """A Deployment, StatefulSet, DaemonSet, Job or ReplicaSet: enough to go from its name to its pods.

    kind: as logins say it: "deploy", "sts", "ds", "job", and "rs", which no login says.
    replicas: how many pods are wanted; None for kinds that do not say.
    revision: of a ReplicaSet, its Deployment's count of roll-outs; a roll-back makes an older one the newest. Else 0.
    template: None if it has none that can be read, and for a ReplicaSet, which nobody names.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    created: str = ""
    owner: Owner | None = None
    replicas: int | None = None
    revision: int = 0
    template: Template | None = None


def pod_facts(pod: Object) -> PodFacts:
    """The facts of a pod, from its JSON."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    return PodFacts(
        namespace=_shared(metadata["namespace"]),
        name=str(metadata["name"]),
        uid=str(metadata["uid"]),
        created=str(metadata.get("creationTimestamp") or ""),
        version=str(metadata.get("resourceVersion") or ""),
        labels=_labels(metadata),
        node=_shared(spec.get("nodeName") or ""),
        owner=_owner(metadata),
        phase=_shared(status.get("phase") or ""),
        reason=_shared(status.get("reason") or ""),
        message=str(status.get("message") or ""),
        unscheduled=_unscheduled(status),
        deleting=metadata.get("deletionTimestamp") is not None,
        ready=any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in status.get("conditions") or ()
        ),
        default_container=_shared((metadata.get("annotations") or {}).get(DEFAULT_CONTAINER) or ""),
        host_network=bool(spec.get("hostNetwork")),
        gated=bool(spec.get("readinessGates")),
        containers=tuple(_containers(spec, status)),
    )


def target_of(pod: PodFacts, container: str) -> Target:
    """A container of a pod as a target."""
    known = pod.container(container)
    return Target(
        namespace=pod.namespace,
        pod=pod.name,
        pod_uid=pod.uid,
        container=container,
        labels=pod.labels,
        node=pod.node,
        host_network=pod.host_network,
        ephemeral=known is not None and known.kind is ContainerKind.EPHEMERAL,
        beside=known.beside if known is not None else "",
    )


def targets_of(workload: WorkloadFacts) -> Iterator[Target]:
    """The containers of a pod as a workload would make it, as targets that no pod has; none without a template.

    A pod may get more labels and containers than these as it is made.
    """
    template = workload.template
    if template is None:
        return
    for container in template.containers:
        yield Target(
            namespace=workload.namespace,
            pod="",
            pod_uid="",
            container=container,
            labels=template.labels,
            host_network=template.host_network,
        )


def names_any(text: str, containers: Iterable[str]) -> bool:
    """Whether a text holds the name of one of some containers as a word, whatever else the word may mean there."""
    return any(re.search(rf"(?<![a-z0-9-]){re.escape(name)}(?![a-z0-9-])", text) for name in containers)


def without_naming(text: str, containers: Collection[str]) -> str:
    """What is left of a message of the cluster's without the sentences that name one of some containers.

    A kubelet says of an evicted pod, in a sentence each, how much the containers used.
    """
    sentences = re.split(r"(?<=\.)\s+", text.strip())
    return " ".join(sentence for sentence in sentences if not names_any(sentence, containers))


def workload_facts(kind: str, item: Object) -> WorkloadFacts:
    """The facts of a workload, from its JSON; `kind` as logins say it."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    revision = str((metadata.get("annotations") or {}).get(REVISION) or "0")
    return WorkloadFacts(
        kind=kind,
        namespace=_shared(metadata["namespace"]),
        name=str(metadata["name"]),
        uid=str(metadata["uid"]),
        created=str(metadata.get("creationTimestamp") or ""),
        owner=_owner(metadata),
        replicas=spec.get("replicas"),
        revision=int(revision) if revision.isascii() and revision.isdigit() else 0,
        template=_template(spec.get("template")) if kind != "rs" else None,
    )


def _template(template: Object | None) -> Template | None:
    if template is None:
        return None
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    lists = (spec.get(specs) or () for _, specs, _ in _LISTS)
    return Template(
        labels=_labels(metadata),
        containers=tuple(_shared(one["name"]) for those in lists for one in those),
        host_network=bool(spec.get("hostNetwork")),
    )


_LISTS = (
    (ContainerKind.REGULAR, "containers", "containerStatuses"),
    (ContainerKind.INIT, "initContainers", "initContainerStatuses"),
    (ContainerKind.EPHEMERAL, "ephemeralContainers", "ephemeralContainerStatuses"),
)


def _containers(spec: Object, status: Object) -> Iterator[ContainerFacts]:
    for kind, specs, statuses in _LISTS:
        known = {one["name"]: one for one in status.get(statuses) or ()}
        for one in spec.get(specs) or ():
            yield _container(kind, one, known.get(one["name"], {}))


def _container(kind: ContainerKind, spec: Object, status: Object) -> ContainerFacts:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting = state.get("waiting") or {}
    return ContainerFacts(
        name=_shared(spec["name"]),
        kind=kind,
        image=_shared(spec.get("image") or ""),
        beside=_shared(spec.get("targetContainerName") or ""),
        sidecar=kind is ContainerKind.INIT and spec.get("restartPolicy") == "Always",
        running="running" in state,
        ready=bool(status.get("ready")),
        container_id=str(status.get("containerID") or ""),
        restarts=int(status.get("restartCount") or 0),
        waiting=_shared(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or ""),
        ended=_terminated(state),
        last_ended=_terminated(last),
    )


def _terminated(state: Object) -> Terminated | None:
    ended = state.get("terminated")
    if ended is None:
        return None
    return Terminated(
        reason=_shared(ended.get("reason") or ""),
        exit_code=int(ended.get("exitCode") or 0),
        message=str(ended.get("message") or ""),
        container_id=str(ended.get("containerID") or ""),
    )


def _unscheduled(status: Object) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "")
    return ""


def _labels(metadata: Object) -> dict[str, str]:
    return {_shared(key): _shared(value) for key, value in (metadata.get("labels") or {}).items()}


def _owner(metadata: Object) -> Owner | None:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return Owner(kind=_shared(owner["kind"]), name=str(owner["name"]), uid=str(owner["uid"]))
    return None


def _shared(text: Any) -> str:
    """One copy of a text that many objects hold."""
    return sys.intern(str(text))
