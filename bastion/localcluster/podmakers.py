"""What makes pods, each in its own way: ReplicaSets, StatefulSets, DaemonSets and Jobs; used by controllers.

Each function makes the pods that lack, counts those that are there, and returns those that are too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion.localcluster import kinds, podspec, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.localcluster.kinds import Kind
    from bastion.localcluster.store import Object, Store

_GENERATION = "controller-revision-hash"


class PodMakers:
    """The four. new_suffix: five characters for a pod's name."""

    def __init__(self, store: Store, new_suffix: Callable[[], str]) -> None:
        self._store = store
        self._new_suffix = new_suffix

    def see_to(self, kind: Kind, value: Object, pods: list[Object]) -> list[Object]:
        """See to an object that has these pods."""
        match kind:
            case kinds.REPLICA_SET:
                return self._replica_set(value, pods)
            case kinds.STATEFUL_SET:
                return self._stateful_set(value, pods)
            case kinds.DAEMON_SET:
                return self._daemon_set(value, pods)
            case _:
                return self._job(value, pods)

    def _replica_set(self, value: Object, pods: list[Object]) -> list[Object]:
        """So many, of whatever names; the one that is needed least goes first."""
        living, wanted = _living(pods), value["spec"]["replicas"]
        for _ in range(wanted - len(living)):
            living.append(self._create(value, self._new_suffix()))
        living.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        living.sort(key=lambda pod: not podspec.is_ready(pod))
        kept = living[:wanted]
        ready = _ready(kept)
        self._count(
            kinds.REPLICA_SET,
            value,
            replicas=len(kept),
            fullyLabeledReplicas=len(kept),
            readyReplicas=ready,
            availableReplicas=ready,
            terminatingReplicas=sum(1 for pod in pods if podspec.is_deleting(pod)),
        )
        return living[wanted:]

    def _stateful_set(self, value: Object, pods: list[Object]) -> list[Object]:
        """Numbered from 0: each is made when those before it are ready, and goes when those after it are gone."""
        revision = workloads.template_hash(value["spec"]["template"])
        wanted: int = value["spec"]["replicas"]
        named = {pod["metadata"]["name"]: pod for pod in pods}
        places = [f"{value['metadata']['name']}-{ordinal}" for ordinal in range(wanted)]
        in_order = value["spec"]["podManagementPolicy"] == "OrderedReady"
        self._count_set(value, revision, pods)
        for ordinal, name in enumerate(places):
            pod = named.get(name)
            if pod is None:
                pod = self._create(value, str(ordinal), revision=revision)
            elif podspec.is_finished(pod) and not podspec.is_deleting(pod):
                return [pod]
            if in_order and not (podspec.is_ready(pod) and not podspec.is_deleting(pod)):
                return []
        surplus = sorted((pod for name, pod in named.items() if name not in places), key=_ordinal)
        stale = [named[name] for name in places if name in named and not _is_of(named[name], revision)]
        going = [pod for pod in pods if podspec.is_deleting(pod)]
        return [] if going else (surplus or stale)[-1:]

    def _daemon_set(self, value: Object, pods: list[Object]) -> list[Object]:
        """One on the one node."""
        revision = workloads.template_hash(value["spec"]["template"])
        living = _living(pods)
        if not living and not pods:
            living = [self._create(value, self._new_suffix(), revision=revision)]
        ready = _ready(living)
        self._count(
            kinds.DAEMON_SET,
            value,
            currentNumberScheduled=len(living),
            desiredNumberScheduled=1,
            updatedNumberScheduled=sum(1 for pod in living if _is_of(pod, revision)),
            numberAvailable=ready,
            numberReady=ready,
            numberMisscheduled=0,
        )
        return [pod for pod in pods if not podspec.is_deleting(pod) and not (pod in living and _is_of(pod, revision))]

    def _job(self, value: Object, pods: list[Object]) -> list[Object]:
        """One that succeeds, and another one instead of each that failed, up to its limit."""
        if "selector" not in value["spec"]:
            selector = {"matchLabels": {"batch.kubernetes.io/controller-uid": value["metadata"]["uid"]}}
            value = self._store.replace(kinds.JOB, {**value, "spec": {**value["spec"], "selector": selector}})
        phases = [pod.get("status", {}).get("phase") for pod in pods]
        failed, succeeded = phases.count("Failed"), phases.count("Succeeded")
        over = "Complete" if succeeded else "Failed" if failed > value["spec"]["backoffLimit"] else ""
        living = _living(pods)
        if not living and not over:
            name, uid = value["metadata"]["name"], value["metadata"]["uid"]
            marks = {"job-name": name, "controller-uid": uid}
            marks |= {f"batch.kubernetes.io/{key}": part for key, part in marks.items()}
            living = [self._create(value, self._new_suffix(), marks)]
        ended = {"conditions": [{"type": over, "status": "True"}]} if over else {}
        since = {"startTime": value["metadata"]["creationTimestamp"]}
        self._count(
            kinds.JOB,
            value,
            **since,
            active=len(living),
            ready=_ready(living),
            failed=failed,
            succeeded=succeeded,
            **ended,
        )
        return []

    def _create(self, of: Object, suffix: str, labels: dict[str, str] | None = None, *, revision: str = "") -> Object:
        marks = dict(labels or {})
        if revision:
            marks[_GENERATION] = f"{of['metadata']['name']}-{revision}"
        if of["kind"] == kinds.STATEFUL_SET.name:
            marks["statefulset.kubernetes.io/pod-name"] = f"{of['metadata']['name']}-{suffix}"
            marks["apps.kubernetes.io/pod-index"] = suffix
        return self._store.create(kinds.POD, workloads.pod_of(of, suffix, marks))

    def _count_set(self, value: Object, revision: str, pods: list[Object]) -> None:
        living = _living(pods)
        name = f"{value['metadata']['name']}-{revision}"
        updated, ready = sum(1 for pod in living if _is_of(pod, revision)), _ready(living)
        self._count(
            kinds.STATEFUL_SET,
            value,
            replicas=len(living),
            readyReplicas=ready,
            availableReplicas=ready,
            currentReplicas=updated,
            updatedReplicas=updated,
            currentRevision=name,
            updateRevision=name,
        )

    def _count(self, kind: Kind, value: Object, **counts: object) -> None:
        status = {"observedGeneration": value["metadata"]["generation"], **counts}
        if value.get("status") != status:
            self._store.replace(kind, {**value, "status": status})


def _living(pods: list[Object]) -> list[Object]:
    return [pod for pod in pods if not podspec.is_deleting(pod) and not podspec.is_finished(pod)]


def _ready(pods: list[Object]) -> int:
    return sum(1 for pod in pods if podspec.is_ready(pod))


def _is_of(pod: Object, revision: str) -> bool:
    return str(pod["metadata"]["labels"].get(_GENERATION, "")).endswith(f"-{revision}")


def _ordinal(pod: Object) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])
