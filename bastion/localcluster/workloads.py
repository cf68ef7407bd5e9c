"""The shapes of what makes pods, and of the pods it makes; used by seed, objects, rollouts and podmakers.

Deployments and ReplicaSets have the keys of recorded objects (tests/data/kube-wire: deployment-get, replicasets-list),
without managedFields.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, podspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.localcluster.store import Object


HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
KINDS = (kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.STATEFUL_SET, kinds.DAEMON_SET, kinds.JOB)
"""What makes pods."""

_DEFAULTS: Mapping[kinds.Kind, Object] = {
    kinds.DEPLOYMENT: {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    },
    kinds.REPLICA_SET: {"replicas": 1},
    kinds.STATEFUL_SET: {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "revisionHistoryLimit": 10,
    },
    kinds.DAEMON_SET: {
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        "revisionHistoryLimit": 10,
    },
    kinds.JOB: {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed"},
}


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
            "annotations": {REVISION: "1"},
        },
        "spec": {
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": {"metadata": {"labels": labels}, "spec": podspec.template_spec(containers)},
            **_DEFAULTS[kinds.DEPLOYMENT],
            "replicas": replicas,
        },
    }


def completed(kind: kinds.Kind, value: Object) -> Object:
    """One of KINDS that somebody made, with what an API server adds."""
    spec, metadata = value["spec"], {**value["metadata"], "generation": 1}
    template = spec["template"]
    inner = template["spec"]
    shape = podspec.template_spec(inner["containers"])
    template = {**template, "spec": {**shape, **inner, "containers": shape["containers"]}}
    labels = {"labels": template["metadata"]["labels"]} if kind is not kinds.JOB and "labels" not in metadata else {}
    return {
        **value,
        "metadata": {**metadata, **labels},
        "spec": {**_DEFAULTS[kind], **spec, "template": template},
    }


def replica_set(of: Object, template_hash: str, revision: int = 1) -> Object:
    """A ReplicaSet of a Deployment, for the pods of its template as it is now."""
    metadata, spec = of["metadata"], of["spec"]
    replicas = spec.get("replicas", 1)
    mark = {HASH: template_hash}
    labels = {**spec["template"]["metadata"]["labels"], **mark}
    template = {"metadata": {**spec["template"]["metadata"], "labels": labels}, "spec": spec["template"]["spec"]}
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
                "deployment.kubernetes.io/max-replicas": str(replicas + surge(replicas)),
                REVISION: str(revision),
            },
            "ownerReferences": [_owner(of)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {**spec["selector"]["matchLabels"], **mark}},
            "template": template,
        },
    }


def is_made_from(replica_set: Object, template: Object) -> bool:
    """Whether a ReplicaSet is the one for a Deployment's template, whatever its hash is called."""
    own = replica_set["spec"]["template"]
    labels = {key: value for key, value in own["metadata"]["labels"].items() if key != HASH}
    return bool(own["spec"] == template["spec"] and {**own["metadata"], "labels": labels} == template["metadata"])


def pod_of(of: Object, suffix: str, labels: dict[str, str] | None = None) -> Object:
    """A new pod of what makes pods; `labels` beside those of its template."""
    prefix = f"{of['metadata']['name']}-"
    template = of["spec"]["template"]
    metadata = {
        **(template.get("metadata") or {}),
        "name": f"{prefix}{suffix}",
        "generateName": prefix,
        "namespace": of["metadata"]["namespace"],
        "labels": {**((template.get("metadata") or {}).get("labels") or {}), **(labels or {})},
        "ownerReferences": [_owner(of)],
    }
    return podspec.pending({"metadata": metadata, "spec": template["spec"]})


def surge(replicas: int) -> int:
    """How many pods a rollout may have beyond that number: a quarter, rounded up."""
    return -(-replicas // 4)


def template_hash(template: Object) -> str:
    """What tells the pods of one template from those of another."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def owner_uid(value: Object) -> str:
    """The uid of an object's controller; "" if it has none."""
    references = value["metadata"].get("ownerReferences", ())
    return next((str(one["uid"]) for one in references if one.get("controller")), "")


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
