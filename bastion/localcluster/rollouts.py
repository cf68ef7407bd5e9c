"""Deployments: a ReplicaSet for each template, the newest replacing the others in steps; used by controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion.localcluster import kinds, workloads

if TYPE_CHECKING:
    from bastion.localcluster.store import Object, Store


def see_to(store: Store, deployment: Object, owned: list[Object]) -> None:
    """Bring a Deployment's ReplicaSets (`owned`) a step nearer to what it asks for, and count their pods."""
    newest = next((one for one in owned if workloads.is_made_from(one, deployment["spec"]["template"])), None)
    if newest is None:
        newest = _begin(store, deployment, owned)
        owned = [*owned, newest]
    deployment = _numbered(store, deployment, newest)
    for replica_set, replicas in _step(deployment, newest, owned):
        if replica_set["spec"]["replicas"] != replicas:
            spec = {**replica_set["spec"], "replicas": replicas}
            store.replace(kinds.REPLICA_SET, {**replica_set, "spec": spec})
    status = _status(deployment, newest, owned)
    if deployment.get("status") != status:
        store.replace(kinds.DEPLOYMENT, {**deployment, "status": status})


def _begin(store: Store, deployment: Object, owned: list[Object]) -> Object:
    """The ReplicaSet of a new template, which has no pods yet if there are others."""
    revision = 1 + max((_revision(one) for one in owned), default=0)
    template_hash = workloads.template_hash(deployment["spec"]["template"])
    value = workloads.replica_set(deployment, template_hash, revision)
    if owned:
        value = {**value, "spec": {**value["spec"], "replicas": 0}}
    return store.create(kinds.REPLICA_SET, value)


def _numbered(store: Store, deployment: Object, newest: Object) -> Object:
    """The Deployment with the revision of its newest ReplicaSet."""
    metadata = deployment["metadata"]
    annotations = {**(metadata.get("annotations") or {}), workloads.REVISION: str(_revision(newest))}
    if metadata.get("annotations") == annotations:
        return deployment
    return store.replace(kinds.DEPLOYMENT, {**deployment, "metadata": {**metadata, "annotations": annotations}})


def _step(deployment: Object, newest: Object, owned: list[Object]) -> list[tuple[Object, int]]:
    """How many pods each ReplicaSet is to have now: never too many in all, and never too few that are ready."""
    wanted: int = deployment["spec"]["replicas"]
    others = [one for one in owned if one is not newest]
    old = sum(_counted(one, "replicas") for one in others)
    recreate = deployment["spec"]["strategy"].get("type") == "Recreate"
    room = wanted if not others else max(0, wanted + (0 if recreate else workloads.surge(wanted)) - old)
    steps = [(newest, min(wanted, 0 if recreate and old else room))]
    spare = sum(_counted(one, "readyReplicas") for one in owned) - (wanted - wanted // 4)
    for one in others:
        replicas: int = one["spec"]["replicas"]
        unready = replicas - min(replicas, _counted(one, "readyReplicas"))
        fewer = replicas if recreate else min(replicas, unready + max(0, spare))
        spare -= fewer - unready
        steps.append((one, replicas - fewer))
    return steps


def _status(deployment: Object, newest: Object, owned: list[Object]) -> Object:
    replicas, ready = (sum(_counted(one, key) for one in owned) for key in ("replicas", "readyReplicas"))
    wanted, updated = deployment["spec"]["replicas"], _counted(newest, "replicas")
    enough = ready >= wanted - wanted // 4
    name = newest["metadata"]["name"]
    rolled_out = updated == replicas == wanted == ready
    done = ("NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
    going = ("ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    available = ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    lacking = ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    conditions = [
        ("Progressing", True, *(done if rolled_out else going)),
        ("Available", enough, *(available if enough else lacking)),
    ]
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "terminatingReplicas": sum(_counted(one, "terminatingReplicas") for one in owned),
        "conditions": [
            {"type": kind, "status": str(holds), "reason": reason, "message": message}
            for kind, holds, reason, message in conditions
        ],
    }


def _counted(replica_set: Object, key: str) -> int:
    count: int = replica_set.get("status", {}).get(key, 0)
    return count


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(workloads.REVISION, "1"))
