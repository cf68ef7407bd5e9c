"""What of the cluster a person may know of, by the policy alone (pure); used by console.door and console.commands.

Whatever is listed comes through here. Of a namespace that nobody's rule opens to a person not even a refusal says
whether there is anything in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion import policy
from bastion.model import Allow, Deny, TargetLogin
from bastion.podfacts import ContainerKind, target_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from bastion.model import Action, Person, Target
    from bastion.podfacts import ContainerFacts, PodFacts
    from bastion.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A pod and those of its containers that a person may do something with: at least one, the default one first."""

    pod: PodFacts
    containers: tuple[ContainerFacts, ...]

    def login(self, container: ContainerFacts) -> TargetLogin:
        """The login that leads to one of them; without its name where nothing else can be meant."""
        only = len(self.containers) == 1 and container.name == _default(self.pod)
        name = "" if only else container.name
        return TargetLogin(kind="", name=self.pod.name, namespace=self.pod.namespace, container=name)


def anywhere(person: Person, action: Action, rules: Policy) -> Deny | None:
    """A denial if none of a person's roles allows an action in any place."""
    roles = policy.roles_of(person, rules)
    if any(action in rule.actions for role in roles for rule in role.allow):
        return None
    reason = f"none of your roles allows {action}" if roles else f"you have no role here, so {action} is not allowed"
    return Deny(rule=policy.DEFAULT_DENY, reason=f"{reason}; ask those who keep the bastion's policy")


def reached(pods: Iterable[PodFacts], person: Person, actions: Collection[Action], rules: Policy) -> Iterator[Reached]:
    """Those of some pods, and of their containers, where a person may do at least one of some things."""
    for pod in pods:
        names = allowed(target_of(pod, ""), [one.name for one in pod.containers], person, actions, rules)
        if names:
            found = [one for one in pod.containers if one.name in names]
            default = _default(pod)
            yield Reached(pod=pod, containers=tuple(sorted(found, key=lambda one: one.name != default)))


def allowed(
    target: Target, names: Collection[str], person: Person, actions: Collection[Action], rules: Policy
) -> frozenset[str]:
    """Those of the containers of a target's pod, by name, where a person may do at least one of some things."""
    possible = [action for action in actions if policy.may_enter(person, target.namespace, action, rules) is None]
    return frozenset(
        name
        for name in names
        for action in possible
        if isinstance(policy.decide(person, replace(target, container=name), action, rules), Allow)
    )


def _default(pod: PodFacts) -> str:
    """The container that a login without one leads to."""
    regular = [one.name for one in pod.containers if one.kind is ContainerKind.REGULAR]
    return pod.default_container if pod.container(pod.default_container) else next(iter(regular), "")
