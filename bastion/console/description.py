"""What `ssh bastion describe` may say of a pod, taken out of its JSON (pure); used by console.looks.

A list of what is taken, not of what is left out. Never taken: values of the environment, command lines (passwords
stand in both), annotations other than a few that cannot hold a secret, what is in a volume, and whatever is about a
container that the person may not look at, or counts over such a one, or names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.console import podstatus, quantities
from bastion.podfacts import ContainerKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from bastion.console.reach import Reached

    Object = Mapping[str, Any]
    """What the API serves, as its JSON."""

    Description = dict[str, Any]
    """JSON-able; times are RFC 3339 or None."""

_LISTS = (
    (ContainerKind.INIT, "initContainers", "initContainerStatuses"),
    (ContainerKind.REGULAR, "containers", "containerStatuses"),
    (ContainerKind.EPHEMERAL, "ephemeralContainers", "ephemeralContainerStatuses"),
)
_SHOWN_ANNOTATIONS = ("kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/restartedAt")
_REFERENCES = {
    "configMap": "name",
    "secret": "secretName",
    "persistentVolumeClaim": "claimName",
    "hostPath": "path",
    "csi": "driver",
    "nfs": "path",
}
"""What a volume refers to: not its content, but where that is."""

_OF_ALL_CONTAINERS = {"Initialized", "ContainersReady", "Ready"}
"""Conditions that say how all containers are together."""


def describe(pod: Object, seen: Reached, container: str = "") -> Description:
    """What may be said of a pod, and of its containers or of one of them, to a person who sees it so."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    facts = seen.pod
    annotations, withheld = _annotations(metadata.get("annotations") or {}, seen)
    shown = list(_containers(spec, status, seen.names(container)))
    mounted = {mount["volume"] for one in shown for mount in one["mounts"]}
    return {
        "namespace": facts.namespace,
        "pod": facts.name,
        "uid": facts.uid,
        "created_at": quantities.rfc3339(facts.created),
        "deleted_at": quantities.rfc3339(metadata.get("deletionTimestamp") or ""),
        "node": facts.node,
        "service_account": spec.get("serviceAccountName") or "",
        "labels": dict(facts.labels),
        "annotations": annotations,
        "annotations_withheld": withheld,
        "status": podstatus.status(facts),
        "phase": None if seen.hidden else facts.phase,
        "reason": facts.reason,
        "message": seen.said(facts.message),
        "ip": status.get("podIP") or "",
        "controlled_by": f"{facts.owner.kind}/{facts.owner.name}" if facts.owner else "",
        "qos": status.get("qosClass") or "",
        "priority": spec.get("priority"),
        "node_selector": dict(spec.get("nodeSelector") or {}),
        "tolerations": [_toleration(one) for one in spec.get("tolerations") or ()],
        "containers": shown,
        "conditions": {
            one["type"]: one["status"]
            for one in status.get("conditions") or ()
            if not (seen.hidden and one["type"] in _OF_ALL_CONTAINERS)
        },
        "volumes": [_volume(one) for one in spec.get("volumes") or () if one["name"] in mounted],
    }


def _annotations(annotations: Mapping[str, str], seen: Reached) -> tuple[dict[str, str], list[str]]:
    """Those that are shown, and the names of the others. Some name a container in their own name."""
    told = {
        name: annotations[name]
        for name in _SHOWN_ANNOTATIONS
        if name in annotations and not seen.betrayed_by(annotations[name])
    }
    return told, sorted(name for name in annotations if name not in told and not seen.betrayed_by(name))


def _containers(spec: Object, status: Object, containers: Collection[str]) -> Iterator[Description]:
    for kind, specs, statuses in _LISTS:
        known = {one["name"]: one for one in status.get(statuses) or ()}
        for one in spec.get(specs) or ():
            if one["name"] in containers:
                yield _container(kind, one, known.get(one["name"], {}))


def _container(kind: ContainerKind, spec: Object, status: Object) -> Description:
    resources = spec.get("resources") or {}
    return {
        "container": spec["name"],
        "kind": str(kind),
        "id": status.get("containerID") or "",
        "image": spec.get("image") or "",
        "image_id": status.get("imageID") or "",
        "ports": [_port(one) for one in spec.get("ports") or ()],
        "state": _state(status.get("state") or {}),
        "last_state": _state(status.get("lastState") or {}),
        "ready": bool(status.get("ready")),
        "restarts": int(status.get("restartCount") or 0),
        "limits": dict(resources.get("limits") or {}),
        "requests": dict(resources.get("requests") or {}),
        "environment": [_variable(one) for one in spec.get("env") or ()],
        "environment_from": [_environment_from(one) for one in spec.get("envFrom") or ()],
        "mounts": [
            {"path": one["mountPath"], "volume": one["name"], "read_only": bool(one.get("readOnly"))}
            for one in spec.get("volumeMounts") or ()
        ],
    }


def _port(port: Object) -> str:
    return f"{port['containerPort']}/{port.get('protocol') or 'TCP'}"


def _state(state: Object) -> Description | None:
    """The one of waiting, running and terminated that it is; None before there is any."""
    for name in ("waiting", "running", "terminated"):
        if name in state:
            said = state[name] or {}
            return {
                "state": name,
                "reason": said.get("reason") or "",
                "message": said.get("message") or "",
                "status": said.get("exitCode"),
                "started_at": quantities.rfc3339(said.get("startedAt") or ""),
                "ended_at": quantities.rfc3339(said.get("finishedAt") or ""),
            }
    return None


def _variable(variable: Object) -> Description:
    """A variable's name, and whence its value comes; never the value."""
    source = variable.get("valueFrom") or {}
    for kind in ("secretKeyRef", "configMapKeyRef"):
        if kind in source:
            reference = source[kind]
            what = kind.removesuffix("KeyRef")
            return {"name": variable["name"], "from": f"{what} {reference.get('name')}, key {reference['key']}"}
    field = source.get("fieldRef") or source.get("resourceFieldRef") or {}
    return {"name": variable["name"], "from": str(field.get("fieldPath") or field.get("resource") or "")}


def _environment_from(source: Object) -> str:
    for kind in ("secretRef", "configMapRef"):
        if kind in source:
            return f"{kind.removesuffix('Ref')} {source[kind].get('name')}"
    return ""


def _toleration(toleration: Object) -> str:
    key, value = toleration.get("key") or "", toleration.get("value") or ""
    effect, lasts = toleration.get("effect"), toleration.get("tolerationSeconds")
    said = f"{key}={value}" if value else key
    said += f":{effect}" if effect else ""
    return said + (f" for {lasts}s" if lasts is not None else "") or "everything"


def _volume(volume: Object) -> Description:
    kind = next((key for key in volume if key != "name"), "emptyDir")
    reference = _REFERENCES.get(kind)
    return {
        "volume": volume["name"],
        "kind": kind,
        "refers_to": str((volume.get(kind) or {}).get(reference) or "") if reference else "",
    }
