"""What of the cluster a person may know of, by the policy alone (pure); used by console.door and console.commands.

Whatever is shown of a pod comes through here: a container where a person may not do what they ask for is as if it were
not there. Of a namespace that nobody's rule opens to a person not even a refusal says whether there is anything in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion import policy
from bastion.model import Allow, Deny, TargetLogin
from bastion.podfacts import ContainerKind, names_any, target_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from bastion.model import Action, Person
    from bastion.podfacts import ContainerFacts, PodFacts
    from bastion.policy import Policy

WITHHELD = "(not shown)"
"""Stands for what a person may not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A pod as a person may know of it: as if it had no other containers than those where they may do something.

    pod: with those alone. containers: the same, the default one first.
    default: the container that a login without one leads to where all are seen. hidden: the others, by name.
    """

    pod: PodFacts
    containers: tuple[ContainerFacts, ...]
    default: str
    hidden: frozenset[str]

    def login(self, container: ContainerFacts) -> TargetLogin:
        """The login that leads to one of them; without its name where nothing else can be meant."""
        only = len(self.containers) == 1 and container.name == self.default
        name = "" if only else container.name
        return TargetLogin(kind="", name=self.pod.name, namespace=self.pod.namespace, container=name)

    def names(self, container: str = "") -> frozenset[str]:
        """The names of its containers; of a login that names one, of that one."""
        return frozenset(one.name for one in self.containers if container in {"", one.name})

    def betrayed_by(self, text: str) -> bool:
        """Whether a text holds the name of a hidden container."""
        return names_any(text, self.hidden)

    def said(self, text: str) -> str:
        """What the cluster says of the pod, unless that names a hidden container."""
        return WITHHELD if self.betrayed_by(text) else text


def anywhere(person: Person, action: Action, rules: Policy) -> Deny | None:
    """A denial if none of a person's roles allows an action in any place."""
    if opening(person, action, "", rules):
        return None
    has_roles = policy.roles_of(person, rules)
    reason = (
        f"none of your roles allows {action}" if has_roles else f"you have no role here, so {action} is not allowed"
    )
    return Deny(rule=policy.DEFAULT_DENY, reason=f"{reason}; ask those who keep the bastion's policy")


def opening(person: Person, action: Action, namespace: str, rules: Policy) -> Sequence[str]:
    """The rules that allow a person an action somewhere in a namespace ("" is any), by name."""
    return [
        rule.name
        for role in policy.roles_of(person, rules)
        for rule in role.allow
        if (rule.covers(namespace, action) if namespace else action in rule.actions)
        and (namespace not in rules.protected or namespace in rule.namespaces)
    ]


def reached(pods: Iterable[PodFacts], person: Person, actions: Collection[Action], rules: Policy) -> Iterator[Reached]:
    """Those of some pods, and of their containers, where a person may do at least one of some things."""
    for pod in pods:
        one = seen_by(pod, person, actions, rules)
        if one.containers:
            yield one


def seen_by(pod: PodFacts, person: Person, actions: Collection[Action], rules: Policy) -> Reached:
    """A pod as a person may know of it by some actions; maybe with none of its containers."""
    return as_seen(pod, _allowed(pod, person, actions, rules))


def as_seen(pod: PodFacts, containers: Collection[str]) -> Reached:
    """A pod as somebody may know of it who may do something in these of its containers, by name."""
    own = [one for one in pod.containers if one.name in containers]
    hidden = frozenset(one.name for one in pod.containers if one.name not in containers)
    default = _default(pod)
    return Reached(
        pod=_without_others(pod, own) if hidden else pod,
        containers=tuple(sorted(own, key=lambda one: one.name != default)),
        default=default,
        hidden=hidden,
    )


def _without_others(pod: PodFacts, containers: Sequence[ContainerFacts]) -> PodFacts:
    """The pod with some of its containers alone. Where one of them runs, it does: others may yet keep it Pending."""
    runs = any(one.running and one.kind is ContainerKind.REGULAR for one in containers)
    return replace(pod, containers=tuple(containers), phase="Running" if runs else pod.phase)


def _allowed(pod: PodFacts, person: Person, actions: Collection[Action], rules: Policy) -> frozenset[str]:
    """Those of a pod's containers, by name, where a person may do at least one of some things."""
    possible = [action for action in actions if policy.may_enter(person, pod.namespace, action, rules) is None]
    return frozenset(
        one.name
        for one in pod.containers
        for action in possible
        if isinstance(policy.decide(person, target_of(pod, one.name), action, rules), Allow)
    )


def _default(pod: PodFacts) -> str:
    """The container that a login without one leads to."""
    regular = [one.name for one in pod.containers if one.kind is ContainerKind.REGULAR]
    return pod.default_container if pod.container(pod.default_container) else next(iter(regular), "")
