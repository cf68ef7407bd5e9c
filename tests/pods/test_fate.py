"""What became of a pod and its containers is said in the cluster's own terms, and never guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bastion.podfacts import ContainerFacts, ContainerKind, PodFacts, Terminated
from bastion.pods.fate import explanation, fate, idle_cut, is_doubtful

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


def test_a_pod_that_is_being_deleted_explains_an_end_but_does_not_make_one() -> None:
    assert fate(pod(), pod(deleting=True), "app") == ""
    assert explanation(pod(), pod(deleting=True), "app") == "pod web was deleted"


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
