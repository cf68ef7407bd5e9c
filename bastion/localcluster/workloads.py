"""The shapes of Deployments and ReplicaSets, and of the pods they make; used by seed and controllers.

They have the keys of recorded objects (tests/data/kube-wire: deployment-get, replicasets-list), without managedFields.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, podspec

if TYPE_CHECKING:
    from bastion.localcluster.store import Object


def deployment(namespace: str, name: str, labels: dict[str, str], containers: list[Object], replicas: int) -> Object:
    """A Deployment; its pods are selected by their label `app`."""
    return {
        "kind": kinds.DEPLOYMENT.name,
        "apiVersion": kinds.DEPLOYMENT.api_version,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "generation": 1,
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": {"metadata": {"labels": labels}, "spec": podspec.template_spec(containers)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        },
    }


def deployment_status(of: Object) -> Object:
    """A Deployment's status, from its ReplicaSet's."""
    counts = of.get("status", {})
    ready = counts.get("readyReplicas", 0)
    enough = ready >= of["spec"]["replicas"]
    done = f'ReplicaSet "{of["metadata"]["name"]}" has successfully progressed.'
    available = ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    lacking = ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    conditions = [
        ("Progressing", True, "NewReplicaSetAvailable", done),
        ("Available", enough, *(available if enough else lacking)),
    ]
    return {
        "observedGeneration": 1,
        "replicas": counts.get("replicas", 0),
        "updatedReplicas": counts.get("replicas", 0),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "terminatingReplicas": 0,
        "conditions": [
            {"type": kind, "status": str(holds), "reason": reason, "message": message}
            for kind, holds, reason, message in conditions
        ],
    }


def replica_set(of: Object, template_hash: str) -> Object:
    """The one ReplicaSet of a Deployment."""
    metadata, spec = of["metadata"], of["spec"]
    replicas = spec.get("replicas", 1)
    mark = {"pod-template-hash": template_hash}
    labels = {**spec["template"]["metadata"]["labels"], **mark}
    return {
        "kind": kinds.REPLICA_SET.name,
        "apiVersion": kinds.REPLICA_SET.api_version,
        "metadata": {
            "name": f"{metadata['name']}-{template_hash}",
            "namespace": metadata["namespace"],
            "generation": 1,
            "labels": labels,
            "annotations": {
                "deployment.kubernetes.io/desired-replicas": str(replicas),
                "deployment.kubernetes.io/max-replicas": str(replicas + 1),
                "deployment.kubernetes.io/revision": "1",
            },
            "ownerReferences": [_owner(of)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {**spec["selector"]["matchLabels"], **mark}},
            "template": {"metadata": {"labels": labels}, "spec": spec["template"]["spec"]},
        },
    }


def replica_set_status(pods: list[Object]) -> Object:
    """A ReplicaSet's status, from its pods."""
    ready = sum(1 for pod in pods if podspec.is_ready(pod))
    return {
        "replicas": len(pods),
        "fullyLabeledReplicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "terminatingReplicas": 0,
        "observedGeneration": 1,
    }


def pod_of(of: Object, suffix: str) -> Object:
    """A new pod of a ReplicaSet."""
    prefix = f"{of['metadata']['name']}-"
    template = of["spec"]["template"]
    metadata = {
        "name": f"{prefix}{suffix}",
        "generateName": prefix,
        "namespace": of["metadata"]["namespace"],
        "labels": template["metadata"]["labels"],
        "ownerReferences": [_owner(of)],
    }
    return podspec.pending({"metadata": metadata, "spec": template["spec"]})


def template_hash(template: Object) -> str:
    """What tells the ReplicaSets of a Deployment apart."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def owners_of(value: Object, kind: kinds.Kind) -> set[str]:
    """The uids of an object's owners of a kind."""
    references = value["metadata"].get("ownerReferences", ())
    return {one["uid"] for one in references if one["kind"] == kind.name}


def _owner(value: Object) -> Object:
    """The reference by which a controlled object names its controller."""
    return {
        "apiVersion": value["apiVersion"],
        "kind": value["kind"],
        "name": value["metadata"]["name"],
        "uid": value["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
