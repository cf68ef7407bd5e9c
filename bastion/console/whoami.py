"""`ssh bastion whoami`: who somebody is to the bastion, and what follows from it (pure); used by console.commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bastion import policy
from bastion.console import tables

if TYPE_CHECKING:
    from bastion.console.tables import Paper
    from bastion.policy import Policy, Role
    from bastion.trip import Visitor


def text(visitor: Visitor, rules: Policy, paper: Paper) -> bytes:
    """For people."""
    roles = policy.roles_of(visitor.person, rules)
    rows = [
        ("Person", visitor.person.subject),
        ("Credential", f"{visitor.credential.kind} {visitor.credential.id}"),
        ("Groups", ", ".join(sorted(visitor.person.groups)) or "none"),
        ("Kubernetes user", _user(visitor)),
        ("From", str(visitor.source)),
    ]
    lines = [f"{name + ':':17}{value}" for name, value in rows]
    lines += [
        f"{'Roles:':17}{'' if roles else 'none'}".rstrip(),
        *(line for role in roles for line in _role(role, visitor, rules)),
    ]
    return tables.text(lines, paper)


def json_lines(visitor: Visitor, rules: Policy, paper: Paper) -> bytes:
    """For programs: one object."""
    about = {
        "person": visitor.person.subject,
        "credential": visitor.credential.id,
        "credential_kind": visitor.credential.kind,
        "groups": sorted(visitor.person.groups),
        "source": visitor.source.host,
        "connection": visitor.connection,
        "kubernetes_user": _user(visitor),
        "roles": [
            {
                "role": role.name,
                "bound_to": _bound(role, visitor, rules),
                "until": None,
                "kubernetes_groups": list(role.kubernetes_groups),
                "actions": _actions(role),
            }
            for role in policy.roles_of(visitor.person, rules)
        ],
    }
    return tables.json_lines([about], paper)


def _role(role: Role, visitor: Visitor, rules: Policy) -> list[str]:
    return [
        f"  {role.name}",
        f"    {'bound to:':20}{', '.join(_bound(role, visitor, rules))} (standing, without an end)",
        f"    {'allows:':20}{', '.join(_actions(role)) or 'nothing'}",
        f"    {'Kubernetes groups:':20}{', '.join(role.kubernetes_groups) or 'none'}",
    ]


def _bound(role: Role, visitor: Visitor, rules: Policy) -> list[str]:
    """Through which of the person's names they have the role."""
    person = visitor.person
    own = {f"person:{person.subject}", *(f"group:{group}" for group in person.groups)}
    return sorted({one for binding in rules.bindings if binding.role == role.name for one in binding.subjects & own})


def _actions(role: Role) -> list[str]:
    return sorted({action for rule in role.allow for action in rule.actions})


def _user(visitor: Visitor) -> str:
    return f"bastion:{visitor.person.subject}"
