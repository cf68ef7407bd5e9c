"""The smallest set of rights: golden lists for each mode and action, and what never appears, whatever is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bastion.model import Action
from bastion.pods.manifests import manifests
from bastion.pods.rights import (
    EVERYWHERE,
    IMPERSONATE,
    MODES,
    REAPER,
    SERVICE_ACCOUNT,
    Grant,
    Question,
    forbidden,
    is_anybody,
    needed,
    questions,
    remarks,
)
from bastion.policy import Binding, Policy, Role, Rule

GOLDEN = Path(__file__).parent.parent / "data" / "rbac"
ACCOUNT = ("bastion", "bastion")


def allow(*actions: Action, namespaces: tuple[str, ...] = ("shop",)) -> Rule:
    return Rule(name="r/allow[0]", namespaces=namespaces, actions=frozenset(actions))


def policy(*rules: Rule, groups: tuple[str, ...] = ("bastion:shop-developer",), subject: str = "group:shop") -> Policy:
    role = Role(name="shop-developer", kubernetes_groups=groups, allow=rules)
    return Policy(roles=(role,), bindings=(Binding(role=role.name, subjects=frozenset({subject})),), digest="")


def granted(grants: tuple[Grant, ...], subject: str) -> dict[str, set[tuple[str, str]]]:
    """What a subject gets, by place: resources and verbs."""
    found: dict[str, set[tuple[str, str]]] = {}
    for grant in grants:
        if grant.subject == subject:
            pairs = {(name, verb) for rule in grant.rules for name in rule.resources for verb in rule.verbs}
            found.setdefault(grant.place, set()).update(pairs)
    return found


class TestGoldenLists:
    """Each is what this printed: bastion doctor --rbac --mode MODE --policy FILE, with such a policy."""

    @pytest.mark.parametrize("action", Action)
    @pytest.mark.parametrize("mode", MODES)
    def test_of_each_mode_and_action(self, mode: str, action: Action) -> None:
        text = manifests(needed(mode, policy(allow(action))), ACCOUNT)

        assert text == (GOLDEN / f"{mode}-{action}.yaml").read_text()

    @pytest.mark.parametrize("mode", MODES)
    def test_of_each_mode_with_every_action_in_named_namespaces(self, mode: str) -> None:
        everything = policy(allow(*Action, namespaces=("shop", "shop-*")))

        text = manifests(needed(mode, everything, ("shop", "shop-test", "other")), ACCOUNT)

        assert text == (GOLDEN / f"{mode}-namespaces.yaml").read_text()


class TestPlaces:
    def test_a_namespace_that_is_named_gets_its_own_role(self) -> None:
        grants = needed(IMPERSONATE, policy(allow(Action.LOGS), allow(Action.EXEC, namespaces=("prod",))))

        assert granted(grants, "bastion:shop-developer") == {
            "shop": {("pods/log", "get")},
            "prod": {("pods/exec", "get"), ("pods/exec", "create")},
        }
        assert granted(grants, REAPER) == {"prod": {("pods/exec", "get"), ("pods/exec", "create")}}

    def test_a_pattern_is_resolved_in_the_namespaces_that_are_given(self) -> None:
        asked = policy(allow(Action.LOGS, namespaces=("shop-*",)))

        grants = needed(IMPERSONATE, asked, ("shop-a", "shop-b", "other"))

        assert set(granted(grants, "bastion:shop-developer")) == {"shop-a", "shop-b"}
        assert set(granted(grants, "bastion")) == {EVERYWHERE, "shop-a", "shop-b", "other"}
        assert remarks(IMPERSONATE, asked, ("shop-a",)) == ()

    def test_no_pattern_reaches_a_protected_namespace_that_is_not_named(self) -> None:
        wide = policy(allow(Action.EXEC, namespaces=("*",)))
        named = policy(allow(Action.EXEC, namespaces=("*", "kube-system")))
        namespaces = ("kube-system", "shop")

        assert set(granted(needed(IMPERSONATE, wide, namespaces), REAPER)) == {"shop"}
        assert set(granted(needed(IMPERSONATE, named, namespaces), REAPER)) == {"kube-system", "shop"}

    def test_a_pattern_without_them_means_everywhere_and_is_remarked_on(self) -> None:
        asked = policy(allow(Action.LOGS, namespaces=("shop-*", "shop")), allow(Action.LOGS, Action.TOP))

        grants = needed(IMPERSONATE, asked)

        assert granted(grants, "bastion:shop-developer") == {
            EVERYWHERE: {("pods/log", "get")},
            "shop": {("pods", "get")},
        }
        assert "names namespaces by pattern (shop-*)" in remarks(IMPERSONATE, asked)[0]

    def test_a_namespace_that_the_bastion_does_not_look_into_gets_nothing(self) -> None:
        grants = needed(IMPERSONATE, policy(allow(Action.EXEC)), ("prod",))

        assert {grant.place for grant in grants} == {EVERYWHERE, "prod"}
        assert granted(grants, "bastion:shop-developer") == {}

    def test_in_serviceaccount_mode_with_namespaces_nothing_is_for_the_whole_cluster(self) -> None:
        grants = needed(SERVICE_ACCOUNT, policy(allow(*Action)), ("shop",))

        assert {grant.place for grant in grants} == {"shop"}
        assert {grant.kind for grant in grants} == {"ServiceAccount"}


class TestImpersonation:
    def names(self, asked: Policy, resource: str) -> list[tuple[str, ...]]:
        rules = [rule for grant in needed(IMPERSONATE, asked) for rule in grant.rules]
        return [rule.names for rule in rules if rule.resources == (resource,) and rule.verbs == ("impersonate",)]

    def test_is_of_the_groups_of_the_policy_alone(self) -> None:
        assert self.names(policy(allow(Action.EXEC), groups=("bastion:b", "bastion:a")), "groups") == [
            ("bastion:a", "bastion:b")
        ]

    def test_of_no_group_is_no_rule_because_one_without_names_would_be_about_all(self) -> None:
        asked = policy(allow(Action.EXEC), groups=())

        assert self.names(asked, "groups") == []
        assert "Role shop-developer names no Kubernetes group" in remarks(IMPERSONATE, asked)[0]

    def test_is_of_listed_people_where_the_policy_lists_them_all(self) -> None:
        people = policy(allow(Action.EXEC), subject="person:alice")

        assert self.names(people, "users") == [("bastion:alice", "bastion:reaper")]
        assert self.names(policy(allow(Action.EXEC)), "users") == [()]

    def test_is_not_in_serviceaccount_mode(self) -> None:
        rules = [rule for grant in needed(SERVICE_ACCOUNT, policy(allow(*Action))) for rule in grant.rules]

        assert not {"impersonate"} & {verb for rule in rules for verb in rule.verbs}
        assert "subjectaccessreviews" not in {name for rule in rules for name in rule.resources}


def own(grants: tuple[Grant, ...]) -> tuple[Question, ...]:
    """What the ServiceAccount has to be allowed."""
    return tuple(question for grant in grants if grant.kind == "ServiceAccount" for question in questions(grant))


def holds(had: Question, wanted: Question) -> bool:
    """Whether a right brings another with it: it is about every name, or about the whole cluster."""
    return (
        (had.verb, had.group, had.resource, had.subresource)
        == (wanted.verb, wanted.group, wanted.resource, wanted.subresource)
        and had.name in {"", wanted.name}
        and had.place in {EVERYWHERE, wanted.place}
    )


LABELS = st.sampled_from(["shop", "prod", "kube-system", "true", "123", "y"])
GLOBS = st.one_of(LABELS, st.sampled_from(["*", "shop-*", "?rod"]))
GROUPS = st.sampled_from(["bastion:a", "bastion:a/b", "bastion:a.b", "bastion:reaper", "bastion:x@y", "bastion:A_b"])
RULES = st.builds(
    Rule,
    name=st.just("r/allow[0]"),
    namespaces=st.lists(GLOBS, min_size=1, max_size=3).map(tuple),
    actions=st.frozensets(st.sampled_from(list(Action)), min_size=1),
)
ROLES = st.lists(
    st.builds(
        Role,
        name=st.sampled_from(["one", "two", "three"]),
        kubernetes_groups=st.lists(GROUPS, max_size=2, unique=True).map(tuple),
        allow=st.lists(RULES, max_size=3).map(tuple),
    ),
    max_size=3,
    unique_by=lambda role: role.name,
)
SUBJECTS = st.frozensets(st.sampled_from(["person:alice", "person:bob", "group:g"]), min_size=1)
BINDINGS = st.lists(st.builds(Binding, role=st.just("one"), subjects=SUBJECTS), max_size=2)
POLICIES = st.builds(Policy, roles=ROLES.map(tuple), bindings=BINDINGS.map(tuple), digest=st.just(""))
NAMESPACES = st.lists(LABELS, max_size=3, unique=True).map(tuple)


def allowed_actions(asked: Policy) -> set[Action]:
    return {action for role in asked.roles for rule in role.allow for action in rule.actions}


@given(asked=POLICIES, mode=st.sampled_from(MODES), namespaces=NAMESPACES)
@settings(max_examples=100)
def test_nothing_forbidden_is_ever_granted_to_anybody(asked: Policy, mode: str, namespaces: tuple[str, ...]) -> None:
    grants = needed(mode, asked, namespaces)

    avoided = forbidden(mode, namespaces, anybody=is_anybody(grants))
    assert not [(had, wanted) for had in own(grants) for wanted in avoided if holds(had, wanted)]
    for grant in grants:
        for rule in grant.rules:
            assert not {"escalate", "bind", "*"} & set(rule.verbs)
            assert not {"secrets", "nodes/proxy", "nodes", "pods/attach", "serviceaccounts", "*"} & set(rule.resources)
            assert rule.group != "*"
            assert not any(name.startswith("system:") for name in rule.names)
            if rule.resources == ("groups",):
                assert rule.names
            if rule.resources == ("pods",) and not rule.group:
                assert set(rule.verbs) <= {"get", "list", "watch"}
            if mode == IMPERSONATE and grant.kind == "ServiceAccount":
                assert not any(resource.startswith("pods/") for resource in rule.resources)


@given(asked=POLICIES, mode=st.sampled_from(MODES), namespaces=NAMESPACES)
@settings(max_examples=100)
def test_what_no_action_needs_is_not_granted(asked: Policy, mode: str, namespaces: tuple[str, ...]) -> None:
    grants = needed(mode, asked, namespaces)
    resources = {name for grant in grants for rule in grant.rules for name in rule.resources}
    actions = allowed_actions(asked)
    processes = {Action.SHELL, Action.EXEC, Action.SFTP_READ, Action.SFTP_WRITE, Action.DEBUG}

    for resource, wanted in {
        "pods/exec": processes,
        "pods/portforward": {Action.FORWARD},
        "pods/log": {Action.LOGS},
        "pods/ephemeralcontainers": {Action.DEBUG},
        "events": {Action.DESCRIBE, Action.EVENTS},
    }.items():
        assert resource not in resources or actions & wanted
    if namespaces:
        assert {grant.place for grant in grants} <= {EVERYWHERE, *namespaces}


@given(asked=POLICIES, mode=st.sampled_from(MODES), namespaces=NAMESPACES)
@settings(max_examples=100)
def test_the_yaml_says_what_the_grants_say_and_names_each_object_once(
    asked: Policy, mode: str, namespaces: tuple[str, ...]
) -> None:
    grants = needed(mode, asked, namespaces)
    objects = list(yaml.safe_load_all(manifests(grants, ACCOUNT, remarks(mode, asked, namespaces))))
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    roles = {name: one["rules"] for name, one in zip(names, objects, strict=True) if name[0].endswith("Role")}

    assert len(set(names)) == len(names)
    assert len(roles) == len(grants)
    for name, one in zip(names, objects, strict=True):
        if name[0].endswith("RoleBinding"):
            assert roles[one["roleRef"]["kind"], name[1], one["roleRef"]["name"]]
            assert len(one["subjects"]) == 1
    assert sorted(map(str, (as_object(rule) for grant in grants for rule in grant.rules))) == sorted(
        str(rule) for rules in roles.values() for rule in rules
    )


def as_object(rule: Any) -> dict[str, list[str]]:
    """A rule as Kubernetes has it."""
    plain = {"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)}
    return plain | ({"resourceNames": list(rule.names)} if rule.names else {})


def test_what_is_looked_up_is_granted_as_it_is_used() -> None:
    """ReplicaSets are listed and watched, and none is ever asked for by its name; all others are."""
    verbs: dict[str, set[str]] = {}
    for question in own(needed(SERVICE_ACCOUNT, policy())):
        verbs.setdefault(question.resource, set()).add(question.verb)

    assert verbs == {
        **{kind: {"get", "list", "watch"} for kind in ("pods", "deployments", "statefulsets", "daemonsets", "jobs")},
        "replicasets": {"list", "watch"},
        "namespaces": {"get"},
    }


class TestForbidden:
    def said(self, mode: str, *, anybody: bool = False) -> set[str]:
        return {str(question) for question in forbidden(mode, ("shop",), anybody=anybody)}

    def test_as_people_the_bastion_itself_enters_no_pod_and_reaches_none(self) -> None:
        entering = {
            *(f"{verb} pods/{name} in shop" for verb in ("get", "create") for name in ("exec", "portforward")),
            *(f"{verb} pods/ephemeralcontainers in shop" for verb in ("patch", "update")),
        }

        assert entering <= self.said(IMPERSONATE)
        assert not entering & self.said(SERVICE_ACCOUNT)

    @pytest.mark.parametrize("mode", MODES)
    def test_it_makes_and_removes_nothing(self, mode: str) -> None:
        made = {"pods", "deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps"}
        made |= {"jobs.batch", "cronjobs.batch"}

        assert {f"create {kind}{place}" for kind in made for place in ("", " in shop")} <= self.said(mode)
        assert {"delete pods", "delete pods in shop", "create pods/attach in shop"} <= self.said(mode)

    def test_the_clusters_own_users_are_asked_about_unless_the_policy_needs_every_name(self) -> None:
        users = {f"impersonate users system:{name}" for name in ("admin", "kube-controller-manager", "kube-scheduler")}
        named, grouped = policy(allow(Action.EXEC), subject="person:alice"), policy(allow(Action.EXEC))

        assert users <= self.said(IMPERSONATE, anybody=is_anybody(needed(IMPERSONATE, named)))
        assert not users & self.said(IMPERSONATE, anybody=is_anybody(needed(IMPERSONATE, grouped)))
        assert users <= self.said(SERVICE_ACCOUNT, anybody=is_anybody(needed(SERVICE_ACCOUNT, grouped)))


def test_questions_are_asked_for_each_verb_resource_and_name_of_a_subject() -> None:
    grants = needed(IMPERSONATE, policy(allow(Action.EXEC)), ("shop",))
    asked = {str(question) for question in own(grants)}
    others = {grant.subject: {str(question) for question in questions(grant)} for grant in grants}

    assert {"watch pods in shop", "get jobs.batch in shop", "impersonate groups bastion:shop-developer"} <= asked
    assert "impersonate userextras/bastion-session.authentication.k8s.io" in asked
    assert not any("pods/exec" in question for question in asked)
    assert others[REAPER] == others["bastion:shop-developer"] == {"get pods/exec in shop", "create pods/exec in shop"}
