"""Which pod and container a login leads to, as tables and as properties."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import Code
from bastion.podfacts import PodFacts, pod_facts, workload_facts
from bastion.pods.choice import Enter, Family, Refuse, Seeker, Wait, choose, enter, find, mine, newest_first
from support.catalogs import sees_all, sees_team
from support.podobjects import RUNNING, pod, terminated, waiting, workload

if TYPE_CHECKING:
    from bastion.pods.choice import Verdict
    from bastion.ports import Asks

Object = dict[str, Any]

CRASHED = waiting(
    "CrashLoopBackOff",
    "back-off 5m0s restarting failed container=app pod=web_shop(uid)",
    restartCount=7,
    lastState={"terminated": {"reason": "Error", "exitCode": 1}},
)
SCHEDULED = {"type": "PodScheduled", "status": "True"}
UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}


def facts(*args: Any, **more: Any) -> PodFacts:
    return pod_facts(pod(*args, **more))


def family(*generations: list[Object], kind: str = "deploy", replicas: int | None = 2) -> Family:
    item = workload("api", "w1")
    item["spec"]["replicas"] = replicas
    return Family(
        workload=workload_facts(kind, item),
        generations=tuple(tuple(map(pod_facts, pods)) for pods in generations),
    )


def by(person: str, *, sees: Asks = sees_all, kept: str = "") -> Seeker:
    return Seeker(person=person, sees=sees, kept=kept)


def said(verdict: Verdict) -> str:
    match verdict:
        case Enter(container=container):
            return container
        case Wait(what=what, reason=reason):
            return f"{what}: {reason}"
        case Refuse(why=why):
            return why


# --- one pod -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "container", "entered"),
    [
        ({}, "", "app"),
        ({"ready": False}, "", "app"),
        ({"containers": {"side": RUNNING, "app": RUNNING}}, "", "side"),
        ({"containers": {"side": RUNNING, "app": RUNNING}}, "app", "app"),
        ({"containers": {"side": RUNNING, "app": RUNNING}, "metadata": {"annotations": {}}}, "", "side"),
        ({"ephemeral": {"dbg": RUNNING}}, "dbg", "dbg"),
        ({"init": {"proxy": RUNNING}}, "proxy", "proxy"),
        (
            {"init": {"setup": RUNNING}, "containers": {"app": waiting("PodInitializing")}, "phase": "Pending"},
            "setup",
            "setup",
        ),
        ({"containers": {"app": RUNNING, "side": CRASHED}}, "app", "app"),
    ],
)
def test_a_running_container_is_entered_whatever_its_kind(more: Object, container: str, entered: str) -> None:
    assert enter(facts("web", **more), container, sees_all) == Enter(pod=facts("web", **more), container=entered)


@pytest.mark.parametrize(("named", "entered"), [("app", "app"), ("setup", "setup"), ("gone", "side"), ("", "side")])
def test_the_annotation_names_the_default_container_if_there_is_such_a_one(named: str, entered: str) -> None:
    annotations = {"kubectl.kubernetes.io/default-container": named}
    both = {"side": RUNNING, "app": RUNNING}
    one = facts("web", containers=both, init={"setup": RUNNING}, metadata={"annotations": annotations})

    assert said(enter(one, "", sees_all)) == entered


@pytest.mark.parametrize(
    ("more", "container", "says"),
    [
        ({"phase": "Pending", "containers": {"app": {}}}, "", "pod web: Pending"),
        (
            {"phase": "Pending", "containers": {"app": {}}, "status": {"conditions": [SCHEDULED]}},
            "",
            "pod web: Pending",
        ),
        (
            {"phase": "Pending", "containers": {"app": {}}, "status": {"conditions": [UNSCHEDULED]}},
            "",
            "pod web: 0/3 nodes are available: 3 Insufficient cpu.",
        ),
        (
            {"phase": "Pending", "containers": {"app": waiting("ContainerCreating")}},
            "",
            "pod web: ContainerCreating",
        ),
        (
            {"phase": "Pending", "containers": {"app": waiting("PodInitializing")}, "init": {"setup": RUNNING}},
            "",
            "pod web: PodInitializing, init container setup is running",
        ),
        ({"ephemeral": {"dbg": {}}}, "dbg", "pod web: Running"),
        ({"ephemeral": {"dbg": waiting("ContainerCreating")}}, "dbg", "pod web: ContainerCreating"),
        ({"phase": "", "containers": {"app": {}}}, "", "pod web: Pending"),
    ],
)
def test_what_is_only_starting_is_waited_for_with_the_reason(more: Object, container: str, says: str) -> None:
    verdict = enter(facts("web", **more), container, sees_all)

    assert isinstance(verdict, Wait)
    assert said(verdict) == says


@pytest.mark.parametrize(
    ("more", "container", "says"),
    [
        (
            {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
            "",
            "pod web is Terminating: it is being deleted",
        ),
        (
            {"phase": "Succeeded", "containers": {"app": terminated("Completed", 0)}},
            "",
            (
                "pod web: cannot exec into a container in a completed pod; current phase is Succeeded;"
                " container app: Completed, exit code 0"
            ),
        ),
        (
            {
                "phase": "Failed",
                "containers": {"app": terminated("OOMKilled", 137, restartCount=1)},
                "status": {"reason": "Evicted", "message": "The node was low on resource: memory. "},
            },
            "",
            (
                "pod web: cannot exec into a container in a completed pod; current phase is Failed"
                " (Evicted: The node was low on resource: memory.);"
                " container app: OOMKilled, exit code 137, restarted once"
            ),
        ),
        (
            {"phase": "Failed", "containers": {"app": {}}},
            "",
            "pod web: cannot exec into a container in a completed pod; current phase is Failed",
        ),
        (
            {"ready": False, "containers": {"app": CRASHED}},
            "",
            (
                "container app of pod web is in CrashLoopBackOff: back-off 5m0s restarting failed container=app"
                " pod=web_shop(uid); it last ended: Error, exit code 1, restarted 7 times"
            ),
        ),
        (
            {
                "ready": False,
                "containers": {
                    "app": {
                        "state": {"waiting": {"reason": "RunContainerError", "message": "no such file"}},
                        "lastState": {
                            "terminated": {"reason": "StartError", "message": "no such file", "exitCode": 128}
                        },
                        "restartCount": 2,
                    }
                },
            },
            "",
            (
                "container app of pod web is in RunContainerError: no such file;"
                " it last ended: StartError, exit code 128, restarted 2 times"
            ),
        ),
        (
            {"phase": "Pending", "containers": {"app": waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"')}},
            "",
            'container app of pod web is in ImagePullBackOff: Back-off pulling image "nope:1"',
        ),
        (
            {"phase": "Pending", "containers": {"app": waiting("CreateContainerConfigError")}},
            "",
            "container app of pod web is in CreateContainerConfigError",
        ),
        (
            {"phase": "Pending", "containers": {"app": waiting("PodInitializing")}, "init": {"setup": CRASHED}},
            "",
            (
                "init container setup of pod web is in CrashLoopBackOff: back-off 5m0s restarting failed container=app"
                " pod=web_shop(uid); it last ended: Error, exit code 1, restarted 7 times"
            ),
        ),
        (
            {"init": {"setup": terminated("Completed", 0)}},
            "setup",
            "init container setup of pod web has ended: Completed, exit code 0",
        ),
        (
            {"ephemeral": {"dbg": terminated("Error", 130)}},
            "dbg",
            "ephemeral container dbg of pod web has ended: Error, exit code 130",
        ),
        (
            {"containers": {"app": terminated("", 2), "side": RUNNING}},
            "",
            "container app of pod web has ended: it ended, exit code 2",
        ),
    ],
)
def test_what_will_not_run_before_long_is_refused_with_the_reason(more: Object, container: str, says: str) -> None:
    assert enter(facts("web", **more), container, sees_all) == Refuse(code=Code.TARGET_NOT_RUNNING, why=says)


def test_a_container_that_is_not_there_is_refused_with_those_that_are() -> None:
    one = facts("web", init={"setup": RUNNING}, ephemeral={"dbg": RUNNING})

    refused = enter(one, "nope", sees_all)

    assert refused == Refuse(
        code=Code.TARGET_MISSING,
        why="web has no container nope, or your roles do not reach it; it has app, setup, dbg",
        detail="it is not there",
    )


def test_a_message_with_pages_and_line_ends_becomes_one_short_line() -> None:
    one = facts("web", phase="Pending", containers={"app": waiting("ErrImagePull", "failed\n\n  to pull " * 500)})

    why = said(enter(one, "", sees_all))

    assert "failed to pull failed to pull" in why
    assert len(why) < 400
    assert why.isprintable()


# --- a workload --------------------------------------------------------------


def test_a_ready_pod_of_the_newest_generation_is_chosen_and_the_choice_has_a_name() -> None:
    new, old = [pod("new-a", ready=False), pod("new-b")], [pod("old-a"), pod("old-b")]

    chosen = choose(family(new, old), "", by("alice"))

    assert isinstance(chosen, Enter)
    assert (chosen.pod.name, chosen.container, chosen.chosen_from, chosen.note) == ("new-b", "app", "deploy/api", "")


def test_an_older_generation_is_taken_while_the_newest_has_no_ready_pod() -> None:
    chosen = choose(family([pod("new", ready=False)], [pod("old")]), "", by("alice"))

    assert isinstance(chosen, Enter)
    assert (chosen.pod.name, chosen.chosen_from) == ("old", "")


def test_a_pod_that_is_being_deleted_is_not_taken_though_it_is_still_ready() -> None:
    leaving = pod("a", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})

    assert [said_name(choose(family([leaving, pod("b")]), "", by(person))) for person in "xyz"] == ["b", "b", "b"]


def said_name(verdict: Verdict) -> str:
    assert isinstance(verdict, Enter)
    return verdict.pod.name


def test_a_running_pod_is_taken_where_none_is_ready_and_that_is_told() -> None:
    pods = [pod("a", ready=False, containers={"app": CRASHED}), pod("b", ready=False)]

    chosen = choose(family(pods), "", by("alice"))

    assert isinstance(chosen, Enter)
    assert (chosen.pod.name, chosen.note) == ("b", "no pod of deploy/api is ready; taking b")
    assert chosen.chosen_from == ""


def test_a_named_container_leads_to_the_pod_that_has_it() -> None:
    pods = [pod(f"p{number}") for number in range(5)] + [pod("debugged", ephemeral={"dbg": RUNNING})]

    assert {said_name(choose(family(pods), "dbg", by(person))) for person in "abcdefgh"} == {"debugged"}


@pytest.mark.parametrize(
    ("of", "container", "says"),
    [
        (family([]), "", "a pod of deploy/api: it has none yet"),
        (
            family([pod("a", phase="Pending", ready=False, containers={"app": waiting("ContainerCreating")})]),
            "",
            "a pod of deploy/api: ContainerCreating",
        ),
        (
            family(
                [
                    pod("a", ready=False, containers={"app": CRASHED}),
                    pod("b", phase="Pending", ready=False, containers={"app": {}}),
                ]
            ),
            "",
            "a pod of deploy/api: Pending",
        ),
        (
            family([pod("a", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})], kind="sts"),
            "",
            "a pod of sts/api: a is Terminating",
        ),
    ],
)
def test_a_workload_that_will_have_a_pod_is_waited_for(of: Family, container: str, says: str) -> None:
    verdict = choose(of, container, by("alice"))

    assert isinstance(verdict, Wait)
    assert said(verdict) == says


@pytest.mark.parametrize(
    ("of", "container", "says"),
    [
        (family([], replicas=0), "", "deploy/api in namespace shop has no pod (it is scaled to 0)"),
        (family([], kind="job", replicas=None), "", "job/api in namespace shop has no pod"),
        (family([pod("a")]), "nope", "a has no container nope, or your roles do not reach it; it has app"),
        (
            family(
                [pod("a", ready=False, phase="Succeeded", containers={"app": terminated("Completed", 0)})], kind="job"
            ),
            "",
            (
                "no pod of job/api can be entered (it has 1): pod a: cannot exec into a container in a completed pod;"
                " current phase is Succeeded; container app: Completed, exit code 0"
            ),
        ),
        (
            family([pod("a", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})], kind="job"),
            "",
            "no pod of job/api can be entered (it has 1): pod a is Terminating: it is being deleted",
        ),
    ],
)
def test_a_workload_that_has_nothing_to_enter_is_refused_with_the_reason(of: Family, container: str, says: str) -> None:
    verdict = choose(of, container, by("alice"))

    assert isinstance(verdict, Refuse)
    assert verdict.why == says


def test_what_is_looked_at_need_not_run() -> None:
    crashed, done = pod("a", ready=False, containers={"app": CRASHED}), pod("b", ready=False, phase="Succeeded")

    assert said_name(find(family([crashed]), "", by("alice"))) == "a"
    assert said_name(find(family([done], kind="job"), "", by("alice"))) == "b"
    assert said_name(find(family([crashed, pod("c")]), "", by("alice"))) == "c"
    assert said(find(family([]), "", by("alice"))) == "deploy/api has no pod yet"
    assert (
        said(find(family([crashed]), "nope", by("alice")))
        == "a has no container nope, or your roles do not reach it; it has app"
    )


def test_a_roll_back_makes_an_older_replica_set_the_newest() -> None:
    def replica_set(name: str, created: str, revision: str) -> Object:
        revised: Object = {"annotations": {"deployment.kubernetes.io/revision": revision}} if revision else {}
        return workload(name, f"uid-{name}", creationTimestamp=created, **revised)

    def order(*sets: Object) -> list[str]:
        return [one.name for one in newest_first(workload_facts("rs", one) for one in sets)]

    first, second = (
        replica_set("first", "2026-01-01T00:00:00Z", "3"),
        replica_set("second", "2026-02-01T00:00:00Z", "2"),
    )
    assert order(first, second) == ["first", "second"]
    assert order(replica_set("a", "2026-01-01T00:00:00Z", ""), replica_set("b", "2026-02-01T00:00:00Z", "")) == [
        "b",
        "a",
    ]


# --- what a person does not see ----------------------------------------------

TWO = {"app": RUNNING, "vault": CRASHED}
OURS: Object = {"labels": {"team": "ours"}}
APP = sees_team("ours", "app")


def test_a_list_of_containers_names_only_those_that_are_seen() -> None:
    one = facts("web", containers=TWO, init={"setup": RUNNING}, metadata=OURS)

    assert said(enter(one, "nope", APP)) == "web has no container nope, or your roles do not reach it; it has app"
    assert said(choose(family([pod("a", containers=TWO, metadata=OURS)]), "nope", by("x", sees=APP))) == (
        "a has no container nope, or your roles do not reach it; it has app"
    )


def test_how_other_containers_fare_is_not_told_where_they_are_not_seen() -> None:
    held_up = facts(
        "web",
        phase="Pending",
        containers={"app": waiting("PodInitializing")},
        init={"vault": CRASHED},
        metadata=OURS,
    )
    ends = {"app": terminated("Error", 1), "vault": terminated("Secret", 2)}
    over = facts("web", phase="Failed", containers=ends, metadata=OURS)

    assert said(enter(held_up, "", APP)) == (
        "pod web does not start, because of a container that your roles do not reach"
    )
    assert said(enter(over, "", APP)) == (
        "pod web: cannot exec into a container in a completed pod; current phase is Failed;"
        " container app: Error, exit code 1"
    )


EVICTED = "The node was low on resource: memory. Container vault was using 3Gi, request is 0. "


@pytest.mark.parametrize(
    ("status", "to_some", "to_all"),
    [
        (
            {"reason": "Evicted", "message": EVICTED},
            " (Evicted: The node was low on resource: memory.)",
            f" (Evicted: {EVICTED.strip()})",
        ),
        (
            {"reason": "Evicted", "message": "Container vault was using 3Gi."},
            " (Evicted)",
            " (Evicted: Container vault was using 3Gi.)",
        ),
        ({"message": "Container vault was using 3Gi."}, "", " (Container vault was using 3Gi.)"),
    ],
)
def test_what_the_cluster_says_of_a_hidden_container_is_not_told(status: Object, to_some: str, to_all: str) -> None:
    containers: Object = {"app": {}, "vault": {}}
    one = pod("web", phase="Failed", ready=False, containers=containers, metadata=OURS, status=status)
    over = "pod web: cannot exec into a container in a completed pod; current phase is Failed"

    assert said(enter(pod_facts(one), "", APP)) == over + to_some
    assert said(enter(pod_facts(one), "", sees_all)) == over + to_all
    assert "vault" not in said(choose(family([one]), "", by("x", sees=APP)))
    assert said(choose(family([one], kind="job"), "", by("x"))).endswith(over + to_all)


def test_why_no_node_is_found_is_told_but_for_what_names_a_hidden_container() -> None:
    def why(message: str) -> str:
        conditions = [{**UNSCHEDULED, "message": message}]
        containers: Object = {"app": {}, "vault": {}}
        status = {"conditions": conditions}
        return said(enter(facts("web", phase="Pending", containers=containers, metadata=OURS, status=status), "", APP))

    assert why("0/3 nodes are available: 3 Insufficient cpu.") == (
        "pod web: 0/3 nodes are available: 3 Insufficient cpu."
    )
    assert why("0/3 nodes are available: too little for vault.") == "pod web: Pending"


# --- whose pod ---------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
PODS = st.sets(st.integers(0, 50), min_size=1, max_size=12).map(lambda ids: [facts(f"p{one}") for one in sorted(ids)])


@given(PODS, NAMES, st.randoms(use_true_random=False))
def test_a_person_keeps_the_pod_while_it_lives(pods: list[PodFacts], person: str, chance: Any) -> None:
    kept = mine(pods, person)
    others = [pod for pod in pods if pod is not kept and chance.random() < 0.5]
    left = [*others, kept]
    chance.shuffle(left)

    assert mine(left, person) is kept


def test_different_people_are_spread_over_the_pods() -> None:
    pods = [facts(f"p{number}") for number in range(4)]

    taken = Counter(mine(pods, f"person-{number}").name for number in range(400))

    assert len(taken) == 4
    assert min(taken.values()) > 60


@given(PODS, PODS, NAMES, st.data())
def test_the_pod_that_was_kept_is_taken_whatever_else_comes_and_goes(
    before: list[PodFacts], after: list[PodFacts], person: str, data: st.DataObject
) -> None:
    kept = data.draw(st.sampled_from(before))
    pods = {one.uid: one for one in (*after, kept)}
    new, old = data.draw(st.permutations([pods, {}]))
    of = Family(workload=family().workload, generations=(tuple(new.values()), tuple(old.values())))

    assert said_name(choose(of, "", by(person, kept=kept.uid))) == kept.name


def test_the_pod_that_was_kept_is_left_for_a_roll_out_only_once_it_cannot_be_entered() -> None:
    leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    new = [pod("new-a"), pod("new-b")]

    def taken(*old: Object) -> str:
        return said_name(choose(family(new, list(old)), "", by("alice", kept="uid-old")))

    assert taken(pod("old")) == "old"
    for gone in (
        [pod("old", metadata=leaving)],
        [pod("old", ready=False, containers={"app": CRASHED})],
        [pod("old", ready=False, phase="Failed")],
        [],
    ):
        assert taken(*gone) in {"new-a", "new-b"}


def test_the_pod_that_was_kept_is_said_to_be_a_choice_and_not_to_be_ready() -> None:
    chosen = choose(family([pod("a"), pod("b", ready=False)]), "", by("alice", kept="uid-b"))

    assert isinstance(chosen, Enter)
    assert (chosen.pod.name, chosen.chosen_from) == ("b", "deploy/api")
    assert chosen.note == "b of deploy/api, where you were before, is not ready"


def test_the_pod_that_was_kept_is_looked_at_where_none_can_be_entered() -> None:
    crashed = [pod(name, ready=False, containers={"app": CRASHED}) for name in "abcdef"]

    assert [said_name(find(family(crashed), "", by("alice", kept=f"uid-{name}"))) for name in "adf"] == ["a", "d", "f"]


STATES = st.sampled_from(
    [
        {},
        RUNNING,
        CRASHED,
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
        waiting("ErrImagePull", "no\nsuch"),
        terminated("Error", 1),
    ]
)
CONTAINERS = st.dictionaries(st.sampled_from(["app", "side"]), STATES, min_size=1)


@st.composite
def any_pod(draw: st.DrawFn) -> Object:
    return pod(
        f"p{draw(st.uuids())}",
        containers=draw(CONTAINERS),
        init=draw(st.dictionaries(st.just("setup"), STATES)),
        phase=draw(st.sampled_from(["", "Pending", "Running", "Succeeded", "Failed", "Unknown"])),
        ready=draw(st.booleans()),
        metadata=draw(st.sampled_from([{}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])),
    )


GENERATIONS = st.lists(st.lists(any_pod(), max_size=3), max_size=3)
WANTED = st.sampled_from(["", "app", "side", "setup", "nope"])


@given(
    GENERATIONS,
    st.sampled_from(["deploy", "sts", "ds", "job"]),
    st.sampled_from([None, 0, 2]),
    WANTED,
    st.text(max_size=3),
)
def test_nothing_is_entered_that_does_not_run_and_every_verdict_says_something(
    generations: list[list[Object]], kind: str, replicas: int | None, container: str, person: str
) -> None:
    of = family(*generations, kind=kind, replicas=replicas)
    verdict = choose(of, container, by(person))

    assert choose(of, container, by(person)) == verdict
    match verdict:
        case Enter(pod=taken, container=name):
            entered = taken.container(name)
            assert entered is not None
            assert entered.running
            assert not taken.deleting
            assert taken.phase not in {"Succeeded", "Failed"}
            assert container in ("", name)
        case _:
            assert said(verdict).isprintable()
            assert len(said(verdict)) > 5
    looked_at = find(of, container, by(person))
    assert isinstance(looked_at, Enter) == any(one.container(container) if container else True for one in of.pods())
