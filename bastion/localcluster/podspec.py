"""The shapes of pods, ReplicaSets and Deployments that run; used by seed and runtime.

They have the keys of recorded objects (tests/data/kube-wire: pod-get, replicasets-list, deployment-get), without
managedFields and the volumes that every pod gets.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bastion.localcluster.store import Object, Store

Containers = tuple[tuple[str, str], ...]
"""Names and images."""

NODE = "local-node"
NODE_IP = "127.0.0.1"

_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def create(store: Store, metadata: dict[str, Any], containers: Containers) -> Object:
    """Put a running pod into the store."""
    pod = {"kind": kinds.POD.name, "apiVersion": "v1", "metadata": metadata, "spec": _pod_spec(containers)}
    pod = store.create(kinds.POD, pod)
    return store.replace(kinds.POD, {**pod, "status": _status(pod)})


def restarted(pod: Object, container: str, *, exit_code: int, at: str) -> Object:
    """A pod one of whose containers died and was started again; `at` is when."""
    old = pod["status"]["containerStatuses"]
    statuses = [_restarted(one, exit_code, at) if one["name"] == container else one for one in old]
    return {**pod, "status": {**pod["status"], "containerStatuses": statuses}}


def owner(value: Object) -> Object:
    """The reference by which a controlled object names its controller."""
    return {
        "apiVersion": value["apiVersion"],
        "kind": value["kind"],
        "name": value["metadata"]["name"],
        "uid": value["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def deployment(  # noqa: PLR0913, PLR0917 - the parts of a Deployment, no more
    namespace: str, name: str, labels: dict[str, str], containers: Containers, replicas: int, template_hash: str
) -> Object:
    """A Deployment that is complete."""
    done = f'ReplicaSet "{name}-{template_hash}" has successfully progressed.'
    conditions = [
        ("Progressing", "NewReplicaSetAvailable", done),
        ("Available", "MinimumReplicasAvailable", "Deployment has minimum availability."),
    ]
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
            "template": {"metadata": {"labels": labels}, "spec": _template_spec(containers)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        },
        "status": {
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "terminatingReplicas": 0,
            "conditions": [
                {"type": kind, "status": "True", "reason": reason, "message": message}
                for kind, reason, message in conditions
            ],
        },
    }


def replica_set(of: Object, template_hash: str) -> Object:
    """The one ReplicaSet of a Deployment."""
    metadata, spec = of["metadata"], of["spec"]
    replicas = spec["replicas"]
    mark = {"pod-template-hash": template_hash}
    labels = {**metadata["labels"], **mark}
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
            "ownerReferences": [owner(of)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {**spec["selector"]["matchLabels"], **mark}},
            "template": {"metadata": {"labels": labels}, "spec": spec["template"]["spec"]},
        },
        "status": {
            "replicas": replicas,
            "fullyLabeledReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "terminatingReplicas": 0,
            "observedGeneration": 1,
        },
    }


def _template_spec(containers: Containers) -> Object:
    return {
        "containers": [
            {
                "name": name,
                "image": image,
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Never",
            }
            for name, image in containers
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }


def _pod_spec(containers: Containers) -> Object:
    tolerated = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    return {
        **_template_spec(containers),
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "nodeName": NODE,
        "tolerations": [{"key": key, **tolerated} for key in _TOLERATED],
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def _status(pod: Object) -> Object:
    metadata = pod["metadata"]
    at = metadata["creationTimestamp"]
    since = {"observedGeneration": 1, "status": "True", "lastProbeTime": None, "lastTransitionTime": at}
    return {
        "observedGeneration": 1,
        "phase": "Running",
        "conditions": [{"type": kind, **since} for kind in _CONDITIONS],
        "hostIP": NODE_IP,
        "hostIPs": [{"ip": NODE_IP}],
        "podIP": NODE_IP,
        "podIPs": [{"ip": NODE_IP}],
        "startTime": at,
        "containerStatuses": list(_container_statuses(metadata["uid"], at, pod["spec"]["containers"])),
        "qosClass": "BestEffort",
    }


def _container_statuses(uid: str, at: str, containers: Iterable[Object]) -> Iterable[Object]:
    for container in sorted(containers, key=lambda one: str(one["name"])):
        name, image = container["name"], container["image"]
        yield {
            "name": name,
            "state": {"running": {"startedAt": at}},
            "lastState": {},
            "ready": True,
            "restartCount": 0,
            "image": image,
            "imageID": f"sha256:{_digest(image)}",
            "containerID": _container_id(uid, name, 0),
            "started": True,
            "resources": {},
        }


def _restarted(status: Object, exit_code: int, at: str) -> Object:
    count = status["restartCount"] + 1
    ended = {
        "exitCode": exit_code,
        "reason": "Error",
        "startedAt": status["state"]["running"]["startedAt"],
        "finishedAt": at,
        "containerID": status["containerID"],
    }
    return {
        **status,
        "state": {"running": {"startedAt": at}},
        "lastState": {"terminated": ended},
        "restartCount": count,
        "containerID": _container_id(status["containerID"], status["name"], count),
    }


def _container_id(seed: str, name: str, count: int) -> str:
    return f"containerd://{_digest(f'{seed}/{name}/{count}')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
