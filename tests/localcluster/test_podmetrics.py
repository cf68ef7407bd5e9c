"""What pods use, as a metrics server tells it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.clusteradmin import Admin, admin_of
from support.rawclient import bearer, connect, exec_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.cluster import Cluster

METRICS = "/apis/metrics.k8s.io/v1beta1"
DEFAULT = f"{METRICS}/namespaces/default/pods"


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Admin]:
    async with admin_of(cluster) as admin:
        yield admin


def usage(value: dict[str, Any]) -> tuple[int, int]:
    """Of a pod's first container: processor time in billionths of a core, memory in Ki."""
    used = value["containers"][0]["usage"]
    assert used["memory"].endswith("Ki")
    return int(used["cpu"].removesuffix("n")), int(used["memory"].removesuffix("Ki"))


async def test_a_busy_pod_uses_the_processor_and_a_sleeping_one_does_not(cluster: Cluster, admin: Admin) -> None:
    idle = await admin.get(f"{METRICS}/namespaces/prod/pods/db")
    assert idle["kind"] == "PodMetrics"
    assert usage(idle)[0] < 20_000_000
    assert usage(idle)[1] > 100
    async with exec_in(cluster, "prod/db", "sh", "-c", "while :; do :; done"):
        busy = await admin.until(f"{METRICS}/namespaces/prod/pods/db", lambda value: usage(value)[0] > 100_000_000)
    assert usage(busy)[1] > usage(idle)[1]
    await cluster.control({"do": "crash", "pod": "prod/db", "container": "db"})


async def test_lists_are_of_a_namespace_or_of_all_and_take_selectors(admin: Admin) -> None:
    listed = await admin.get(DEFAULT)
    assert listed["kind"] == "PodMetricsList"
    names = [one["metadata"]["name"] for one in listed["items"]]
    assert names == ["distroless", "multi", "web"]
    assert [len(one["containers"]) for one in listed["items"]] == [1, 2, 1]
    everywhere = await admin.get(f"{METRICS}/pods")
    assert {one["metadata"]["namespace"] for one in everywhere["items"]} == {"default", "prod", "shop"}
    answer = await admin.ask("GET", DEFAULT, query=[("labelSelector", "app=web")])
    assert [one["metadata"]["name"] for one in json.loads(answer.body)["items"]] == ["web"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{DEFAULT}/nobody", 404),
        ("POST", DEFAULT, 405),
        ("GET", f"{METRICS}/nodes", 404),
        ("GET", METRICS, 200),
        ("GET", "/apis/metrics.k8s.io/v1", 404),
    ],
)
async def test_other_paths_are_answered_as_such(admin: Admin, method: str, path: str, status: int) -> None:
    assert (await admin.ask(method, path)).status == status


@pytest.mark.parametrize(("group", "status"), [("bastion:engineer", 200), ("bastion:stranger", 403)])
async def test_rbac_decides_who_may_look(cluster: Cluster, group: str, status: int) -> None:
    headers = [bearer(cluster), ("Impersonate-User", "bastion:alice"), ("Impersonate-Group", group)]
    async with connect(cluster) as client:
        answer = await client.request("GET", DEFAULT, headers=headers)
    assert answer.status == status
    if status == 403:
        assert b'cannot list resource \\"pods\\" in API group \\"metrics.k8s.io\\"' in answer.body
