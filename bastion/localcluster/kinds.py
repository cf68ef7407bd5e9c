"""The kinds of objects that are served; used by every part that knows of objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of object.

    group: "" is the core group. plural: the word in paths. short_names: what people type.
    fields: what a fieldSelector may name beside the object's own name and namespace.
    """

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """As it stands in objects: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As messages name it: "pods", "deployments.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def details(self, name: str) -> dict[str, str]:
        """The `details` of a Status about an object of this kind; name "" is all of them."""
        details = {"name": name} if name else {}
        if self.group:
            details["group"] = self.group
        return {**details, "kind": self.plural}


POD = Kind(
    group="",
    version="v1",
    plural="pods",
    name="Pod",
    short_names=("po",),
    fields=("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
)
NAMESPACE = Kind(
    group="",
    version="v1",
    plural="namespaces",
    name="Namespace",
    namespaced=False,
    short_names=("ns",),
    fields=("status.phase",),
)
SERVICE_ACCOUNT = Kind(group="", version="v1", plural="serviceaccounts", name="ServiceAccount", short_names=("sa",))
EVENT = Kind(
    group="",
    version="v1",
    plural="events",
    name="Event",
    short_names=("ev",),
    fields=(
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ),
)
DEPLOYMENT = Kind(group="apps", version="v1", plural="deployments", name="Deployment", short_names=("deploy",))
REPLICA_SET = Kind(group="apps", version="v1", plural="replicasets", name="ReplicaSet", short_names=("rs",))
STATEFUL_SET = Kind(group="apps", version="v1", plural="statefulsets", name="StatefulSet", short_names=("sts",))
DAEMON_SET = Kind(group="apps", version="v1", plural="daemonsets", name="DaemonSet", short_names=("ds",))
JOB = Kind(group="batch", version="v1", plural="jobs", name="Job")

RBAC_GROUP = "rbac.authorization.k8s.io"
ROLE = Kind(group=RBAC_GROUP, version="v1", plural="roles", name="Role")
ROLE_BINDING = Kind(group=RBAC_GROUP, version="v1", plural="rolebindings", name="RoleBinding")
CLUSTER_ROLE = Kind(group=RBAC_GROUP, version="v1", plural="clusterroles", name="ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(
    group=RBAC_GROUP, version="v1", plural="clusterrolebindings", name="ClusterRoleBinding", namespaced=False
)

POD_METRICS = Kind(group="metrics.k8s.io", version="v1beta1", plural="pods", name="PodMetrics")
"""Of another server (podmetrics), behind the same door: not among KINDS."""

KINDS = (
    POD,
    NAMESPACE,
    SERVICE_ACCOUNT,
    EVENT,
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
    DAEMON_SET,
    JOB,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
)


def find(group: str, version: str, plural: str) -> Kind | None:
    """The kind a path names, or None."""
    wanted = (group, version, plural)
    return next((kind for kind in KINDS if (kind.group, kind.version, kind.plural) == wanted), None)
