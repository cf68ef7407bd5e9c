"""How pods begin and end: gates, init containers, restarts, deletion with its grace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.clusteradmin import PODS, Admin, admin_of, pod
from support.rawclient import bearer, connect
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.cluster import Cluster


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Admin]:
    async with admin_of(cluster) as admin:
        yield admin


def conditions(value: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    return {one["type"]: (one["status"], one.get("reason", "")) for one in value["status"].get("conditions", [])}


def states(value: dict[str, Any], role: str = "containerStatuses") -> dict[str, dict[str, Any]]:
    return {one["name"]: one["state"] for one in value["status"].get(role, [])}


def is_running(value: dict[str, Any]) -> bool:
    return bool(conditions(value).get("Ready") == ("True", ""))


async def cell(admin: Admin, name: str) -> str:
    """What `kubectl get pods` prints below STATUS."""
    accept = ("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
    table = json.loads((await admin.ask("GET", f"{PODS}/{name}", None, accept)).body)
    return str(table["rows"][0]["cells"][2])


async def test_a_gated_pod_waits_without_a_node_until_its_gates_are_taken_away(admin: Admin) -> None:
    made = await admin.make(PODS, pod("gated", schedulingGates=[{"name": "example.com/quota"}]))
    assert "nodeName" not in made["spec"]
    path = f"{PODS}/gated"
    waiting = await admin.until(path, conditions)
    assert conditions(waiting) == {"PodScheduled": ("False", "SchedulingGated")}
    assert waiting["status"]["phase"] == "Pending"
    assert await cell(admin, "gated") == "SchedulingGated"
    await admin.patch(path, {"spec": {"schedulingGates": []}})
    started = await admin.until(path, is_running)
    assert started["spec"]["nodeName"] == "local-node"
    await admin.delete(path)


async def test_a_gated_pod_is_deleted_at_once(admin: Admin) -> None:
    await admin.make(PODS, pod("waits", schedulingGates=[{"name": "example.com/quota"}]))
    await admin.delete(f"{PODS}/waits")
    await admin.get(f"{PODS}/waits", 404)


def with_inits(name: str, *scripts: str, **spec: Any) -> dict[str, Any]:
    """A pod with init containers init-0, init-1 and so on."""
    inits = [
        {"name": f"init-{index}", "image": "local/busybox:1", "command": ["sh", "-c", script]}
        for index, script in enumerate(scripts)
    ]
    return pod(name, initContainers=inits, **spec)


async def test_init_containers_run_one_after_the_other_and_before_the_others(admin: Admin, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    wait = "until [ -e {} ]; do sleep 0.05; done; echo did"
    await admin.make(PODS, with_inits("prepared", wait.format(first), wait.format(second)))
    path = f"{PODS}/prepared"

    one = await admin.until(path, lambda value: "running" in states(value, "initContainerStatuses").get("init-0", ()))
    assert one["status"]["phase"] == "Pending"
    assert conditions(one)["Initialized"] == ("False", "ContainersNotInitialized")
    assert conditions(one)["Ready"] == ("False", "ContainersNotReady")
    waiting = {"waiting": {"reason": "PodInitializing"}}
    assert states(one, "initContainerStatuses")["init-1"] == states(one)["main"] == waiting
    assert await cell(admin, "prepared") == "Init:0/2"
    refused = await admin.ask("GET", f"{path}/log", query=[("container", "main")])
    assert b"waiting to start: PodInitializing" in refused.body

    first.touch()
    two = await admin.until(path, lambda value: "running" in states(value, "initContainerStatuses")["init-1"])
    assert states(two, "initContainerStatuses")["init-0"]["terminated"]["reason"] == "Completed"
    assert await cell(admin, "prepared") == "Init:1/2"

    second.touch()
    done = await admin.until(path, is_running)
    assert conditions(done)["Initialized"] == ("True", "")
    assert done["status"]["phase"] == "Running"
    assert [one["ready"] for one in done["status"]["initContainerStatuses"]] == [True, True]
    assert (await admin.ask("GET", f"{path}/log", query=[("container", "init-1")])).body == b"did\n"
    await admin.delete(path)


async def test_an_init_container_that_goes_on_runs_beside_the_others(admin: Admin) -> None:
    body = with_inits("accompanied", "exec sleep 1000")
    body["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    await admin.make(PODS, body)
    value = await admin.until(f"{PODS}/accompanied", is_running)
    assert "running" in states(value, "initContainerStatuses")["init-0"]
    await admin.delete(f"{PODS}/accompanied")


@pytest.mark.parametrize(
    ("policy", "phase", "said"), [("Never", "Failed", "Init:Error"), ("Always", "Pending", "Init:CrashLoopBackOff")]
)
async def test_a_failing_init_container_holds_the_others_back(admin: Admin, policy: str, phase: str, said: str) -> None:
    name = f"unprepared-{policy.lower()}"
    await admin.make(PODS, with_inits(name, "exit 3", restartPolicy=policy))

    async def told() -> bool:
        return await cell(admin, name) == said

    await eventually(told, within=30)
    value = await admin.get(f"{PODS}/{name}")
    assert value["status"]["phase"] == phase
    assert "waiting" in states(value)["main"]
    await admin.delete(f"{PODS}/{name}")


@pytest.mark.parametrize(
    ("policy", "status", "phase", "restarts"),
    [
        ("Never", 0, "Succeeded", 0),
        ("Never", 1, "Failed", 0),
        ("OnFailure", 0, "Succeeded", 0),
        ("OnFailure", 1, "Running", 1),
        ("Always", 0, "Running", 1),
    ],
)
async def test_the_restart_policy_says_what_follows_an_end(
    admin: Admin, policy: str, status: int, phase: str, restarts: int
) -> None:
    name = f"ends-{policy.lower()}-{status}"
    await admin.make(PODS, pod(name, "sh", "-c", f"exit {status}", restartPolicy=policy))

    def settled(value: dict[str, Any]) -> bool:
        (state,) = states(value).values() or ({},)
        return "terminated" in state or state.get("waiting", {}).get("reason") == "CrashLoopBackOff"

    value = await admin.until(f"{PODS}/{name}", settled)
    assert value["status"]["phase"] == phase
    (container,) = value["status"]["containerStatuses"]
    assert container["restartCount"] == restarts
    await admin.delete(f"{PODS}/{name}")


async def test_a_deleted_pod_is_terminating_while_its_process_takes_its_leave(admin: Admin, tmp_path: Path) -> None:
    script = f"trap 'echo leaving; until [ -e {tmp_path}/left ]; do sleep 0.05; done; exit 0' TERM; echo up; "
    script += "while :; do sleep 0.05; done"
    await admin.make(PODS, pod("polite", "sh", "-c", script, terminationGracePeriodSeconds=600))
    path = f"{PODS}/polite"

    async def is_up() -> bool:
        return (await admin.ask("GET", f"{path}/log")).body == b"up\n"

    await eventually(is_up, within=30)
    answer = await admin.ask("DELETE", path)
    assert json.loads(answer.body)["metadata"]["deletionGracePeriodSeconds"] == 600

    async def leaves() -> bool:
        return (await admin.ask("GET", f"{path}/log")).body == b"up\nleaving\n"

    await eventually(leaves, within=30)
    meanwhile = await admin.get(path)
    assert meanwhile["metadata"]["deletionTimestamp"] > meanwhile["metadata"]["creationTimestamp"]
    assert await cell(admin, "polite") == "Terminating"
    assert (await admin.ask("POST", PODS, pod("polite"))).status == 409
    (tmp_path / "left").touch()
    await admin.until_gone(path)


async def test_a_term_that_the_first_process_does_not_handle_does_not_reach_it(admin: Admin) -> None:
    await admin.make(PODS, pod("deaf", "sleep", "infinity", terminationGracePeriodSeconds=600))
    path = f"{PODS}/deaf"
    await admin.until(path, is_running)
    await admin.delete(path)
    events = "/api/v1/namespaces/default/events"

    async def stopping() -> bool:
        answer = await admin.ask("GET", events, query=[("fieldSelector", "involvedObject.name=deaf,reason=Killing")])
        return bool(json.loads(answer.body)["items"])

    await eventually(stopping, within=30)
    assert is_running(await admin.get(path))
    answer = await admin.ask("DELETE", path, {"gracePeriodSeconds": 0})
    assert answer.status == 200
    await admin.get(path, 404)


async def test_a_shorter_grace_takes_the_place_of_a_longer_one(admin: Admin) -> None:
    await admin.make(PODS, pod("slow", "sleep", "infinity", terminationGracePeriodSeconds=600))
    path = f"{PODS}/slow"
    await admin.until(path, is_running)
    await admin.delete(path)
    assert (await admin.ask("DELETE", path, query=[("gracePeriodSeconds", "1")])).status == 200
    await admin.until_gone(path)


@pytest.mark.parametrize("grace", ["-1", "x", "1e9", "9999999999"])
async def test_a_grace_without_sense_is_a_400(admin: Admin, grace: str) -> None:
    assert (await admin.ask("DELETE", f"{PODS}/web", query=[("gracePeriodSeconds", grace)])).status == 400
    assert (await admin.ask("DELETE", f"{PODS}/web", {"gracePeriodSeconds": grace})).status == 400


@pytest.mark.parametrize(
    "part",
    [
        {"initContainers": 3},
        {"initContainers": [{"name": "main", "image": "local/busybox:1"}]},
        {"schedulingGates": "x"},
        {"restartPolicy": "Sometimes"},
        {"terminationGracePeriodSeconds": -1},
    ],
)
async def test_a_pod_that_cannot_live_is_refused(admin: Admin, part: dict[str, Any]) -> None:
    assert (await admin.ask("POST", PODS, pod("never", **part))).status == 400


async def test_an_ephemeral_container_has_a_target_in_the_pod_and_a_name_of_its_own(
    cluster: Cluster, admin: Admin
) -> None:
    await admin.make(PODS, with_inits("target", "true"))
    path = f"{PODS}/target"
    await admin.until(path, is_running)
    kind = ("Content-Type", "application/strategic-merge-patch+json")

    async def add(name: str, target: str) -> int:
        one = {"name": name, "image": "local/busybox:1", "targetContainerName": target, "stdin": True}
        patch = {"spec": {"ephemeralContainers": [one]}}
        return (await admin.ask("PATCH", f"{path}/ephemeralcontainers", patch, kind)).status

    assert [await add("d1", "nobody"), await add("init-0", "main"), await add("d1", "main")] == [422, 400, 200]
    value = await admin.until(path, lambda value: "ephemeralContainerStatuses" in value["status"])
    assert "running" in states(value, "ephemeralContainerStatuses")["d1"]
    assert is_running(value)
    query = [("container", "d1"), ("command", "true"), ("stdout", "1")]
    async with connect(cluster) as client:
        answer = await client.request("GET", f"{path}/exec", list(query), [bearer(cluster)])
    assert answer.status == 400  # it is there, and wants a WebSocket
    assert b"Upgrade request required" in answer.body
    await admin.delete(path)


async def test_a_namespace_goes_with_everything_in_it(admin: Admin) -> None:
    await admin.make("/api/v1/namespaces", {"metadata": {"name": "passing"}})
    path = "/api/v1/namespaces/passing"
    await admin.make(f"{path}/pods", pod("guest", "sleep", "infinity"))
    assert (await admin.get(path))["status"]["phase"] == "Active"

    async def has_account() -> bool:
        return (await admin.ask("GET", f"{path}/serviceaccounts/default")).status == 200

    await eventually(has_account, within=30)
    await admin.until(f"{path}/pods/guest", is_running)
    await admin.delete(path)
    assert (await admin.get(path))["status"]["phase"] == "Terminating"
    refused = await admin.ask("POST", f"{path}/pods", pod("late"))
    assert refused.status == 403
    assert b"because it is being terminated" in refused.body
    await admin.until_gone(path)
    assert (await admin.ask("GET", f"{path}/pods/guest")).status == 404
