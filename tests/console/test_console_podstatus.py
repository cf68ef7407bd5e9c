"""The words of `kubectl get pods` for a pod."""

from __future__ import annotations

from typing import Any

import pytest

from bastion.console import podstatus
from bastion.podfacts import pod_facts
from support.podobjects import RUNNING, pod, terminated, waiting

Case = dict[str, Any]
DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
BEGUN = {"containerID": "c://1"}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"containers": {"app": RUNNING}}, ("1/1", "Running", 0)),
        ({"containers": {"app": {**RUNNING, "ready": False}}}, ("0/1", "Running", 0)),
        ({"containers": {"app": RUNNING, "log": RUNNING}}, ("2/2", "Running", 0)),
        (
            {"containers": {"app": waiting("CrashLoopBackOff", restartCount=4, **BEGUN)}},
            ("0/1", "CrashLoopBackOff", 4),
        ),
        ({"containers": {"app": waiting("ImagePullBackOff")}, "phase": "Pending"}, ("0/1", "ImagePullBackOff", 0)),
        ({"containers": {"app": {}}, "phase": "Pending"}, ("0/1", "Pending", 0)),
        ({"containers": {"app": waiting("ContainerCreating")}, "phase": "Pending"}, ("0/1", "ContainerCreating", 0)),
        ({"containers": {"app": terminated("Completed", 0, **BEGUN)}, "phase": "Succeeded"}, ("0/1", "Completed", 0)),
        ({"containers": {"app": terminated("OOMKilled", 137, **BEGUN)}, "phase": "Failed"}, ("0/1", "OOMKilled", 0)),
        ({"containers": {"app": terminated("", 3, **BEGUN)}, "phase": "Failed"}, ("0/1", "ExitCode:3", 0)),
        (
            {"containers": {"app": RUNNING, "job": terminated("Completed", 0, **BEGUN)}, "ready": True},
            ("1/2", "Running", 0),
        ),
        (
            {"containers": {"app": RUNNING, "job": terminated("Completed", 0, **BEGUN)}, "ready": False},
            ("1/2", "NotReady", 0),
        ),
        ({"metadata": DELETED}, ("1/1", "Terminating", 0)),
        ({"metadata": DELETED, "status": {"reason": "NodeLost"}}, ("1/1", "Unknown", 0)),
        (
            {"metadata": DELETED, "phase": "Succeeded", "containers": {"app": terminated("Completed", 0, **BEGUN)}},
            ("0/1", "Completed", 0),
        ),
        ({"phase": "Failed", "status": {"reason": "Evicted"}, "containers": {"app": {}}}, ("0/1", "Evicted", 0)),
        (
            {"phase": "Pending", "init": {"a": RUNNING, "b": {}}, "containers": {"app": waiting("PodInitializing")}},
            ("0/1", "Init:0/2", 0),
        ),
        (
            {
                "phase": "Pending",
                "init": {"a": terminated("Completed", 0, **BEGUN), "b": waiting("PodInitializing")},
                "containers": {"app": waiting("PodInitializing")},
            },
            ("0/1", "Init:1/2", 0),
        ),
        (
            {
                "phase": "Pending",
                "init": {"a": waiting("CrashLoopBackOff", restartCount=2)},
                "containers": {"app": waiting("PodInitializing")},
            },
            ("0/1", "Init:CrashLoopBackOff", 2),
        ),
        (
            {
                "phase": "Pending",
                "init": {"a": terminated("Error", 1)},
                "containers": {"app": waiting("PodInitializing")},
            },
            ("0/1", "Init:Error", 0),
        ),
        (
            {"init": {"a": terminated("Completed", 0, restartCount=7)}, "containers": {"app": {**RUNNING, **BEGUN}}},
            ("1/1", "Running", 0),
        ),
        ({"containers": {}, "phase": ""}, ("0/0", "Unknown", 0)),
    ],
)
def test_a_pod_is_summed_up_as_kubectl_does(case: Case, said: tuple[str, str, int]) -> None:
    facts = pod_facts(pod("web", **case))

    assert (podstatus.ready(facts), podstatus.status(facts), podstatus.restarts(facts)) == said


def test_a_sidecar_counts_among_the_containers() -> None:
    made = pod("web", init={"proxy": {**RUNNING, "restartCount": 1}}, containers={"app": {**RUNNING, **BEGUN}})
    made["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    facts = pod_facts(made)

    assert (podstatus.ready(facts), podstatus.status(facts), podstatus.restarts(facts)) == ("2/2", "Running", 1)
