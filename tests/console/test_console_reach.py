"""What is listed for a person is what the policy lets them reach: no more, and no less."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion import policy
from bastion.console import reach
from bastion.model import Action, Allow, Person, Target
from bastion.podfacts import PodFacts, pod_facts
from bastion.policy import Binding, Policy, Role, Rule
from support.podobjects import RUNNING, pod

ALICE = Person(subject="alice", groups=frozenset({"shop"}))
ACTIONS = (Action.SHELL, Action.PODS)


def facts(name: str, *containers: str, namespace: str = "shop", labels: dict[str, str] | None = None) -> PodFacts:
    made = pod(name, namespace=namespace, containers=dict.fromkeys(containers or ("app",), RUNNING))
    return dataclasses.replace(pod_facts(made), labels=labels or {})


def one_role(*allow: Rule, deny: tuple[Rule, ...] = (), subjects: tuple[str, ...] = ("group:shop",)) -> Policy:
    role = Role(name="r", kubernetes_groups=(), allow=allow, deny=deny)
    return Policy(roles=(role,), bindings=(Binding(role="r", subjects=frozenset(subjects)),), digest="0")


def rule(*actions: Action, containers: tuple[str, ...] = ("*",)) -> Rule:
    return Rule(name="x", namespaces=("shop",), actions=frozenset(actions), containers=containers)


NAMESPACES = st.lists(st.sampled_from(["shop", "prod", "*", "s*"]), min_size=1, max_size=2).map(tuple)
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["web", "db"]), max_size=2)
RULES = st.builds(
    Rule,
    name=st.sampled_from(["a", "b"]),
    namespaces=NAMESPACES,
    actions=st.frozensets(st.sampled_from(ACTIONS), min_size=1),
    labels=LABELS,
    containers=st.sampled_from([("*",), ("app",), ("*", "!vault"), ("nope",)]),
)
PODS = st.lists(
    st.builds(
        facts,
        st.sampled_from(["web", "db"]),
        st.sampled_from(["app", "vault"]),
        st.just("log"),
        namespace=st.sampled_from(["shop", "prod", "other"]),
        labels=LABELS,
    ),
    max_size=4,
)


@given(
    PODS, st.lists(RULES, max_size=3), st.lists(RULES, max_size=1), st.frozensets(st.sampled_from(ACTIONS), min_size=1)
)
def test_a_container_is_reached_if_and_only_if_the_policy_allows_it(
    pods: list[PodFacts], allow: list[Rule], deny: list[Rule], actions: frozenset[Action]
) -> None:
    rules = one_role(*allow, deny=tuple(deny))

    reached = [
        (id(one.pod), container.name)
        for one in reach.reached(pods, ALICE, actions, rules)
        for container in one.containers
    ]

    expected = [
        (id(one), container.name)
        for one in pods
        for container in one.containers
        if any(
            isinstance(
                policy.decide(
                    ALICE,
                    Target(
                        namespace=one.namespace,
                        pod=one.name,
                        pod_uid=one.uid,
                        container=container.name,
                        labels=one.labels,
                    ),
                    action,
                    rules,
                ),
                Allow,
            )
            for action in actions
        )
    ]
    assert sorted(reached) == sorted(expected)
    for action in actions:
        if reach.anywhere(ALICE, action, rules) is not None:
            assert not list(reach.reached(pods, ALICE, {action}, rules))


@pytest.mark.parametrize(
    ("containers", "excluded", "default", "logins"),
    [
        (("app",), "", "", ["web.shop"]),
        (("app", "log"), "", "", ["web.shop+app", "web.shop+log"]),
        (("log", "app"), "", "app", ["web.shop+app", "web.shop+log"]),
        (("app", "vault"), "vault", "", ["web.shop"]),
        (("vault", "app"), "vault", "", ["web.shop+app"]),
        (("app", "log"), "", "gone", ["web.shop+app", "web.shop+log"]),
        (("vault",), "vault", "", []),
    ],
)
def test_a_login_names_the_container_where_another_could_be_meant(
    containers: tuple[str, ...], excluded: str, default: str, logins: list[str]
) -> None:
    rules = one_role(rule(Action.SHELL, containers=("*", f"!{excluded}") if excluded else ("*",)))
    web = dataclasses.replace(facts("web", *containers), default_container=default)

    found = [str(one.login(c)) for one in reach.reached([web], ALICE, {Action.SHELL}, rules) for c in one.containers]

    assert found == logins


def test_who_may_do_a_thing_nowhere_is_told_so() -> None:
    rules = one_role(rule(Action.SHELL))

    assert reach.anywhere(ALICE, Action.SHELL, rules) is None
    denied = reach.anywhere(ALICE, Action.PODS, rules)
    assert denied is not None
    assert denied.reason == "none of your roles allows pods; ask those who keep the bastion's policy"
    stranger = reach.anywhere(Person(subject="eve"), Action.PODS, rules)
    assert stranger is not None
    assert stranger.reason.startswith("you have no role here")
