"""What is listed for a person is what the policy lets them reach: no more, and no less."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion import policy
from bastion.console import podstatus, reach
from bastion.model import Action, Allow, Person
from bastion.podfacts import PodFacts, names_any, pod_facts, target_of, without_naming
from bastion.policy import Binding, Policy, Role, Rule
from support.podobjects import RUNNING, Object, pod, terminated, waiting

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
    pods = [dataclasses.replace(one, uid=f"uid-{number}") for number, one in enumerate(pods)]

    reached = [
        (one.pod.uid, container.name)
        for one in reach.reached(pods, ALICE, actions, rules)
        for container in one.containers
    ]

    expected = [
        (one.uid, container.name)
        for one in pods
        for container in one.containers
        if any(
            isinstance(
                policy.decide(ALICE, target_of(one, container.name), action, rules),
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


def test_a_container_that_somebody_added_is_shown_only_to_whom_a_rule_names_it() -> None:
    made = pod("web", containers={"app": RUNNING}, ephemeral={"debugger": RUNNING})
    by_globs, by_name = one_role(rule(Action.SHELL)), one_role(rule(Action.SHELL, containers=("debugger",)))

    def found(rules: Policy) -> list[str]:
        [one] = reach.reached([pod_facts(made)], ALICE, {Action.SHELL}, rules)
        return [container.name for container in one.containers]

    assert (found(by_globs), found(by_name)) == (["app"], ["debugger"])


STATUSES = st.sampled_from(
    [
        RUNNING,
        {**RUNNING, "ready": False, "restartCount": 2},
        waiting("CrashLoopBackOff", restartCount=9),
        terminated("Completed", 0),
        terminated("Error", 1, containerID="c://1"),
    ]
)
PHASES = st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"])


@given(st.lists(STATUSES, min_size=1, max_size=3), st.tuples(STATUSES, PHASES), st.tuples(STATUSES, PHASES), st.data())
def test_how_a_hidden_container_fares_shows_in_nothing_that_is_said_of_the_pod(
    own: list[Object], one: tuple[Object, str], other: tuple[Object, str], data: st.DataObject
) -> None:
    names = [f"c{number}" for number in range(len(own))]
    at = data.draw(st.integers(0, len(own)))
    kind = data.draw(st.sampled_from(["containers", "init"]))

    def said(hidden: Object, phase: str) -> tuple[str, str, int]:
        listed = list(zip(names, own, strict=True))
        if kind == "containers":
            listed.insert(at, ("vault", hidden))
        made = pod("web", containers=dict(listed), init={"vault": hidden} if kind == "init" else {}, phase=phase)
        seen = reach.as_seen(pod_facts(made), names).pod
        return podstatus.ready(seen), podstatus.status(seen), podstatus.restarts(seen)

    assert said(*one) == said(*other)


def test_a_pod_that_a_hidden_container_keeps_pending_is_running_to_who_sees_one_that_runs() -> None:
    made = pod("web", containers={"app": RUNNING, "vault": waiting("ImagePullBackOff")}, phase="Pending")

    assert podstatus.status(reach.as_seen(pod_facts(made), {"app"}).pod) == "Running"
    assert podstatus.status(reach.as_seen(pod_facts(made), {"app", "vault"}).pod) == "ImagePullBackOff"


@pytest.mark.parametrize(
    ("text", "betrays"),
    [
        ("containers with unready status: [vault]", True),
        ("Container vault was using 3Gi", True),
        ("spec.containers{vault}", True),
        ("container.apparmor.security.beta.kubernetes.io/vault", True),
        ("k8s_vault_web", True),
        ("vault", True),
        ("vault-agent", False),
        ("my-vault", False),
        ("vaults", False),
        ("app", False),
        ("", False),
    ],
)
def test_a_text_betrays_a_hidden_container_by_its_name(text: str, *, betrays: bool) -> None:
    one = reach.as_seen(facts("web", "app", "vault"), {"app"})

    assert one.betrayed_by(text) is betrays
    assert one.said(text) == ("(not shown)" if betrays else text)
    assert reach.as_seen(facts("web", "app", "vault"), {"app", "vault"}).said(text) == text


WORDS = st.lists(
    st.sampled_from(["vault", "app", "Container", "my-vault", "low", "1.5Gi", ". ", ".", "\n"]), max_size=12
)


@given(WORDS.map(" ".join))
def test_no_sentence_that_names_a_container_is_left_and_every_other_is(text: str) -> None:
    left = without_naming(text, ["vault"])

    assert not names_any(left, ["vault"])
    assert without_naming(text, []).split() == text.split()
    assert without_naming(left, ["vault"]) == left
    if not names_any(text, ["vault"]):
        assert left.split() == text.split()


def test_the_rules_that_open_a_place_are_named() -> None:
    everywhere = Rule(name="r/allow[0]", namespaces=("*",), actions=frozenset({Action.PODS, Action.SHELL}))
    system = Rule(name="r/allow[1]", namespaces=("kube-system",), actions=frozenset({Action.PODS}))
    rules = one_role(everywhere, system)

    def opening(action: Action, namespace: str) -> list[str]:
        return list(reach.opening(ALICE, action, namespace, rules))

    assert opening(Action.PODS, "") == ["r/allow[0]", "r/allow[1]"]
    assert opening(Action.PODS, "shop") == ["r/allow[0]"]
    assert opening(Action.PODS, "kube-system") == ["r/allow[1]"]
    assert opening(Action.SHELL, "kube-system") == []
    assert opening(Action.TOP, "") == []
    assert not reach.opening(Person(subject="eve"), Action.PODS, "", rules)


def test_who_may_do_a_thing_nowhere_is_told_so() -> None:
    rules = one_role(rule(Action.SHELL))

    assert reach.anywhere(ALICE, Action.SHELL, rules) is None
    denied = reach.anywhere(ALICE, Action.PODS, rules)
    assert denied is not None
    assert denied.reason == "none of your roles allows pods; ask those who keep the bastion's policy"
    stranger = reach.anywhere(Person(subject="eve"), Action.PODS, rules)
    assert stranger is not None
    assert stranger.reason.startswith("you have no role here")
