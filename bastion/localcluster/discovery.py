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


def page(path: tuple[str, ...]) -> Object | None:
    """What `/api`, `/apis` and what lies directly below them say; None for any other path."""
    match path:
        case ("api",):
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ("apis",):
            groups = [_group(name) for name in _groups()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ("apis", name) if name in _groups():
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}
        case ("api", "v1"):
            return _resources("", "v1")
        case ("apis", name, "v1") if name in _groups():
            return _resources(name, f"{name}/v1")
        case _:
            return None


def _groups() -> list[str]:
    named = [kind.group for kind in kinds.KINDS if kind.group]
    return list(dict.fromkeys([*named, *(review.group for review in reviews.REVIEWS)]))


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str, group_version: str) -> Object:
    listed: list[dict[str, Any]] = []
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
