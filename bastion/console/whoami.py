"""`ssh bastion whoami`: who somebody is to the bastion, and what follows from it (pure); used by console.commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion import policy
from bastion.console import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bastion.console.tables import Paper
    from bastion.policy import Policy, Role, Rule
    from bastion.trip import Visitor

_BASTIONS_OWN = "the bastion's own: in this cluster it impersonates nobody"


def text(visitor: Visitor, rules: Policy, paper: Paper, *, impersonating: bool) -> bytes:
    """For people. impersonating: the cluster knows them by a name of their own."""
    roles = policy.roles_of(visitor.person, rules)
    rows = [
        ("Person:", visitor.person.subject),
        ("Credential:", f"{visitor.credential.kind} {visitor.credential.id}"),
        ("Groups:", ", ".join(sorted(visitor.person.groups)) or "none"),
        ("Kubernetes user:", _user(visitor) if impersonating else _BASTIONS_OWN),
        ("From:", str(visitor.source)),
        ("Roles:", "" if roles else "none"),
    ]
    lines = [line for name, value in rows for line in tables.beside(f"{name:17}", value, paper)]
    for role in roles:
        lines.append(f"  {role.name}")
        for name, value in _role(role, visitor, rules, impersonating=impersonating):
            lines += tables.beside(f"    {name:20}", value, paper)
    return tables.text(lines, paper)


def json_lines(visitor: Visitor, rules: Policy, paper: Paper, *, impersonating: bool) -> bytes:
    """For programs: one object. Without impersonation there is no user and no group in it that the cluster knew."""
    about = {
        "person": visitor.person.subject,
        "credential": visitor.credential.id,
        "credential_kind": visitor.credential.kind,
        "groups": sorted(visitor.person.groups),
        "source": visitor.source.host,
        "connection": visitor.connection,
        "kubernetes_user": _user(visitor) if impersonating else None,
        "roles": [
            {
                "role": role.name,
                "bound_to": _bound(role, visitor, rules),
                "until": None,
                "kubernetes_groups": list(role.kubernetes_groups) if impersonating else [],
                "actions": _actions(role.allow),
                "denies": _actions(role.deny),
            }
            for role in policy.roles_of(visitor.person, rules)
        ],
    }
    return tables.json_lines([about], paper)


def _role(role: Role, visitor: Visitor, rules: Policy, *, impersonating: bool) -> Iterator[tuple[str, str]]:
    yield "bound to:", f"{', '.join(_bound(role, visitor, rules))} (standing, without an end)"
    yield "allows:", ", ".join(_actions(role.allow)) or "nothing"
    if role.deny:
        yield "denies:", f"{', '.join(_actions(role.deny))} (in some places, to whatever role allows it)"
    if impersonating:
        yield "Kubernetes groups:", ", ".join(role.kubernetes_groups) or "none"


def _bound(role: Role, visitor: Visitor, rules: Policy) -> list[str]:
    """Through which of the person's names they have the role."""
    person = visitor.person
    own = {f"person:{person.subject}", *(f"group:{group}" for group in person.groups)}
    return sorted({one for binding in rules.bindings if binding.role == role.name for one in binding.subjects & own})


def _actions(rules: Iterable[Rule]) -> list[str]:
    return sorted({action for rule in rules for action in rule.actions})


def _user(visitor: Visitor) -> str:
    return f"bastion:{visitor.person.subject}"
