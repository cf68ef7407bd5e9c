"""Grants as Kubernetes manifests: YAML with the reason beside each rule (pure); used by cli.doctor.

Objects without a namespace come first, then namespace by namespace, so that who may only change one can apply its part.
"""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from typing import TYPE_CHECKING

from bastion.pods.rights import EVERYWHERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bastion.pods.rights import Grant, Rule

_RBAC = "rbac.authorization.k8s.io"
_WIDTH = 110
_PLAIN = re.compile(r"[a-z][-a-z0-9/.]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def manifests(grants: Sequence[Grant], account: tuple[str, str], notes: Iterable[str] = ()) -> str:
    """All objects, as YAML.

    account: namespace and name of the bastion's ServiceAccount.
    notes: what to say at the top.
    """
    title = "The smallest rights that the policy needs, as `bastion doctor --rbac` prints them."
    head = [line for text in (title, *notes) for line in _comment(text)]
    objects = ["\n".join([*head, *_service_account(account)])]
    place = EVERYWHERE
    for grant in sorted(grants, key=lambda grant: grant.place):
        heading = [f"# Namespace {grant.place}"] if grant.place != place else []
        place = grant.place
        objects.append("\n".join([*heading, *_role(grant)]))
        objects.append("\n".join(_binding(grant, account)))
    return "\n---\n".join(objects) + "\n"


def _service_account(account: tuple[str, str]) -> Iterator[str]:
    yield from ("apiVersion: v1", "kind: ServiceAccount", "metadata:")
    yield f"  name: {_scalar(account[1])}"
    yield f"  namespace: {_scalar(account[0])}"


def _role(grant: Grant) -> Iterator[str]:
    yield from _head("Role", grant)
    yield "rules:"
    for rule in grant.rules:
        yield from _rule(rule)


def _rule(rule: Rule) -> Iterator[str]:
    yield from (f"  {line}" for line in _comment(rule.reason))
    yield f"  - apiGroups: {_list([rule.group])}"
    yield f"    resources: {_list(rule.resources)}"
    yield f"    verbs: {_list(rule.verbs)}"
    if rule.names:
        yield f"    resourceNames: {_list(rule.names)}"


def _binding(grant: Grant, account: tuple[str, str]) -> Iterator[str]:
    yield from _head("RoleBinding", grant)
    kind = "ClusterRole" if grant.place == EVERYWHERE else "Role"
    yield f"roleRef: {{apiGroup: {_RBAC}, kind: {kind}, name: {_scalar(_name(grant))}}}"
    yield "subjects:"
    if grant.kind == "ServiceAccount":
        yield f"  - {{kind: ServiceAccount, name: {_scalar(grant.subject)}, namespace: {_scalar(account[0])}}}"
    else:
        yield f"  - {{apiGroup: {_RBAC}, kind: {grant.kind}, name: {_scalar(grant.subject)}}}"


def _head(kind: str, grant: Grant) -> Iterator[str]:
    yield f"apiVersion: {_RBAC}/v1"
    yield f"kind: {kind if grant.place else f'Cluster{kind}'}"
    yield "metadata:"
    yield f"  name: {_scalar(_name(grant))}"
    if grant.place:
        yield f"  namespace: {_scalar(grant.place)}"


def _name(grant: Grant) -> str:
    """A name that an object may have: the group's own, unless it has a slash."""
    if "/" not in grant.name:
        return grant.name
    digest = hashlib.sha256(grant.name.encode()).hexdigest()[:8]
    return f"{grant.name.replace('/', '.')}-{digest}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(map(_scalar, items))}]"


def _scalar(text: str) -> str:
    """A text as YAML, in quotes if it could be anything else; JSON's are YAML's."""
    return text if _PLAIN.fullmatch(text) and text not in _WORDS else json.dumps(text)
