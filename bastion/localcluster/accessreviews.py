"""What a user may do, asked by others, by themselves, or as a list of rules; used by reviews."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.localcluster import rbac, statuses
from bastion.localcluster.rbac import Attributes, User

if TYPE_CHECKING:
    from bastion.localcluster.store import Object, Store

_GROUP = "authorization.k8s.io"
_NOT_ONE = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
_FIELDS = ("resourceAttributes", "nonResourceAttributes", "user", "groups", "extra", "uid")
_ATTRIBUTES = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
_LISTS = ("groups", "audiences")
_WORDS = ("user", "token", "namespace", "uid")


def subject(store: Store, spec: dict[str, Any]) -> Object:
    """SubjectAccessReview: may that user? Raises ApiError: 422."""
    causes = _missing(spec)
    if not spec.get("user") and not spec.get("groups"):
        causes.append(("spec.user", 'Invalid value: "": at least one of user or group must be specified'))
    if causes:
        raise statuses.invalid_review(_GROUP, causes)
    user = User(name=spec.get("user", ""), groups=tuple(spec.get("groups") or ()))
    return _verdict(store, user, spec)


def own(store: Store, user: User, spec: dict[str, Any]) -> Object:
    """SelfSubjectAccessReview: may I? Raises ApiError: 422."""
    causes = _missing(spec)
    if causes:
        raise statuses.invalid_review(_GROUP, causes)
    return _verdict(store, user, spec)


def rules(store: Store, user: User, spec: dict[str, Any]) -> Object:
    """SelfSubjectRulesReview: what may I in a namespace?"""
    found = rbac.rules_of(store, user, spec.get("namespace", ""))
    resource = [
        {key: rule[key] for key in ("verbs", "apiGroups", "resources", "resourceNames") if key in rule}
        for rule in found
        if "resources" in rule
    ]
    paths = [
        {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
        for rule in found
        if "nonResourceURLs" in rule
    ]
    status = {"resourceRules": resource, "nonResourceRules": paths, "incomplete": False}
    return {"spec": {}, "status": status}


def well_typed(spec: dict[str, Any]) -> bool:
    """Whether the parts of a review's spec are of the types that they must be of."""
    lists = [spec.get(key) or [] for key in _LISTS]
    parts = [spec.get("resourceAttributes") or {}, spec.get("nonResourceAttributes") or {}]
    return (
        all(isinstance(spec.get(key, ""), str) for key in _WORDS)
        and all(isinstance(part, list) and all(isinstance(one, str) for one in part) for part in lists)
        and all(
            isinstance(part, dict) and all(isinstance(part.get(key, ""), str) for key in _ATTRIBUTES) for part in parts
        )
    )


def _missing(spec: dict[str, Any]) -> list[tuple[str, str]]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) != (path is None):
        return []
    value = "null" if resource is None else "{}"
    return [("spec.resourceAttributes", f"Invalid value: {value}: {_NOT_ONE}")]


def _verdict(store: Store, user: User, spec: dict[str, Any]) -> Object:
    verdict = rbac.authorize(store, user, _attributes(spec))
    status: dict[str, Any] = {"allowed": verdict.allowed}
    if verdict.reason:
        status["reason"] = verdict.reason
    return {"spec": _echo(spec), "status": status}


def _attributes(spec: dict[str, Any]) -> Attributes:
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(verb=path.get("verb", ""), path=path.get("path", ""))
    resource: dict[str, str] = spec["resourceAttributes"]
    return Attributes(
        verb=resource.get("verb", ""),
        group=resource.get("group", ""),
        resource=resource.get("resource", ""),
        subresource=resource.get("subresource", ""),
        namespace=resource.get("namespace", ""),
        name=resource.get("name", ""),
    )


def _echo(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec in the server's order, without what is empty."""
    echoed = {key: spec[key] for key in _FIELDS if spec.get(key)}
    if "resourceAttributes" in echoed:
        given = echoed["resourceAttributes"]
        echoed["resourceAttributes"] = {key: given[key] for key in _ATTRIBUTES if given.get(key)}
    return echoed
