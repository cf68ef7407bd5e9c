"""What is in the cluster when it starts: namespaces, pods, a Deployment and who may do what; used by __main__.

To add a pod or a role, add a line to one of the tables. Shapes follow recorded objects (tests/data/kube-wire/pod-get).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, namespaces, podspec, workloads
from bastion.localcluster.rbac import MASTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.localcluster.store import Object, Store

BASTION_NAMESPACE = BASTION_ACCOUNT = "bastion"

NAMESPACES: Mapping[str, dict[str, str]] = {
    "bastion": {},
    "default": {},
    "kube-node-lease": {},
    "kube-public": {},
    "kube-system": {},
    "prod": {"env": "prod"},
    "shop": {"team": "shop"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeed:
    """A pod; `containers` are names and images (images.py), `more` is what else stands in each one's spec."""

    namespace: str
    name: str
    labels: dict[str, str]
    containers: tuple[tuple[str, str], ...]
    annotations: dict[str, str] = field(default_factory=dict)
    more: Object = field(default_factory=dict)


PODS = (
    PodSeed(
        namespace="default",
        name="web",
        labels={"app": "web", "env": "dev"},
        containers=(("web", "local/web:1"),),
        more={"ports": [{"containerPort": 8080, "protocol": "TCP"}]},
    ),
    PodSeed(
        namespace="default",
        name="multi",
        labels={"app": "multi", "env": "dev"},
        containers=(("sidecar", "local/busybox:1"), ("app", "local/debian:1")),
        annotations={"kubectl.kubernetes.io/default-container": "app"},
    ),
    PodSeed(
        namespace="default",
        name="distroless",
        labels={"app": "distroless", "env": "dev"},
        containers=(("main", "local/distroless:1"),),
    ),
    PodSeed(
        namespace="prod",
        name="db",
        labels={"app": "db", "env": "prod", "team": "data"},
        containers=(("db", "local/debian:1"),),
    ),
)

API_HASH = "788b6f4684"
API_PODS = ("4fttr", "x59ld")
API_LABELS = {"app": "api", "team": "shop"}
API_COMMAND = ["sh", "-c", "echo listening; while sleep 20; do echo still here; done"]
API_CONTAINERS = [{"name": "api", "image": "local/busybox:1", "command": API_COMMAND}]

EXEC_RESOURCES = ["pods/exec", "pods/portforward", "pods/attach"]
WORKLOADS = ["deployments", "replicasets", "statefulsets", "daemonsets"]
READ = ["get", "list", "watch"]
METRICS = kinds.POD_METRICS.group
BOTH = ["get", "create"]


def rule(verbs: list[str], resources: list[str], group: str = "") -> Object:
    """One rule of a role."""
    return {"verbs": verbs, "apiGroups": [group], "resources": resources}


def user(name: str) -> Object:
    """A subject of a binding."""
    return {"kind": "User", "apiGroup": kinds.RBAC_GROUP, "name": name}


def group(name: str) -> Object:
    """A subject of a binding."""
    return {"kind": "Group", "apiGroup": kinds.RBAC_GROUP, "name": name}


def account(namespace: str, name: str) -> Object:
    """A subject of a binding."""
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


SHOP_ROLES: Mapping[str, list[Object]] = {
    "exec-both": [rule(BOTH, EXEC_RESOURCES)],
    "exec-create-only": [rule(["create"], EXEC_RESOURCES)],
    "exec-get-only": [rule(["get"], EXEC_RESOURCES)],
}
"""Roles of the recordings, in namespace shop."""

SHOP_BINDINGS: Mapping[str, tuple[str, list[Object]]] = {
    "alice": ("exec-both", [user("alice"), group("devs")]),
    "carol": ("exec-create-only", [user("carol")]),
    "dave": ("exec-get-only", [user("dave")]),
}

CLUSTER_ROLES: Mapping[str, list[Object]] = {
    "cluster-admin": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ],
    "system:public-info-viewer": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version"]},
    ],
    "system:discovery": [
        {"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/version"]},
    ],
    "system:basic-user": [
        rule(["create"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "authorization.k8s.io"),
        rule(["create"], ["selfsubjectreviews"], "authentication.k8s.io"),
    ],
    "bastion": [
        rule(READ, ["pods", "namespaces"]),
        rule(READ, WORKLOADS, "apps"),
        rule(READ, ["jobs"], "batch"),
        rule(READ, ["events"]),
        rule(["create"], ["subjectaccessreviews"], "authorization.k8s.io"),
        rule(["create"], ["tokenreviews"], "authentication.k8s.io"),
        rule(["impersonate"], ["users"]),
        {**rule(["impersonate"], ["groups"]), "resourceNames": ["bastion:engineer", "bastion:contractor", "devs"]},
        rule(["impersonate"], ["userextras/bastion-session"], "authentication.k8s.io"),
    ],
    "bastion:engineer": [
        rule(BOTH, ["pods/exec", "pods/portforward"]),
        rule(["get"], ["pods/log"]),
        rule(["get", "list"], ["pods", "events"]),
        rule(["get", "list"], ["pods"], METRICS),
        rule(["get", "patch"], ["pods/ephemeralcontainers"]),
    ],
    "bastion:contractor": [
        rule(["get"], ["pods", "pods/log"]),
        rule(["get", "list"], ["events"]),
        rule(["get", "list"], ["pods"], METRICS),
    ],
    "bastion:reaper": [rule(BOTH, ["pods/exec"])],
}

CLUSTER_BINDINGS: Mapping[str, tuple[str, list[Object]]] = {
    "cluster-admin": ("cluster-admin", [group(MASTERS)]),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        [group("system:authenticated"), group("system:unauthenticated")],
    ),
    "system:discovery": ("system:discovery", [group("system:authenticated")]),
    "system:basic-user": ("system:basic-user", [group("system:authenticated")]),
    "bastion": ("bastion", [account(BASTION_NAMESPACE, BASTION_ACCOUNT)]),
    "bastion:engineer": ("bastion:engineer", [group("bastion:engineer")]),
    "bastion:reaper": ("bastion:reaper", [user("bastion:reaper")]),
}

CONTRACTOR_BINDING = ("bastion:contractor", "shop", [group("bastion:contractor")])
"""A ClusterRole, and the one namespace in which its subjects have it."""


def fill(store: Store) -> None:
    """Put everything into an empty store."""
    for name, labels in NAMESPACES.items():
        store.create(kinds.NAMESPACE, _namespace(name, labels))
        store.create(kinds.SERVICE_ACCOUNT, namespaces.service_account(name, namespaces.DEFAULT_ACCOUNT))
    store.create(kinds.SERVICE_ACCOUNT, namespaces.service_account(BASTION_NAMESPACE, BASTION_ACCOUNT))
    for seed in PODS:
        metadata = {"name": seed.name, "namespace": seed.namespace, "labels": seed.labels}
        if seed.annotations:
            metadata["annotations"] = seed.annotations
        containers = [{"name": name, "image": image, **seed.more} for name, image in seed.containers]
        store.create(kinds.POD, podspec.pending({"metadata": metadata, "spec": {"containers": containers}}))
    _fill_api(store)
    _fill_rbac(store)


def _namespace(name: str, labels: dict[str, str]) -> Object:
    metadata = {"name": name, "labels": labels}
    return namespaces.active({"kind": kinds.NAMESPACE.name, "apiVersion": "v1", "metadata": metadata})


def _fill_api(store: Store) -> None:
    """Deployment api in shop, its ReplicaSet and their pods."""
    value = workloads.deployment("shop", "api", API_LABELS, API_CONTAINERS, len(API_PODS))
    deployment = store.create(kinds.DEPLOYMENT, value)
    replica_set = store.create(kinds.REPLICA_SET, workloads.replica_set(deployment, API_HASH))
    for suffix in API_PODS:
        store.create(kinds.POD, workloads.pod_of(replica_set, suffix))


def _fill_rbac(store: Store) -> None:
    for name, rules in SHOP_ROLES.items():
        store.create(kinds.ROLE, _rbac(kinds.ROLE, name, "shop", {"rules": rules}))
    for name, (role, subjects) in SHOP_BINDINGS.items():
        _bind(store, kinds.ROLE_BINDING, name, "shop", (kinds.ROLE, role), subjects)
    for name, rules in CLUSTER_ROLES.items():
        store.create(kinds.CLUSTER_ROLE, _rbac(kinds.CLUSTER_ROLE, name, "", {"rules": rules}))
    for name, (role, subjects) in CLUSTER_BINDINGS.items():
        _bind(store, kinds.CLUSTER_ROLE_BINDING, name, "", (kinds.CLUSTER_ROLE, role), subjects)
    role, namespace, subjects = CONTRACTOR_BINDING
    _bind(store, kinds.ROLE_BINDING, role, namespace, (kinds.CLUSTER_ROLE, role), subjects)


def _bind(  # noqa: PLR0913, PLR0917 - a binding's parts, no more
    store: Store, kind: kinds.Kind, name: str, namespace: str, role: tuple[kinds.Kind, str], subjects: list[Object]
) -> None:
    reference = {"apiGroup": kinds.RBAC_GROUP, "kind": role[0].name, "name": role[1]}
    store.create(kind, _rbac(kind, name, namespace, {"subjects": subjects, "roleRef": reference}))


def _rbac(kind: kinds.Kind, name: str, namespace: str, parts: Object) -> Object:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata, **parts}
