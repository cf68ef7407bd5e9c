"""Who may do what where: the decision as a pure function of its arguments; used by gate and console.

What no rule allows is denied, and a deny rule of any of a person's roles wins
over every allow rule. The order of roles, rules and bindings means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from bastion.model import DEBUG_CONTAINERS, Action, Allow, Decision, Deny, RecordRules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from bastion.model import Person, Target

DEFAULT_DENY = "default-deny"
"""The rule of a denial that no rule spoke: nothing allowed it."""

PROTECTED = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Namespaces that hold the cluster together: an allow rule must name them, no `*` reaches them."""

_ENTERING = frozenset({Action.SHELL, Action.EXEC})
"""Actions that are debugging in a debug container."""

_ASK = "ask those who keep the bastion's policy for a role that does"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What an allow or a deny rule is about: it matches when all of its parts do.

    name: where it stands, "shop-developer/allow[0]".
    namespaces: globs, one of which must match.
    labels: every one of them must be on the pod; none is any pod.
    host_network: an allow rule reaches pods in the node's own network too, from where much more can be reached.
    containers: globs, one of which must match and, of those after a "!", none may. Of ephemeral containers, an allow
    rule's globs match the bastion's own alone, also by the container that they stand beside; any other has to be named.
    actions: one of them is asked for.
    """

    name: str
    namespaces: tuple[str, ...]
    actions: frozenset[Action]
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ("*",)
    host_network: bool = False

    def covers(self, namespace: str, action: Action) -> bool:
        """Whether the rule is about this action somewhere in that namespace."""
        return action in self.actions and any(matches(glob, namespace) for glob in self.namespaces)

    def covers_target(self, target: Target, action: Action) -> bool:
        """Whether the rule is about this action in that container."""
        return self.covers(target.namespace, action) and self._selects(target, {target.container})

    def reaches(self, target: Target, action: Action) -> bool:
        """The same for an allow rule: who wrote it had the bastion's own debug containers in mind with their hosts."""
        names = {target.container, target.beside} if _is_ours(target) else {target.container}
        return self.covers(target.namespace, action) and self._selects(target, names)

    @property
    def is_about_every_pod(self) -> bool:
        """Whether the rule looks at neither labels nor containers."""
        return not self.labels and self.containers == ("*",)

    def _selects(self, target: Target, names: Collection[str]) -> bool:
        excluded = [glob[1:] for glob in self.containers if glob.startswith("!")]
        included = [glob for glob in self.containers if not glob.startswith("!")]
        return (
            all(target.labels.get(key) == value for key, value in self.labels.items())
            and any(matches(glob, name) for glob in included for name in names)
            and not any(matches(glob, name) for glob in excluded for name in names)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What may be done where, and what follows from it.

    kubernetes_groups: impersonated in sessions that this role allows; each begins with "bastion:".
    lingering: processes that are meant to outlive their session (nohup, setsid) may.
    debug_images: what debug containers are made of, the first being taken.
    debug_user: whom they run as where the pod does not say whom the container beside runs as; None: its image decides.
    """

    name: str
    kubernetes_groups: tuple[str, ...]
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    record: RecordRules = field(default_factory=RecordRules)
    lingering: bool = False
    debug_images: tuple[str, ...] = ()
    debug_user: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Who has a role. subjects: "group:NAME" and "person:SUBJECT"."""

    role: str
    subjects: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Roles and who has them.

    digest: SHA-256 of the file's bytes, hex; each session records it.
    protected: namespaces that no `*` of an allow rule reaches.
    """

    roles: tuple[Role, ...]
    bindings: tuple[Binding, ...]
    digest: str
    protected: frozenset[str] = PROTECTED


def matches(glob: str, text: str) -> bool:
    """Whether the whole text fits a glob in which `*` is any run of characters, `?` any one, and all else itself."""
    return fnmatchcase(text, glob.replace("[", "[[]"))


def roles_of(person: Person, policy: Policy) -> tuple[Role, ...]:
    """The roles that bindings give to a person or to one of their groups, by name."""
    subjects = {f"person:{person.subject}", *(f"group:{group}" for group in person.groups)}
    names = {binding.role for binding in policy.bindings if binding.subjects & subjects}
    return tuple(sorted((role for role in policy.roles if role.name in names), key=lambda role: role.name))


def may_enter(person: Person, namespace: str, action: Action, policy: Policy) -> Deny | None:
    """A denial that needs no look at the namespace, or None if the decision depends on what is found there.

    Asked before anything is looked up, so that people without a rule for a namespace learn nothing about it.
    A denial here means that `decide` denies for every target in the namespace.
    """
    roles = roles_of(person, policy)
    place = f"namespace {namespace}"
    denied = _shuts(roles, namespace, action)
    if denied is not None:
        return Deny(rule=denied.name, reason=f"a rule of your roles denies {action} in {place}")
    ways = {action, Action.DEBUG} if action in _ENTERING else {action}  # there may be a debug container
    if any(_opens(roles, namespace, way, policy.protected) for way in ways):
        return None
    others = [a for a in Action if _opens(roles, namespace, a, policy.protected) and not _shuts(roles, namespace, a)]
    return _nothing_allows(roles, action, place, others)


def may_know(person: Person, target: Target, policy: Policy) -> bool:
    """Whether a person may do anything at all in a target, and so may know of it."""
    return any(isinstance(decide(person, target, action, policy), Allow) for action in Action)


def decide(person: Person, target: Target, action: Action, policy: Policy) -> Decision:
    """Whether a person may do something in a target, with the rule that decided.

    When several roles allow it, one that records input is chosen before one that does not, so that a second
    role cannot thin a record out; then the first by name. Of those that allow debug, one that names an image comes
    first, and input is recorded if any of them wants it.
    Who is in an ephemeral container beside another has that one's processes and files too. So it has to be allowed in
    both, and the stricter of the two says what is recorded and what may linger.
    """
    roles = roles_of(person, policy)
    right = _right(target, action)
    allowed = []
    for one in _entered(target):
        decision = _denied(roles, one, {action, right}) or _allowed(roles, one, right, policy.protected)
        if isinstance(decision, Deny):
            return decision
        allowed.append(decision)
    return allowed[0] if len(allowed) == 1 else _strictest(allowed)


def _right(target: Target, action: Action) -> Action:
    """Which action has to be allowed for an action: a debug container is entered by the right that it was made by."""
    return Action.DEBUG if target.container.startswith(DEBUG_CONTAINERS) and action in _ENTERING else action


def _entered(target: Target) -> tuple[Target, ...]:
    """The containers that somebody in a target is as good as in, first the one whose rule is the decision's."""
    if not target.beside:
        return (target,)
    host = replace(target, container=target.beside, ephemeral=False, beside="")
    return (host, target) if _is_ours(target) else (target, host)


def _denied(roles: tuple[Role, ...], target: Target, actions: Collection[Action]) -> Deny | None:
    for action in sorted(actions):
        denied = _denies(roles, target, action)
        if denied is not None:
            return Deny(rule=denied.name, reason=f"a rule of your roles denies {action} in {_place(target)}")
    return None


def _allowed(roles: tuple[Role, ...], target: Target, action: Action, protected: frozenset[str]) -> Decision:
    found = _allows(roles, target, action, protected)
    if not found:
        others = [
            a
            for a in Action
            if _allows(roles, target, _right(target, a), protected)
            and not _denied(roles, target, {a, _right(target, a)})
        ]
        return _nothing_allows(roles, action, _place(target), others)
    role, rule = min(found, key=lambda pair: _rank(*pair, action=action))
    return Allow(
        role=role.name,
        rule=rule.name,
        kubernetes_groups=role.kubernetes_groups,
        record=RecordRules(input=any(one.record.input for one, _ in found)),
        lingering=role.lingering,
        debug_images=role.debug_images,
        debug_user=role.debug_user,
    )


def _rank(role: Role, rule: Rule, *, action: Action) -> tuple[bool, bool, str, str]:
    """Of several that allow an action, the least decides."""
    return action is Action.DEBUG and not role.debug_images, not role.record.input, role.name, rule.name


def _strictest(allowed: Sequence[Allow]) -> Allow:
    """The first, with the record and the end of processes that any of them asks for."""
    return replace(
        allowed[0],
        record=RecordRules(input=any(one.record.input for one in allowed)),
        lingering=all(one.lingering for one in allowed),
    )


def _place(target: Target) -> str:
    return f"container {target.container} of pod {target.pod} in namespace {target.namespace}"


def _shuts(roles: tuple[Role, ...], namespace: str, action: Action) -> Rule | None:
    return _first(rule for rule in _denying(roles) if rule.is_about_every_pod and rule.covers(namespace, action))


def _opens(roles: tuple[Role, ...], namespace: str, action: Action, protected: frozenset[str]) -> bool:
    return any(
        rule.covers(namespace, action) and _may_reach(rule, namespace, protected) for _, rule in _allowing(roles)
    )


def _may_reach(rule: Rule, namespace: str, protected: frozenset[str]) -> bool:
    """Whether an allow rule's globs count for a namespace: a protected one has to be named."""
    return namespace not in protected or namespace in rule.namespaces


def _may_select(rule: Rule, target: Target) -> bool:
    """Whether an allow rule's globs count for a container: an ephemeral one that is not ours has to be named.

    Nobody who wrote the rule can have had it in mind, and it may be allowed more than the pod's own.
    """
    return not target.ephemeral or _is_ours(target) or target.container in rule.containers


def _is_ours(target: Target) -> bool:
    """Whether it is a debug container of the bastion's, beside another."""
    return target.container.startswith(DEBUG_CONTAINERS) and bool(target.beside)


def _denies(roles: tuple[Role, ...], target: Target, action: Action) -> Rule | None:
    return _first(rule for rule in _denying(roles) if rule.covers_target(target, action))


def _allows(
    roles: tuple[Role, ...], target: Target, action: Action, protected: frozenset[str]
) -> list[tuple[Role, Rule]]:
    return [
        (role, rule)
        for role, rule in _allowing(roles)
        if rule.reaches(target, action)
        and _may_reach(rule, target.namespace, protected)
        and _may_select(rule, target)
        and (rule.host_network or not target.host_network)
    ]


def _denying(roles: tuple[Role, ...]) -> Iterator[Rule]:
    return (rule for role in roles for rule in role.deny)


def _allowing(roles: tuple[Role, ...]) -> Iterator[tuple[Role, Rule]]:
    return ((role, rule) for role in roles for rule in role.allow)


def _first(rules: Iterator[Rule]) -> Rule | None:
    return min(rules, key=lambda rule: rule.name, default=None)


def _nothing_allows(roles: tuple[Role, ...], action: Action, place: str, others: list[Action]) -> Deny:
    if not roles:
        reason = f"you have no role here, so {action} in {place} is not allowed; {_ASK}"
    elif others:
        reason = f"none of your roles allows {action} in {place}; what they allow there: {', '.join(others)}"
    else:
        reason = f"none of your roles allows {action} in {place}; {_ASK}"
    return Deny(rule=DEFAULT_DENY, reason=reason)
