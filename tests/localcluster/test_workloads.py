"""What makes pods: Deployments and their rollouts, StatefulSets, DaemonSets and Jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support.clusteradmin import Admin, admin_of, pod
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.cluster import Cluster

PODS = "/api/v1/namespaces/kube-public/pods"
APPS = "/apis/apps/v1/namespaces/kube-public"
JOBS = "/apis/batch/v1/namespaces/kube-public/jobs"


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Admin]:
    async with admin_of(cluster) as admin:
        yield admin


def workload(name: str, *command: str, **spec: object) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod(name, *command)["spec"]}
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template} | spec,
    }


def renamed(variable: str) -> dict[str, Any]:
    """A patch that changes a workload's template."""
    main = {"name": "main", "image": "local/busybox:1", "env": [{"name": "VERSION", "value": variable}]}
    return {"spec": {"template": {"spec": {"containers": [main]}}}}


async def pods(admin: Admin, app: str) -> dict[str, dict[str, Any]]:
    """The pods of a workload that are not on their way out, by name."""
    listed = await admin.get(PODS)
    return {
        one["metadata"]["name"]: one
        for one in listed["items"]
        if one["metadata"]["labels"].get("app") == app and "deletionTimestamp" not in one["metadata"]
    }


def version(pod: dict[str, Any]) -> str:
    return str(next((one["value"] for one in pod["spec"]["containers"][0].get("env", ())), ""))


async def test_a_changed_template_makes_a_newer_replica_set_and_the_older_one_gives_way(admin: Admin) -> None:
    await admin.make(f"{APPS}/deployments", workload("rolls", replicas=4))
    path = f"{APPS}/deployments/rolls"
    await admin.until(path, lambda value: value.get("status", {}).get("readyReplicas") == 4)
    first = set(await pods(admin, "rolls"))

    await asyncio.sleep(1)  # a creationTimestamp counts whole seconds
    await admin.patch(path, renamed("2"))
    fewest = 4
    most = 0

    async def rolled_out() -> bool:
        nonlocal fewest, most
        now = await pods(admin, "rolls")
        fewest = min(fewest, sum(one["status"].get("phase") == "Running" for one in now.values()))
        most = max(most, len(now))
        return len(now) == 4 and not first & set(now) and {version(one) for one in now.values()} == {"2"}

    await eventually(rolled_out, within=30)
    assert fewest >= 3  # a quarter may lack, and a quarter may be too many
    assert 4 < most <= 5
    status = (
        await admin.until(path, lambda value: value["status"]["updatedReplicas"] == value["status"]["replicas"] == 4)
    )["status"]
    assert status["observedGeneration"] == 2
    listed = (await admin.get(f"{APPS}/replicasets"))["items"]
    older, newer = sorted(
        (one for one in listed if one["metadata"]["labels"]["app"] == "rolls"),
        key=lambda one: str(one["metadata"]["creationTimestamp"]),
    )
    assert (older["spec"]["replicas"], newer["spec"]["replicas"]) == (0, 4)
    assert newer["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    await admin.delete(path)

    async def none_left() -> bool:
        return not await pods(admin, "rolls")

    await eventually(none_left, within=30)


async def test_recreate_ends_the_old_pods_before_it_makes_new_ones(admin: Admin) -> None:
    await admin.make(f"{APPS}/deployments", workload("anew", replicas=2, strategy={"type": "Recreate"}))
    path = f"{APPS}/deployments/anew"
    await admin.until(path, lambda value: value.get("status", {}).get("readyReplicas") == 2)
    await admin.patch(path, renamed("2"))
    versions: set[frozenset[str]] = set()

    async def rolled_out() -> bool:
        now = await pods(admin, "anew")
        versions.add(frozenset(map(version, now.values())))
        return [version(one) for one in now.values()] == ["2", "2"]

    await eventually(rolled_out, within=30)
    assert frozenset(("", "2")) not in versions
    await admin.delete(path)


async def test_a_stateful_sets_pods_are_numbered_and_come_and_go_in_order(admin: Admin) -> None:
    await admin.make(f"{APPS}/statefulsets", workload("db", replicas=3))
    path = f"{APPS}/statefulsets/db"
    seen: list[list[str]] = []

    async def complete(wanted: int) -> bool:
        now = sorted(await pods(admin, "db"))
        if now not in seen:
            seen.append(now)
        status = (await admin.get(path)).get("status", {})
        return bool(len(now) == wanted == status.get("readyReplicas"))

    await eventually(lambda: complete(3), within=30)
    assert [one for one in seen if one] == [["db-0"], ["db-0", "db-1"], ["db-0", "db-1", "db-2"]]
    second = (await admin.get(f"{PODS}/db-1"))["metadata"]
    assert second["labels"]["apps.kubernetes.io/pod-index"] == "1"
    assert second["ownerReferences"][0]["kind"] == "StatefulSet"

    await admin.delete(f"{PODS}/db-1")

    async def replaced() -> bool:
        found = (await pods(admin, "db")).get("db-1")
        return found is not None and found["metadata"]["uid"] != second["uid"]

    await eventually(replaced, within=30)
    seen.clear()
    await admin.patch(path, {"spec": {"replicas": 1}})
    await eventually(lambda: complete(1), within=30)
    assert seen[-2:] == [["db-0", "db-1"], ["db-0"]]
    await admin.delete(path)


async def test_a_stateful_sets_new_template_reaches_its_pods_from_the_last_on(admin: Admin) -> None:
    await admin.make(f"{APPS}/statefulsets", workload("log", replicas=2))
    path = f"{APPS}/statefulsets/log"
    await admin.until(path, lambda value: value.get("status", {}).get("readyReplicas") == 2)
    await admin.patch(path, renamed("2"))
    seen: list[dict[str, str]] = []

    async def rolled_out() -> bool:
        now = {name: version(one) for name, one in (await pods(admin, "log")).items()}
        seen.append(now)
        return now == {"log-0": "2", "log-1": "2"}

    await eventually(rolled_out, within=30)
    assert all(one.get("log-1", "2") == "2" for one in seen if one.get("log-0", "2") == "2")
    await admin.delete(path)


async def test_a_daemon_set_has_one_pod_on_the_one_node(admin: Admin) -> None:
    await admin.make(f"{APPS}/daemonsets", workload("agent"))
    path = f"{APPS}/daemonsets/agent"
    value = await admin.until(path, lambda value: value.get("status", {}).get("numberReady") == 1)
    assert value["status"]["desiredNumberScheduled"] == 1
    (before,) = await pods(admin, "agent")
    await admin.patch(path, renamed("2"))

    async def rolled_out() -> bool:
        return [version(one) for one in (await pods(admin, "agent")).values()] == ["2"]

    await eventually(rolled_out, within=30)
    assert before not in await pods(admin, "agent")
    await admin.delete(path)


def job(name: str, script: str, **spec: object) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod(name, "sh", "-c", script)["spec"]}
    template["spec"]["restartPolicy"] = "Never"
    return {"metadata": {"name": name}, "spec": {"template": template} | spec}


async def test_a_job_is_complete_when_its_pod_has_succeeded(admin: Admin) -> None:
    await admin.make(JOBS, job("once", "echo done"))
    value = await admin.until(f"{JOBS}/once", lambda value: value.get("status", {}).get("succeeded"))
    assert value["status"]["conditions"] == [{"type": "Complete", "status": "True"}]
    assert value["status"]["active"] == 0
    (done,) = (await pods(admin, "once")).values()
    assert done["status"]["phase"] == "Succeeded"
    assert value["spec"]["selector"]["matchLabels"].items() <= done["metadata"]["labels"].items()
    await admin.delete(f"{JOBS}/once")


async def test_a_job_tries_again_up_to_its_limit(admin: Admin) -> None:
    await admin.make(JOBS, job("vain", "exit 1", backoffLimit=1))
    value = await admin.until(f"{JOBS}/vain", lambda value: value.get("status", {}).get("conditions"))
    assert value["status"]["conditions"] == [{"type": "Failed", "status": "True"}]
    assert value["status"]["failed"] == len(await pods(admin, "vain")) == 2
    await admin.delete(f"{JOBS}/vain")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{APPS}/statefulsets", {"metadata": {"name": "x"}, "spec": {}}),
        (f"{APPS}/daemonsets", {"metadata": {"name": "x"}}),
        (JOBS, {"metadata": {"name": "x"}, "spec": {"template": pod("x")}}),
        (JOBS, job("x", "true", backoffLimit=-1)),
    ],
)
async def test_a_workload_without_sense_is_refused(admin: Admin, path: str, body: dict[str, Any]) -> None:
    assert (await admin.ask("POST", path, body)).status == 400


async def test_an_evicted_pod_stays_and_another_takes_its_place(cluster: Cluster, admin: Admin) -> None:
    await admin.make(f"{APPS}/deployments", workload("moved"))
    path = f"{APPS}/deployments/moved"
    await admin.until(path, lambda value: value.get("status", {}).get("readyReplicas") == 1)
    (evicted,) = await pods(admin, "moved")
    await cluster.control({"do": "evict", "pod": f"kube-public/{evicted}"})
    value = await admin.get(f"{PODS}/{evicted}")
    assert (value["status"]["phase"], value["status"]["reason"]) == ("Failed", "Evicted")
    assert value["status"]["message"] == "The node was low on resource: memory."
    (container,) = value["status"]["containerStatuses"]
    assert (container["state"]["terminated"]["exitCode"], container["restartCount"]) == (137, 0)

    async def replaced() -> bool:
        now = await pods(admin, "moved")
        return len(now) == 2 and sorted(one["status"]["phase"] for one in now.values()) == ["Failed", "Running"]

    await eventually(replaced, within=30)
    await admin.delete(f"{PODS}/{evicted}")
    await admin.until_gone(f"{PODS}/{evicted}")
    await admin.delete(path)
