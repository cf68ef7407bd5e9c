"""The policy file: YAML to a `policy.Policy`; read by the bastion when it starts and by `bastion policy check`.

Fail closed: an unknown key, or one that this version does not honour yet, is an
error and never ignored. Errors say the file, the line and what is meant instead.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, TypedDict

from bastion import strictyaml
from bastion.errors import BastionError, Code
from bastion.model import RESERVED_SUBJECTS, Action, RecordRules
from bastion.policy import Binding, Policy, Role, Rule

if TYPE_CHECKING:
    from pathlib import Path

    from bastion.strictyaml import Value

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_GLOB = re.compile(r"[-a-z0-9*?]+", re.ASCII)
_CONTAINER = re.compile(r"!?[-a-z0-9*?]+", re.ASCII)
_KUBERNETES_GROUP = re.compile(r"bastion:[A-Za-z0-9][-A-Za-z0-9_.:@/]*", re.ASCII)
_SUBJECT = re.compile(r"(?:person|group):[!-~]+", re.ASCII)

_IMAGE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.:/@]*", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)

_INT = "tag:yaml.org,2002:int"
_MOST_USERS = 2**31 - 1
"""The greatest number of a user that Kubernetes takes (SecurityContext.runAsUser)."""

_LATER_IN_ROLE = ("require", "hours", "sources")
_LATER_IN_SESSION = ("max", "idle", "concurrent")
_LATER_IN_RULE = ("commands", "ports")
_LATER_IN_RECORD = ("on_failure",)
_LATER_IN_PODS = ("matchExpressions",)


def load(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        BastionError: INVALID, with the file and line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(strictyaml.MAX_BYTES + 1)
    except OSError as error:
        raise BastionError(Code.INVALID, f"cannot read the policy file {path}: {error.strerror}") from error
    return parse(data, str(path))


def parse(data: bytes, source: str) -> Policy:
    """Read a policy from a file's bytes.

    source: the file's name, for errors.

    Raises:
        BastionError: INVALID, with the line.
    """
    top = strictyaml.parse(data, source).fields(("roles", "bindings"))
    roles = tuple(_role(name, value) for name, value in top["roles"].entries()) if "roles" in top else ()
    names = {role.name for role in roles}
    bindings = tuple(_binding(value, names) for value in top["bindings"].items()) if "bindings" in top else ()
    return Policy(roles=roles, bindings=bindings, digest=hashlib.sha256(data).hexdigest())


def _role(name: str, value: Value) -> Role:
    if not _NAME.fullmatch(name):
        value.wrong(f"{name!r} cannot be a role's name: small letters, digits and '-', at most 63")
    fields = value.fields(("kubernetes", "allow", "deny", "record", "session", "debug"), later=_LATER_IN_ROLE)
    return Role(
        name=name,
        kubernetes_groups=_kubernetes_groups(fields["kubernetes"]) if "kubernetes" in fields else (),
        allow=_rules(name, "allow", fields),
        deny=_rules(name, "deny", fields),
        record=_record(fields["record"]) if "record" in fields else RecordRules(),
        lingering=_lingering(fields["session"]) if "session" in fields else False,
        **(_debug(fields["debug"]) if "debug" in fields else {}),
    )


def _kubernetes_groups(value: Value) -> tuple[str, ...]:
    fields = value.fields(("groups",))
    return _texts(fields["groups"], _KUBERNETES_GROUP, 'begin with "bastion:"') if "groups" in fields else ()


def _record(value: Value) -> RecordRules:
    fields = value.fields(("input",), later=_LATER_IN_RECORD)
    return RecordRules(input=fields["input"].truth()) if "input" in fields else RecordRules()


def _lingering(value: Value) -> bool:
    fields = value.fields(("lingering",), later=_LATER_IN_SESSION)
    return fields["lingering"].truth() if "lingering" in fields else False


class _Debug(TypedDict, total=False):
    debug_images: tuple[str, ...]
    debug_user: int


def _debug(value: Value) -> _Debug:
    fields = value.fields(("images", "user"))
    if "images" not in fields:
        value.wrong(f"{value.name} needs images with at least one image; leave debug out for none")
    debug = _Debug(debug_images=_texts(fields["images"], _IMAGE, "be the name of an image"))
    if "user" in fields:
        debug["debug_user"] = _user(fields["user"])
    return debug


def _user(value: Value) -> int:
    """A user's number, written as people count: YAML takes 0x1, 010 and 1:30 for numbers too."""
    written = value.scalar()
    if value.node.tag != _INT or not _NUMBER.fullmatch(written) or int(written) > _MOST_USERS:
        value.wrong(f"{value.name} is {written!r} but must be a number from 0 to {_MOST_USERS}, such as 65532")
    return int(written)


def _rules(role: str, kind: str, fields: dict[str, Value]) -> tuple[Rule, ...]:
    values = fields[kind].items() if kind in fields else []
    return tuple(_rule(f"{role}/{kind}[{i}]", value, kind) for i, value in enumerate(values))


def _rule(name: str, value: Value, kind: str) -> Rule:
    """One rule. An allow rule must say which actions; a deny rule that does not say is about all of them."""
    fields = value.fields(("namespaces", "pods", "containers", "actions"), later=_LATER_IN_RULE)
    for due in ("namespaces", "actions") if kind == "allow" else ("namespaces",):
        if due not in fields:
            value.wrong(f"{value.name} needs {due}")
    return Rule(
        name=name,
        namespaces=_texts(fields["namespaces"], _GLOB, "be a namespace's name, in which * and ? may stand"),
        **(_pods(fields["pods"], kind) if "pods" in fields else {}),
        containers=_containers(fields["containers"]) if "containers" in fields else ("*",),
        actions=frozenset(map(_action, fields["actions"].items())) if "actions" in fields else frozenset(Action),
    )


class _Pods(TypedDict, total=False):
    labels: dict[str, str]
    host_network: bool


def _pods(value: Value, kind: str) -> _Pods:
    fields = value.fields(("matchLabels", "hostNetwork"), later=_LATER_IN_PODS)
    pods = _Pods()
    if "matchLabels" in fields:
        pods["labels"] = {key: label.text() for key, label in fields["matchLabels"].entries()}
    if "hostNetwork" in fields:
        if kind == "deny":
            fields["hostNetwork"].wrong("a deny rule is about pods in any network; remove hostNetwork")
        pods["host_network"] = fields["hostNetwork"].truth()
    if not pods.get("labels") and not pods.get("host_network"):
        value.wrong(f"{value.name} needs matchLabels with at least one label; leave pods out for any pod")
    return pods


def _containers(value: Value) -> tuple[str, ...]:
    globs = _texts(value, _CONTAINER, "be a container's name, in which * and ? may stand, or such a name after a !")
    if all(glob.startswith("!") for glob in globs):
        value.wrong(f'{value.name} only excludes; begin with what it includes, such as ["*", "{globs[0]}"]')
    return globs


def _action(value: Value) -> Action:
    text = value.text()
    try:
        return Action(text)
    except ValueError:
        value.wrong(f"unknown action {text!r}{strictyaml.nearest(text, list(Action))}")


def _binding(value: Value, roles: set[str]) -> Binding:
    fields = value.fields(("role", "subjects"))
    for due in ("role", "subjects"):
        if due not in fields:
            value.wrong(f"{value.name} needs {due}")
    role = fields["role"].text()
    if role not in roles:
        known = strictyaml.nearest(role, roles) if roles else "; known are none"
        fields["role"].wrong(f"there is no role {role!r}{known}")
    return Binding(role=role, subjects=frozenset(map(_subject, fields["subjects"].items())))


def _subject(value: Value) -> str:
    text = _text(value, _SUBJECT, "be group:NAME or person:SUBJECT")
    kind, _, name = text.partition(":")
    if kind == "person" and name in RESERVED_SUBJECTS:
        value.wrong(f"the subject {name} is reserved for what ends leftover processes; bind another")
    return text


def _texts(value: Value, pattern: re.Pattern[str], must: str) -> tuple[str, ...]:
    return tuple(_text(item, pattern, must) for item in value.items())


def _text(value: Value, pattern: re.Pattern[str], must: str) -> str:
    text = value.text()
    if not pattern.fullmatch(text):
        value.wrong(f"{value.name} is {text!r} but must {must}")
    return text
