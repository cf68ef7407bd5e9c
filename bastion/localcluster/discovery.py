"""Which groups, versions and resources there are, as clients ask before they do anything; used by api. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds, reviews

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bastion.localcluster.kinds import Kind
    from bastion.localcluster.store import Object

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_POD_SUBRESOURCES = {
    "attach": ("PodAttachOptions", ["create", "get"]),
    "ephemeralcontainers": ("Pod", ["get", "patch", "update"]),
    "exec": ("PodExecOptions", ["create", "get"]),
    "log": ("Pod", ["get"]),
    "portforward": ("PodPortForwardOptions", ["create", "get"]),
}


def page(path: tuple[str, ...], *, metrics: bool) -> Object | None:
    """What `/api`, `/apis` and what lies directly below them say; None for any other path.

    metrics: there is a metrics server.
    """
    groups = _groups(metrics=metrics)
    match path:
        case ("api",):
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ("apis",):
            listed = [_group(name, version) for name, version in groups.items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        case ("apis", name) if name in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, groups[name])}
        case ("api", "v1"):
            return _resources("", "v1")
        case ("apis", name, version) if groups.get(name) == version:
            return _resources(name, f"{name}/{version}")
        case _:
            return None


def _groups(*, metrics: bool) -> dict[str, str]:
    """The groups' versions by their names."""
    served = [*kinds.KINDS, kinds.POD_METRICS] if metrics else [*kinds.KINDS]
    named = {kind.group: kind.version for kind in served if kind.group}
    return {**named, **{review.group: "v1" for review in reviews.REVIEWS}}


def _group(name: str, version: str) -> Object:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _resources(group: str, group_version: str) -> Object:
    listed: list[dict[str, Any]] = []
    if group == kinds.POD_METRICS.group:
        resource = {"name": kinds.POD_METRICS.plural, "singularName": "", "namespaced": True}
        listed.append({**resource, "kind": kinds.POD_METRICS.name, "verbs": ["get", "list"]})
    for kind in kinds.KINDS:
        if kind.group == group:
            listed += _of_kind(kind)
    for review in reviews.REVIEWS:
        if review.group == group:
            resource = {"name": review.plural, "singularName": review.name.lower(), "namespaced": False}
            listed.append({**resource, "kind": review.name, "verbs": ["create"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}


def _of_kind(kind: Kind) -> Iterator[dict[str, Any]]:
    resource: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": _VERBS,
    }
    if kind.short_names:
        resource["shortNames"] = list(kind.short_names)
    if kind is kinds.POD:
        resource["categories"] = ["all"]
    yield resource
    if kind is kinds.POD:
        for name, (options, verbs) in _POD_SUBRESOURCES.items():
            yield {
                "name": f"pods/{name}",
                "singularName": "",
                "namespaced": True,
                "kind": options,
                "verbs": verbs,
            }
    if kind is kinds.SERVICE_ACCOUNT:
        yield {
            "name": "serviceaccounts/token",
            "singularName": "",
            "namespaced": True,
            "group": reviews.AUTHENTICATION,
            "version": "v1",
            "kind": "TokenRequest",
            "verbs": ["create"],
        }
