"""What became of a pod and its containers is said in the cluster's own terms, and never guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bastion.errors import BastionError, Code
from bastion.model import Target
from bastion.podfacts import ContainerFacts, ContainerKind, PodFacts, Terminated
from bastion.pods.fate import explanation, fate, idle_cut, is_done, is_doubtful, node_away, runs, unchanged, well

RUN, NEXT = "containerd://1", "containerd://2"


def container(**changes: object) -> ContainerFacts:
    plain = ContainerFacts(
        name="app", kind=ContainerKind.REGULAR, running=True, ready=True, container_id=RUN, restarts=0
    )
    return replace(plain, **changes)  # type: ignore[arg-type] # any field


def pod(*containers: ContainerFacts, **changes: object) -> PodFacts:
    plain = PodFacts(namespace="shop", name="web", uid="u1", phase="Running", ready=True)
    return replace(plain, containers=containers or (container(),), **changes)  # type: ignore[arg-type] # any field


def ended(reason: str, code: int) -> Terminated:
    return Terminated(reason=reason, exit_code=code, container_id=RUN)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (pod(), ""),
        (pod(deleting=True), ""),
        (pod(container(ready=False), ready=False), ""),
        (None, "pod web was deleted"),
        (pod(uid="u2"), "pod web was deleted, and another of that name is there now"),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "pod web was evicted: The node was low on resource: memory.",
        ),
        (pod(phase="Failed", reason="NodeLost"), "pod web failed (NodeLost)"),
        (
            pod(container(running=False, ended=ended("OOMKilled", 137))),
            "container app was OOM-killed",
        ),
        (
            pod(container(container_id=NEXT, restarts=1, last_ended=ended("OOMKilled", 137))),
            "container app was OOM-killed",
        ),
        (
            pod(container(container_id=NEXT, restarts=1, last_ended=ended("Error", 1))),
            "container app ended with status 1 and was restarted",
        ),
        (
            pod(container(running=False, ended=ended("Completed", 0)), phase="Succeeded"),
            "container app ended by itself",
        ),
        (
            pod(container(running=False, container_id=RUN, waiting="CrashLoopBackOff", last_ended=ended("Error", 2))),
            "container app ended with status 2",
        ),
        (pod(container(container_id=NEXT, restarts=1)), "container app was restarted"),
    ],
)
def test_the_fate_of_a_session_is_that_of_its_container(now: PodFacts | None, said: str) -> None:
    assert fate(pod(), now, "app") == said


def test_another_container_of_the_pod_is_no_fate_of_ours() -> None:
    other = container(name="sidecar")
    begun = pod(container(), other)
    now = pod(container(), replace(other, container_id=NEXT, last_ended=ended("OOMKilled", 137)))

    assert fate(begun, now, "app") == ""
    assert fate(begun, now, "sidecar") == "container sidecar was OOM-killed"


EVICTED = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi."


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (f"{EVICTED} Container vault was using 3Gi, request is 0. ", f": {EVICTED}"),
        (
            f"{EVICTED} Container app was using 1Gi, request is 0.",
            f": {EVICTED} Container app was using 1Gi, request is 0.",
        ),
        (
            f"Container vault was using 3Gi. Container app was using 1Gi.\nContainer setup was using 2Gi. {EVICTED}",
            f": Container app was using 1Gi. {EVICTED}",
        ),
        ('Container vault exceeded its local ephemeral storage limit "1.5Gi". ', ""),
        ("Container vault was using 3Gi", ""),
        ("Pod was rejected: vault-agent, my-vault and vaults are other words.", None),
    ],
)
def test_what_is_said_of_another_container_of_an_evicted_pod_is_not_passed_on(message: str, said: str | None) -> None:
    setup, vault = container(name="setup", kind=ContainerKind.INIT), container(name="vault")
    now = pod(container(), vault, setup, phase="Failed", reason="Evicted", message=message)

    told = f"pod web was evicted{f': {message}' if said is None else said}"
    assert fate(pod(container(), vault, setup), now, "app") == told
    assert explanation(pod(container(), vault, setup), now, "app") == told


TARGET = Target(namespace="shop", pod="web", pod_uid="u1", container="app", labels={"app": "web"})


@pytest.mark.parametrize(
    ("now", "how"),
    [
        (None, "deleted"),
        (pod(uid="u2", labels={"app": "web"}), "replaced by another of that name"),
        (pod(), "changed meanwhile"),
        (pod(labels={"app": "web", "tier": "front"}), "changed meanwhile"),
        (pod(labels={"app": "web"}, host_network=True), "changed meanwhile"),
    ],
)
def test_a_pod_that_is_not_what_was_decided_about_is_refused(now: PodFacts | None, how: str) -> None:
    with pytest.raises(BastionError) as caught:
        unchanged(TARGET, now, then="ask again")

    assert caught.value.code is Code.TARGET_MISSING
    assert caught.value.user_message == f"pod web in namespace shop was {how}; ask again"


def test_a_pod_that_is_only_elsewhere_or_in_another_state_is_still_what_was_decided_about() -> None:
    now = pod(labels={"app": "web"}, phase="Failed", deleting=True, version="2")

    assert unchanged(TARGET, now) is now


def test_a_pod_that_is_being_deleted_explains_an_end_but_does_not_make_one() -> None:
    assert fate(pod(), pod(deleting=True), "app") == ""
    assert explanation(pod(), pod(deleting=True), "app") == "pod web was deleted"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (pod(container(running=False, ended=ended("Error", 143)), deleting=True), "pod web was deleted"),
        (pod(uid="u2", deleting=True), "pod web was deleted, and another of that name is there now"),
        (pod(phase="Failed", reason="Evicted", deleting=True), "pod web was evicted"),
        (pod(container(running=False, ended=ended("OOMKilled", 137))), "container app was OOM-killed"),
        (pod(), ""),
    ],
)
def test_a_pod_that_is_being_deleted_takes_its_containers_along(now: PodFacts, said: str) -> None:
    assert explanation(pod(), now, "app") == said


@pytest.mark.parametrize(
    ("now", "done"),
    [
        (pod(container(running=False, ended=ended("Completed", 0)), phase="Succeeded"), True),
        (pod(container(container_id=NEXT, restarts=1, last_ended=ended("Completed", 0))), True),
        (pod(container(running=False, ended=ended("Completed", 0)), deleting=True), False),
        (pod(container(running=False, ended=ended("Completed", 0)), phase="Failed", reason="Evicted"), False),
        (pod(container(running=False, ended=ended("Error", 1))), False),
        (pod(container(running=False, ended=replace(ended("Completed", 0), container_id=NEXT))), False),
        (pod(), False),
        (None, False),
    ],
)
def test_a_run_is_done_if_it_ended_by_itself_and_its_pod_stays(now: PodFacts | None, *, done: bool) -> None:
    assert is_done(pod(), now, "app") is done
    assert not is_done(pod(container(container_id="")), now, "app")


@pytest.mark.parametrize(
    ("now", "goes_on"),
    [
        (pod(), True),
        (pod(container(container_id=NEXT)), True),
        (pod(deleting=True), False),
        (pod(container(running=False)), False),
        (pod(container(name="another")), False),
        (None, False),
    ],
)
def test_a_container_goes_on_while_it_runs_in_a_pod_that_stays(now: PodFacts | None, *, goes_on: bool) -> None:
    assert runs(now, "app") is goes_on


def test_what_nothing_explains_is_said_with_what_to_do() -> None:
    said = "though pod web is well; the API server may have been restarted: ask again"
    assert well("web", then="ask again") == said


def test_a_node_is_named_where_it_is_known() -> None:
    target = Target(namespace="shop", pod="web", pod_uid="u1", container="app", node="n1")

    assert node_away(target) == "the node of pod web (n1) cannot be reached by the API server"
    assert node_away(replace(target, node="")) == "the node of pod web cannot be reached by the API server"


def test_four_idle_hours_explain_a_stream_that_broke_and_less_do_not() -> None:
    assert idle_cut(3 * 3600) == ""
    assert "4 hours" in idle_cut(4 * 3600 - 1)


@pytest.mark.parametrize(
    ("now", "doubtful"),
    [
        (pod(), False),
        (None, False),
        (pod(ready=False), True),
        (pod(container(ready=False), ready=False), False),
        (pod(ready=False, phase="Failed"), False),
    ],
)
def test_a_pod_that_is_not_ready_though_all_of_it_is_gives_reason_to_ask_after_its_node(
    now: PodFacts | None, *, doubtful: bool
) -> None:
    assert is_doubtful(now) is doubtful
