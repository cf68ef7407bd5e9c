"""Where the API serves what the bastion looks up: pods and the workloads that make them (pure); used by pods."""

from __future__ import annotations

POD = "pod"
REPLICA_SET = "rs"
WORKLOADS = ("deploy", "sts", "ds", "job")
"""The kinds that a login may name, as it names them."""

_PLACES = {
    POD: (("api", "v1"), "pods"),
    REPLICA_SET: (("apis", "apps", "v1"), "replicasets"),
    "deploy": (("apis", "apps", "v1"), "deployments"),
    "sts": (("apis", "apps", "v1"), "statefulsets"),
    "ds": (("apis", "apps", "v1"), "daemonsets"),
    "job": (("apis", "batch", "v1"), "jobs"),
}
EVERY = tuple(_PLACES)
"""Every kind that is looked up, pods first."""


def path(kind: str, namespace: str, *name: str) -> tuple[str, ...]:
    """The path of all objects of a kind in a namespace ("" is all of them), or of the one that is named.

    What is named is in a namespace: without one the path stays as empty there, and is refused before it is sent.
    """
    version, resource = _PLACES[kind]
    inside = ("namespaces", namespace) if namespace or name else ()
    return (*version, *inside, resource, *name)


def resource(kind: str) -> str:
    """What RBAC rules call a kind: "pods", "deployments"."""
    return _PLACES[kind][1]
