"""Who may do what, by the Role and RoleBinding objects in the store; used by api, authentication and reviews.

The reasons are worded as the API server words them (tests/data/kube-wire, sar-*).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bastion.localcluster import kinds, statuses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bastion.localcluster.statuses import ApiError
    from bastion.localcluster.store import Object, Store

MASTERS = "system:masters"
"""The group that may do everything, whatever the roles say."""

_SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks, once authenticated (and perhaps impersonated)."""

    name: str
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is asked for. Either a path, or a resource: `namespace` and `name` may be "" (all)."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        """As rules name it: "pods/exec"."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The authorizer's word; `reason` is "" when no rule allowed it."""

    allowed: bool
    reason: str = ""


def authorize(store: Store, user: User, asked: Attributes) -> Verdict:
    """Whether a user may do something, and by which binding."""
    if MASTERS in user.groups:
        return Verdict(allowed=True)
    for binding, described in _bindings(store, asked.namespace):
        subject = _subject_of(binding, user)
        if subject and any(_rule_allows(rule, asked) for rule in _rules(store, binding)):
            role = binding["roleRef"]
            by = f'{described} of {role["kind"]} "{role["name"]}" to {subject}'
            return Verdict(allowed=True, reason=f"RBAC: allowed by {by}")
    return Verdict(allowed=False)


def rules_of(store: Store, user: User, namespace: str) -> list[Object]:
    """Every rule that a user has in a namespace."""
    if MASTERS in user.groups:
        return [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]
    bindings = [binding for binding, _ in _bindings(store, namespace) if _subject_of(binding, user)]
    return [rule for binding in bindings for rule in _rules(store, binding)]


def denied(user: User, asked: Attributes) -> ApiError:
    """The 403 for what was not allowed."""
    who = f'User "{user.name}" cannot {asked.verb}'
    if asked.path:
        return statuses.forbidden(f'forbidden: {who} path "{asked.path}"', {})
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    reason = f'{who} resource "{asked.full_resource}" in API group "{asked.group}" {where}'
    return refused(asked, reason)


def refused(asked: Attributes, reason: str) -> ApiError:
    """A 403 about a resource with a reason of one's own, which may be empty (recorded in exec-forbidden-create)."""
    qualified = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    subject = f'{qualified} "{asked.name}"' if asked.name else qualified
    details = {"name": asked.name} if asked.name else {}
    if asked.group:
        details["group"] = asked.group
    return statuses.forbidden(f"{subject} is forbidden: {reason}", {**details, "kind": asked.resource})


def require(store: Store, user: User, asked: Attributes) -> None:
    """Raise the 403 unless the user may."""
    if not authorize(store, user, asked).allowed:
        raise denied(user, asked)


def service_account(namespace: str, name: str) -> User:
    """A ServiceAccount as a user (Kubernetes documentation, "Authenticating")."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(name=f"{_SERVICE_ACCOUNT}{namespace}:{name}", groups=groups)


def split_service_account(user: str) -> tuple[str, str] | None:
    """Namespace and name of a ServiceAccount's user name; None if it is not one."""
    namespace, _, name = user.removeprefix(_SERVICE_ACCOUNT).partition(":")
    return (namespace, name) if user.startswith(_SERVICE_ACCOUNT) and namespace and name else None


def _bindings(store: Store, namespace: str) -> Iterator[tuple[Object, str]]:
    for binding in store.list(kinds.CLUSTER_ROLE_BINDING):
        yield binding, f'ClusterRoleBinding "{binding["metadata"]["name"]}"'
    for binding in store.list(kinds.ROLE_BINDING, namespace) if namespace else ():
        yield binding, f'RoleBinding "{binding["metadata"]["name"]}/{namespace}"'


def _rules(store: Store, binding: Object) -> list[Object]:
    role = binding["roleRef"]
    if role["kind"] == kinds.CLUSTER_ROLE.name:
        found = store.get(kinds.CLUSTER_ROLE, "", role["name"])
    else:
        found = store.get(kinds.ROLE, binding["metadata"]["namespace"], role["name"])
    rules: list[Object] = found["rules"] if found else []
    return rules


def _subject_of(binding: Object, user: User) -> str:
    """The subject of a binding that a user is, in words; "" if none."""
    for subject in binding["subjects"]:
        kind, name, namespace = subject["kind"], subject["name"], subject.get("namespace", "")
        if (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups):
            return f'{kind} "{name}"'
        if kind == "ServiceAccount" and split_service_account(user.name) == (namespace, name):
            return f'{kind} "{name}/{namespace}"'
    return ""


def _rule_allows(rule: Object, asked: Attributes) -> bool:
    if not _has(rule["verbs"], asked.verb):
        return False
    if asked.path:
        return any(_covers(url, asked.path) for url in rule.get("nonResourceURLs", ()))
    names = rule.get("resourceNames", ())
    resources = rule.get("resources", ())
    return (
        _has(rule.get("apiGroups", ()), asked.group)
        and (_has(resources, asked.full_resource) or bool(asked.subresource and f"*/{asked.subresource}" in resources))
        and (not names or asked.name in names)
    )


def _covers(url: str, path: str) -> bool:
    return path.startswith(url[:-1]) if url.endswith("*") else path == url


def _has(listed: list[str] | tuple[str, ...], wanted: str) -> bool:
    return "*" in listed or wanted in listed
