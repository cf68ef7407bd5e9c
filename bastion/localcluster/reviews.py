"""SubjectAccessReview; used by api. Shapes and refusals as recorded (tests/data/kube-wire, sar-*)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.localcluster import rbac, statuses
from bastion.localcluster.rbac import Attributes, User

if TYPE_CHECKING:
    from bastion.localcluster.store import Object, Store

GROUP = "authorization.k8s.io"
PLURAL = "subjectaccessreviews"

_NOT_ONE = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
_FIELDS = ("resourceAttributes", "nonResourceAttributes", "user", "groups", "extra", "uid")
_ATTRIBUTES = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


def subject_access_review(store: Store, body: Any) -> Object:
    """The review with its status filled in. Raises ApiError: 400 if it is none, 422 if it asks for nothing."""
    spec = _spec(body)
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes = []
    if (resource is None) == (path is None):
        value = "null" if resource is None else "{}"
        causes.append(("spec.resourceAttributes", f"Invalid value: {value}: {_NOT_ONE}"))
    if not spec.get("user") and not spec.get("groups"):
        causes.append(("spec.user", 'Invalid value: "": at least one of user or group must be specified'))
    if causes:
        raise statuses.invalid_review(GROUP, causes)
    user = User(name=spec.get("user", ""), groups=tuple(spec.get("groups") or ()))
    verdict = rbac.authorize(store, user, _attributes(resource, path))
    status: dict[str, Any] = {"allowed": verdict.allowed}
    if verdict.reason:
        status["reason"] = verdict.reason
    return {
        "kind": "SubjectAccessReview",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {},
        "spec": _echo(spec),
        "status": status,
    }


def _spec(body: Any) -> dict[str, Any]:
    spec = body.get("spec") if isinstance(body, dict) else None
    if not isinstance(spec, dict) or not _well_typed(spec):
        raise statuses.bad_request('SubjectAccessReview in version "v1" cannot be handled as a SubjectAccessReview')
    return spec


def _well_typed(spec: dict[str, Any]) -> bool:
    groups = spec.get("groups") or []
    parts = [spec.get("resourceAttributes") or {}, spec.get("nonResourceAttributes") or {}]
    return (
        isinstance(spec.get("user", ""), str)
        and isinstance(groups, list)
        and all(isinstance(group, str) for group in groups)
        and all(isinstance(part, dict) and all(isinstance(part.get(key, ""), str) for key in part) for part in parts)
    )


def _attributes(resource: dict[str, str] | None, path: dict[str, str] | None) -> Attributes:
    if resource is None:
        return Attributes(verb=(path or {}).get("verb", ""), path=(path or {}).get("path", ""))
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
