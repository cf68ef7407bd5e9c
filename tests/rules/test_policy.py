"""Who may do what where: a table to read, and the three laws as properties."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion import policyfile
from bastion.model import Action, Allow, Deny, Person, RecordRules, Target
from bastion.podfacts import pod_facts, target_of
from bastion.policy import DEFAULT_DENY, Binding, Policy, Role, Rule, decide, matches, may_enter, may_know, roles_of
from support import podobjects

if TYPE_CHECKING:
    import random

POLICY = policyfile.parse(
    b"""
roles:
  shop-developer:
    kubernetes: {groups: ["bastion:shop-developer"]}
    allow:
      - namespaces: [shop, "shop-*"]
        pods: {matchLabels: {team: shop}}
        containers: ["*", "!vault-*"]
        actions: [shell, exec, logs]
  reader:
    kubernetes: {groups: ["bastion:reader"]}
    allow:
      - {namespaces: ["*"], actions: [logs, describe]}
    deny:
      - {namespaces: [kube-system]}
      - {namespaces: ["*"], containers: ["vault-*"], actions: [logs]}
  watched:
    kubernetes: {groups: ["bastion:watched"]}
    allow:
      - {namespaces: [shop], actions: [shell]}
    record: {input: true}
bindings:
  - {role: shop-developer, subjects: ["group:shop-team", "person:dora"]}
  - {role: reader, subjects: ["group:everybody"]}
  - {role: watched, subjects: ["person:walt"]}
""",
    "policy.yaml",
)

PEOPLE = {
    "dora": Person(subject="dora"),
    "sam": Person(subject="sam", groups=frozenset({"shop-team"})),
    "rita": Person(subject="rita", groups=frozenset({"everybody"})),
    "both": Person(subject="both", groups=frozenset({"shop-team", "everybody"})),
    "walt": Person(subject="walt", groups=frozenset({"shop-team"})),
    "nobody": Person(subject="nobody"),
    "shop-team": Person(subject="shop-team"),  # a person whose subject is a group's name
}


def pod(namespace: str, container: str = "app", **labels: str) -> Target:
    return Target(namespace=namespace, pod="api-0", pod_uid="uid", container=container, labels=labels)


@pytest.mark.parametrize(
    ("who", "where", "what", "by"),
    [
        # a binding names a person, or a group the person is in
        ("dora", pod("shop", team="shop"), Action.SHELL, "shop-developer/allow[0]"),
        ("sam", pod("shop", team="shop"), Action.SHELL, "shop-developer/allow[0]"),
        ("shop-team", pod("shop", team="shop"), Action.SHELL, DEFAULT_DENY),
        ("nobody", pod("shop", team="shop"), Action.LOGS, DEFAULT_DENY),
        # each action is its own: none is the absence of another
        ("sam", pod("shop", team="shop"), Action.EXEC, "shop-developer/allow[0]"),
        ("sam", pod("shop", team="shop"), Action.SFTP_READ, DEFAULT_DENY),
        ("sam", pod("shop", team="shop"), Action.DESCRIBE, DEFAULT_DENY),
        ("rita", pod("shop", team="shop"), Action.SHELL, DEFAULT_DENY),
        # namespaces are globs over the whole name
        ("sam", pod("shop-eu", team="shop"), Action.SHELL, "shop-developer/allow[0]"),
        ("sam", pod("shopping", team="shop"), Action.SHELL, DEFAULT_DENY),
        ("sam", pod("my-shop", team="shop"), Action.SHELL, DEFAULT_DENY),
        ("sam", pod("prod", team="shop"), Action.SHELL, DEFAULT_DENY),
        # every label must be on the pod
        ("sam", pod("shop", team="shop", app="api"), Action.SHELL, "shop-developer/allow[0]"),
        ("sam", pod("shop", team="other"), Action.SHELL, DEFAULT_DENY),
        ("sam", pod("shop"), Action.SHELL, DEFAULT_DENY),
        # containers after a "!" are left out
        ("sam", pod("shop", "sidecar", team="shop"), Action.SHELL, "shop-developer/allow[0]"),
        ("sam", pod("shop", "vault-agent", team="shop"), Action.SHELL, DEFAULT_DENY),
        # a deny rule without actions is about all of them
        ("rita", pod("prod"), Action.DESCRIBE, "reader/allow[0]"),
        ("rita", pod("kube-system"), Action.DESCRIBE, "reader/deny[0]"),
        ("rita", pod("kube-system"), Action.SHELL, "reader/deny[0]"),
        # deny wins, also over what another role allows
        ("rita", pod("shop", "vault-agent", team="shop"), Action.LOGS, "reader/deny[1]"),
        ("both", pod("shop", "vault-agent", team="shop"), Action.LOGS, "reader/deny[1]"),
        # of two roles that allow, the first by name; but before it one that records input
        ("both", pod("shop", team="shop"), Action.LOGS, "reader/allow[0]"),
        ("walt", pod("shop", team="shop"), Action.SHELL, "watched/allow[0]"),
    ],
)
def test_the_rules_decide(who: str, where: Target, what: Action, by: str) -> None:
    decision = decide(PEOPLE[who], where, what, POLICY)

    assert decision.rule == by
    assert isinstance(decision, Allow) == ("/allow[" in by)


def test_an_allow_carries_what_follows_from_its_role_alone() -> None:
    assert decide(PEOPLE["walt"], pod("shop", team="shop"), Action.SHELL, POLICY) == Allow(
        role="watched",
        rule="watched/allow[0]",
        kubernetes_groups=("bastion:watched",),
        record=RecordRules(input=True),
    )


@pytest.mark.parametrize(
    ("who", "namespace", "what", "reason"),
    [
        ("sam", "shop", Action.SHELL, None),
        ("sam", "prod", Action.SHELL, "none of your roles allows shell in namespace prod; ask those who keep"),
        ("rita", "shop", Action.SHELL, "allows shell in namespace shop; what they allow there: logs, describe"),
        ("rita", "kube-system", Action.LOGS, "a rule of your roles denies logs in namespace kube-system"),
        ("both", "shop", Action.LOGS, None),
        ("nobody", "shop", Action.LOGS, "you have no role here, so logs in namespace shop is not allowed; ask"),
    ],
)
def test_who_has_no_rule_for_a_namespace_is_told_so_before_anything_is_looked_up(
    who: str, namespace: str, what: Action, reason: str | None
) -> None:
    denied = may_enter(PEOPLE[who], namespace, what, POLICY)

    assert (denied is None) if reason is None else (denied is not None and reason in denied.reason)


def test_a_denial_names_the_place_and_what_is_allowed_there() -> None:
    denied = decide(PEOPLE["both"], pod("shop", "sidecar"), Action.SHELL, POLICY)

    assert isinstance(denied, Deny)
    assert denied.reason == (
        "none of your roles allows shell in container sidecar of pod api-0 in namespace shop; "
        "what they allow there: logs, describe"
    )


@pytest.mark.parametrize(
    ("glob", "text", "fits"),
    [
        ("shop", "shop", True),
        ("shop", "shop2", False),
        ("shop", "Shop", False),
        ("*", "", True),
        ("s*p", "ship-shop", True),
        ("sho?", "shop", True),
        ("sho?", "sho", False),
        ("[s]hop", "shop", False),
        ("[s]hop", "[s]hop", True),
        ("[!a]*", "shop", False),
        ("a.c", "abc", False),
        ("a*", "a\nb", True),
    ],
)
def test_only_star_and_question_mark_are_special_in_a_glob(glob: str, text: str, fits: bool) -> None:  # noqa: FBT001 - a table
    assert matches(glob, text) is fits


NAMES = st.sampled_from(["shop", "shop-eu", "prod"])
GLOBS = st.sampled_from(["*", "shop", "shop*", "prod", "?rod"])
LABELS = st.dictionaries(st.sampled_from(["team", "app"]), st.sampled_from(["a", "b"]), max_size=2)
CONTAINERS = st.sampled_from([("*",), ("app",), ("*", "!app"), ("dbg", "app")])
ACTIONS = st.sampled_from(Action)
PERSONS = st.builds(Person, subject=st.sampled_from(["p", "q"]), groups=st.frozensets(st.sampled_from(["g", "h"])))
CONTAINER = {"namespace": NAMES, "pod": st.just("pod"), "pod_uid": st.just("uid"), "labels": LABELS}
ADDED = st.builds(
    Target,
    **CONTAINER,
    container=st.sampled_from(["dbg", "bastion-debug-0123abcd-1"]),
    ephemeral=st.just(value=True),
    beside=st.sampled_from(["", "app", "side"]),
)
TARGETS = st.builds(Target, **CONTAINER, container=st.sampled_from(["app", "side"])) | ADDED


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    roles = []
    for name in draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True)):
        rules = {
            kind: tuple(
                Rule(
                    name=f"{name}/{kind}[{i}]",
                    namespaces=(draw(GLOBS),),
                    labels=draw(LABELS),
                    containers=draw(CONTAINERS),
                    actions=draw(st.frozensets(ACTIONS, min_size=1)),
                )
                for i in range(draw(st.integers(0, most)))
            )
            for kind, most in (("allow", 3), ("deny", 1))
        }
        roles.append(
            Role(
                name=name,
                kubernetes_groups=(f"bastion:{name}",),
                allow=rules["allow"],
                deny=rules["deny"],
                record=RecordRules(input=draw(st.booleans())),
                lingering=draw(st.booleans()),
            )
        )
    subjects = st.frozensets(st.sampled_from(["person:p", "person:q", "group:g", "group:h"]), min_size=1)
    bindings = tuple(Binding(role=role.name, subjects=draw(subjects)) for role in roles)
    return Policy(roles=tuple(roles), bindings=bindings, digest="")


@given(PERSONS, TARGETS, ACTIONS, policies())
def test_without_a_rule_that_allows_it_there_is_no_access(
    person: Person, target: Target, action: Action, policy: Policy
) -> None:
    silent = replace(policy, roles=tuple(replace(role, allow=()) for role in policy.roles))
    decision = decide(person, target, action, policy)

    assert isinstance(decide(person, target, action, silent), Deny)
    if isinstance(decision, Allow):
        role = next(role for role in roles_of(person, policy) if role.name == decision.role)
        rule = next(rule for rule in role.allow if rule.name == decision.rule)
        places = (target, replace(target, container=target.beside or target.container))
        assert any(rule.covers_target(place, one) for place in places for one in (action, Action.DEBUG))
        assert decision.kubernetes_groups == role.kubernetes_groups


@given(PERSONS, TARGETS, ACTIONS, policies())
def test_a_deny_rule_of_any_role_wins_over_every_allow(
    person: Person, target: Target, action: Action, policy: Policy
) -> None:
    everything = Rule(name="no/deny[0]", namespaces=("*",), actions=frozenset(Action))
    no = Role(name="no", kubernetes_groups=(), deny=(everything,))
    subject = Binding(role="no", subjects=frozenset({f"person:{person.subject}"}))
    denying = replace(policy, roles=(*policy.roles, no), bindings=(*policy.bindings, subject))

    assert isinstance(decide(person, target, action, denying), Deny)
    assert may_enter(person, target.namespace, action, denying) is not None


@given(PERSONS, TARGETS, ACTIONS, policies(), st.randoms(use_true_random=False))
def test_the_order_of_roles_rules_and_bindings_means_nothing(
    person: Person, target: Target, action: Action, policy: Policy, chance: random.Random
) -> None:
    def shuffled(role: Role) -> Role:
        return replace(
            role,
            allow=tuple(chance.sample(role.allow, len(role.allow))),
            deny=tuple(chance.sample(role.deny, len(role.deny))),
        )

    other = replace(
        policy,
        roles=tuple(chance.sample([shuffled(role) for role in policy.roles], len(policy.roles))),
        bindings=tuple(chance.sample(policy.bindings, len(policy.bindings))),
    )

    assert decide(person, target, action, other) == decide(person, target, action, policy)
    assert may_enter(person, target.namespace, action, other) == may_enter(person, target.namespace, action, policy)


@given(PERSONS, TARGETS, ACTIONS, policies())
def test_who_may_not_enter_a_namespace_is_denied_every_target_in_it(
    person: Person, target: Target, action: Action, policy: Policy
) -> None:
    if may_enter(person, target.namespace, action, policy) is not None:
        assert isinstance(decide(person, target, action, policy), Deny)


# --- what no `*` reaches (A74) -----------------------------------------------------------------

WIDE = policyfile.parse(
    b"""
roles:
  wide:
    allow:
      - {namespaces: ["*"], actions: [shell]}
  named:
    allow:
      - {namespaces: ["*", kube-system], actions: [shell]}
  hosts:
    allow:
      - {namespaces: ["*"], pods: {hostNetwork: true}, actions: [shell]}
bindings:
  - {role: wide, subjects: ["person:wim"]}
  - {role: named, subjects: ["person:nan"]}
  - {role: hosts, subjects: ["person:hal"]}
""",
    "policy.yaml",
)
GUARDED = replace(WIDE, protected=WIDE.protected | {"bastion"})


@pytest.mark.parametrize(
    ("who", "namespace", "allowed"),
    [
        ("wim", "shop", True),
        ("wim", "kube-system", False),
        ("wim", "bastion", False),
        ("nan", "kube-system", True),
        ("nan", "bastion", False),
        ("hal", "kube-system", False),
    ],
)
def test_the_namespaces_that_hold_the_cluster_together_have_to_be_named(
    who: str, namespace: str, *, allowed: bool
) -> None:
    person = Person(subject=who)

    assert isinstance(decide(person, pod(namespace), Action.SHELL, GUARDED), Allow) is allowed
    assert (may_enter(person, namespace, Action.SHELL, GUARDED) is None) is allowed


@pytest.mark.parametrize(("who", "allowed"), [("wim", False), ("nan", False), ("hal", True)])
def test_a_pod_in_its_nodes_own_network_is_reached_by_rules_that_say_so(who: str, *, allowed: bool) -> None:
    inside = replace(pod("shop"), host_network=True)

    assert isinstance(decide(Person(subject=who), inside, Action.SHELL, GUARDED), Allow) is allowed
    assert isinstance(decide(Person(subject=who), pod("shop"), Action.SHELL, GUARDED), Allow)


# --- containers that were added to a pod as it ran ---------------------------------------------

ADDING = policyfile.parse(
    b"""
roles:
  shells:
    allow:
      - {namespaces: [shop], actions: [shell, exec, logs]}
  debuggers:
    allow:
      - {namespaces: [shop], actions: [debug]}
    debug: {images: ["busybox:1.36"], user: 65532}
  outside:
    kubernetes: {groups: ["bastion:outside"]}
    allow:
      - {namespaces: [shop], containers: ["*", "!vault"], actions: [shell, exec, debug, logs]}
    session: {lingering: true}
  tools:
    allow:
      - {namespaces: [shop], containers: ["*", tools], actions: [shell]}
  tool-like:
    allow:
      - {namespaces: [shop], containers: ["tool*"], actions: [shell]}
  vault-keeper:
    allow:
      - {namespaces: [shop], containers: [vault, tools], actions: [shell, debug]}
    record: {input: true}
  vault-only:
    allow:
      - {namespaces: [shop], containers: [vault], actions: [shell]}
    record: {input: true}
  no-shells:
    deny:
      - {namespaces: [shop], containers: [vault], actions: [shell]}
  plain:
    allow:
      - {namespaces: [shop], containers: ["*", "!bastion-debug-*"], actions: [shell, debug]}
  no-debug:
    deny:
      - {namespaces: [shop], containers: ["bastion-debug-*"], actions: [shell]}
  tool-hand:
    allow:
      - {namespaces: [shop], containers: [tools], actions: [shell]}
    session: {lingering: true}
  an-idle-debugger:
    allow:
      - {namespaces: [shop], containers: [app], actions: [debug]}
    record: {input: true}
bindings:
  - {role: shells, subjects: ["person:sam", "person:noa"]}
  - {role: debuggers, subjects: ["person:dora", "person:noa", "person:ray", "person:lea"]}
  - {role: plain, subjects: ["person:pam"]}
  - {role: no-debug, subjects: ["person:ray"]}
  - {role: tool-hand, subjects: ["person:ann"]}
  - {role: an-idle-debugger, subjects: ["person:lea"]}
  - {role: outside, subjects: ["person:bob", "person:kay"]}
  - {role: tools, subjects: ["person:tom"]}
  - {role: tool-like, subjects: ["person:tim"]}
  - {role: vault-keeper, subjects: ["person:kay", "person:vic"]}
  - {role: vault-only, subjects: ["person:ann"]}
  - {role: no-shells, subjects: ["person:noa"]}
""",
    "policy.yaml",
)
OURS = "bastion-debug-0123abcd-1"


def added(name: str, beside: str = "app") -> Target:
    """An ephemeral container, as it is found in a pod."""
    made = podobjects.pod("api-0", containers={"app": {}, "vault": {}}, ephemeral={name: {}})
    made["spec"]["ephemeralContainers"][0].update({"targetContainerName": beside} if beside else {})
    return target_of(pod_facts(made), name)


@pytest.mark.parametrize("action", [Action.SHELL, Action.EXEC])
def test_a_debug_container_is_entered_by_the_right_that_made_it_alone(action: Action) -> None:
    assert isinstance(decide(Person(subject="sam"), added(OURS), action, ADDING), Deny)
    assert isinstance(decide(Person(subject="sam"), added(OURS), Action.LOGS, ADDING), Allow)
    assert isinstance(decide(Person(subject="dora"), added(OURS), action, ADDING), Allow)
    assert may_enter(Person(subject="dora"), "shop", action, ADDING) is None


@pytest.mark.parametrize(
    ("who", "where", "by"),
    [
        # whoever may not be in a container is not led to its processes by what stands beside it
        ("bob", added(OURS), "outside/allow[0]"),
        ("bob", added(OURS, "vault"), DEFAULT_DENY),
        ("bob", added("debugger-x7z", "vault"), DEFAULT_DENY),
        # the bastion's own counts as what it stands beside, unless its name is shut out
        ("kay", added(OURS, "vault"), "vault-keeper/allow[0]"),
        ("vic", added(OURS, "vault"), "vault-keeper/allow[0]"),
        ("pam", added(OURS), DEFAULT_DENY),
        ("ray", added(OURS), "no-debug/deny[0]"),
        ("vic", added("tools", "vault"), "vault-keeper/allow[0]"),
        ("tom", added("tools", "vault"), "tools/allow[0]"),
        ("tim", added("tools"), DEFAULT_DENY),
        ("noa", added(OURS), "debuggers/allow[0]"),
        ("noa", added(OURS, "vault"), "no-shells/deny[0]"),
        # an ephemeral container that is not the bastion's has to be named
        ("sam", added("debugger-x7z"), DEFAULT_DENY),
        ("tom", added("debugger-x7z"), DEFAULT_DENY),
        ("tom", added("tools"), "tools/allow[0]"),
        # so has one that stands beside none, whatever it is called
        ("tom", added("tools", ""), "tools/allow[0]"),
        ("dora", added(OURS, ""), DEFAULT_DENY),
    ],
)
def test_what_was_added_to_a_pod_as_it_ran_is_reached_by(who: str, where: Target, by: str) -> None:
    decision = decide(Person(subject=who), where, Action.SHELL, ADDING)

    assert decision.rule == by
    assert isinstance(decision, Allow) == ("/allow[" in by)


@pytest.mark.parametrize("where", [Target(namespace="shop", pod="api-0", pod_uid="u", container="app"), added(OURS)])
def test_who_may_debug_is_told_of_what_and_as_whom(where: Target) -> None:
    assert decide(Person(subject="dora"), where, Action.DEBUG, ADDING) == Allow(
        role="debuggers",
        rule="debuggers/allow[0]",
        kubernetes_groups=(),
        debug_images=("busybox:1.36",),
        debug_user=65532,
    )


def test_a_denial_names_the_container_beside_if_that_is_why() -> None:
    denied = decide(Person(subject="bob"), added(OURS, "vault"), Action.SHELL, ADDING)

    assert isinstance(denied, Deny)
    assert denied.reason.startswith("none of your roles allows debug in container vault of pod api-0 in namespace shop")


def test_a_denial_in_a_debug_container_names_the_right_that_is_wanting_and_where() -> None:
    denied = decide(Person(subject="sam"), added(OURS), Action.SHELL, ADDING)
    shut_out = decide(Person(subject="pam"), added(OURS), Action.SHELL, ADDING)

    assert isinstance(denied, Deny)
    assert denied.reason.startswith("none of your roles allows debug in container app of pod api-0 in namespace shop;")
    assert isinstance(shut_out, Deny)
    assert shut_out.reason.startswith(f"none of your roles allows debug in container {OURS} of pod api-0")


def test_what_nobody_named_is_not_even_known() -> None:
    assert not may_know(Person(subject="sam"), added("debugger-x7z"), ADDING)
    assert not may_know(Person(subject="bob"), added(OURS, "vault"), ADDING)
    assert may_know(Person(subject="tom"), added("tools"), ADDING)


def test_the_stricter_of_two_containers_says_what_is_recorded_and_what_may_linger() -> None:
    hand = Target(namespace="shop", pod="api-0", pod_uid="u", container="tools")
    alone = decide(Person(subject="ann"), hand, Action.SHELL, ADDING)
    beside = decide(Person(subject="ann"), added("tools", "vault"), Action.SHELL, ADDING)

    assert alone == Allow(role="tool-hand", rule="tool-hand/allow[0]", kubernetes_groups=(), lingering=True)
    assert beside == replace(alone, record=RecordRules(input=True), lingering=False)


@pytest.mark.parametrize("where", [Target(namespace="shop", pod="api-0", pod_uid="u", container="app"), added(OURS)])
def test_a_role_that_names_no_image_hides_none_that_does_and_its_record_is_kept(where: Target) -> None:
    decision = decide(Person(subject="lea"), where, Action.DEBUG, ADDING)

    assert isinstance(decision, Allow)
    assert (decision.role, decision.debug_images) == ("debuggers", ("busybox:1.36",))
    assert decision.record.input


@given(PERSONS, ADDED, ACTIONS, policies())
def test_what_stands_beside_a_container_gives_nothing_that_the_container_does_not(
    person: Person, target: Target, action: Action, policy: Policy
) -> None:
    decision = decide(person, target, action, policy)
    if not isinstance(decision, Allow) or not target.beside:
        return
    is_entered = target.container.startswith("bastion-debug-") and action in {Action.SHELL, Action.EXEC}
    neighbour = replace(target, container=target.beside, ephemeral=False, beside="")
    there = decide(person, neighbour, Action.DEBUG if is_entered else action, policy)

    assert isinstance(there, Allow)
    assert decision.record.input >= there.record.input
    assert decision.lingering <= there.lingering
