"""Objects that are made, changed, watched and deleted, and the tokens of accounts."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cluster import running_cluster
from support.clusteradmin import MERGE, PODS, Admin, admin_of, pod, watching
from support.rawclient import bearer, connect
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.cluster import Cluster

MODERN = [("allowWatchBookmarks", "true"), ("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]
KINDS = [
    "/api/v1/pods",
    "/api/v1/namespaces",
    "/api/v1/serviceaccounts",
    "/api/v1/events",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/daemonsets",
    "/apis/batch/v1/jobs",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
]


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Admin]:
    async with admin_of(cluster) as admin:
        yield admin


# --- watch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", KINDS)
async def test_every_kind_can_be_watched_from_the_beginning(cluster: Cluster, admin: Admin, path: str) -> None:
    listed = await admin.get(path)
    async with connect(cluster) as client:
        watch = await watching(client, cluster, path, ("timeoutSeconds", "1"), *MODERN)
        for one in listed["items"]:
            kind, value = await watch.event()
            assert (kind, value["metadata"]["name"]) == ("ADDED", one["metadata"]["name"])
            assert value["kind"] + "List" == listed["kind"]
        kind, value = await watch.event()
        assert kind == "BOOKMARK"
        assert value["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(value["metadata"]["resourceVersion"]) >= int(listed["metadata"]["resourceVersion"])
        assert await watch.ended()


async def test_a_watch_tells_of_what_is_made_changed_and_deleted(cluster: Cluster, admin: Admin) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    async with connect(cluster) as client:
        watch = await watching(client, cluster, accounts, ("resourceVersion", await admin.version(accounts)))
        assert (await admin.ask("POST", accounts, {"metadata": {"name": "new"}})).status == 201
        assert (await admin.ask("PATCH", f"{accounts}/new", {"metadata": {"labels": {"a": "b"}}}, MERGE)).status == 200
        assert (await admin.ask("DELETE", f"{accounts}/new")).status == 200
        events = [await watch.event() for _ in range(3)]
    assert [kind for kind, _ in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(value["metadata"]["resourceVersion"]) for _, value in events]
    assert versions == sorted(set(versions))


async def test_an_object_that_is_selected_no_more_was_deleted(cluster: Cluster, admin: Admin) -> None:
    namespace = "/api/v1/namespaces/kube-public"
    selector = ("labelSelector", "colour=red")
    async with connect(cluster) as client:
        watch = await watching(client, cluster, "/api/v1/namespaces", ("resourceVersion", "0"), selector)
        for colour in ("red", "blue"):
            await admin.ask("PATCH", namespace, {"metadata": {"labels": {"colour": colour}}}, MERGE)
        events = [await watch.event() for _ in range(2)]
    assert [(kind, value["metadata"]["name"]) for kind, value in events] == [
        ("ADDED", "kube-public"),
        ("DELETED", "kube-public"),
    ]


async def test_a_watch_without_changes_ends_with_its_time(cluster: Cluster, admin: Admin) -> None:
    path = "/apis/batch/v1/jobs"
    async with connect(cluster) as client:
        timeout = ("timeoutSeconds", "1")
        watch = await watching(client, cluster, path, ("resourceVersion", await admin.version(path)), timeout)
        assert await watch.ended()
        answer = await client.request("GET", "/readyz")
        assert answer.body == b"ok"  # and the connection goes on


@pytest.mark.parametrize("query", [("resourceVersion", "x"), ("timeoutSeconds", "-1"), ("labelSelector", "a b")])
async def test_a_watch_without_sense_is_a_400(admin: Admin, query: tuple[str, str]) -> None:
    assert (await admin.ask("GET", PODS, query=[("watch", "true"), query])).status == 400


async def test_who_may_only_list_may_not_watch(admin: Admin) -> None:
    headers = (("Impersonate-User", "bastion:carl"), ("Impersonate-Group", "bastion:contractor"))
    answer = await admin.ask("GET", "/api/v1/namespaces/shop/pods", None, *headers, query=[("watch", "true")])
    assert answer.status == 403
    assert b"cannot watch" in answer.body


# --- objects -------------------------------------------------------------------------------------------------------


async def test_an_object_can_be_made_once_and_changed_from_its_last_version_alone(admin: Admin) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts"
    made = json.loads((await admin.ask("POST", path, {"metadata": {"generateName": "robot-"}})).body)
    name = made["metadata"]["name"]
    assert name.startswith("robot-")
    assert (await admin.ask("POST", path, {"metadata": {"name": name}})).status == 409
    changed = {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}, "uid": "another"}}
    put = json.loads((await admin.ask("PUT", f"{path}/{name}", changed)).body)
    assert (put["metadata"]["labels"], put["metadata"]["uid"]) == ({"a": "b"}, made["metadata"]["uid"])
    assert (await admin.ask("PUT", f"{path}/{name}", changed)).status == 409
    assert (await admin.ask("DELETE", f"{path}/{name}")).status == 200
    await admin.get(f"{path}/{name}", 404)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PODS, [], 400),
        (PODS, {"metadata": {"name": "x"}}, 400),
        (PODS, {"metadata": {}, "spec": {"containers": [{"name": "a", "image": "b"}]}}, 400),
        (PODS, pod("x", image=""), 400),
        (PODS, pod("x") | {"metadata": {"name": "x", "labels": 3}}, 400),
        (PODS, {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "../y", "image": "b"}]}}, 400),
        (PODS, {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "y", "image": "b", "args": [1]}]}}, 400),
        (PODS, {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "y", "image": "b", "env": [1]}]}}, 400),
        ("/apis/apps/v1/namespaces/shop/deployments", {"metadata": {"name": "x"}, "spec": {"replicas": 1}}, 400),
        ("/apis/apps/v1/namespaces/shop/deployments", {"metadata": {"name": "x"}, "spec": {"replicas": 999}}, 400),
        (PODS, {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a"}]}}, 400),
        ("/api/v1/namespaces/nowhere/pods", pod("x"), 404),
        ("/api/v1/pods", pod("x"), 405),
        (f"{PODS}/web/log", {}, 405),
        (f"{PODS}/web/status", {}, 404),
    ],
)
async def test_what_cannot_be_made_is_refused(admin: Admin, path: str, body: object, status: int) -> None:
    assert (await admin.ask("POST", path, body)).status == status


async def test_an_object_in_another_format_is_refused_as_such(admin: Admin) -> None:
    answer = await admin.ask("POST", PODS, {}, ("Content-Type", "application/vnd.kubernetes.protobuf"))
    assert (answer.status, json.loads(answer.body)["reason"]) == (415, "UnsupportedMediaType")


async def test_a_table_is_given_to_who_prefers_one(admin: Admin) -> None:
    accept = ("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
    for path, rows in ((PODS, 3), (f"{PODS}/web", 1)):
        table = json.loads((await admin.ask("GET", path, None, accept)).body)
        assert table["kind"] == "Table"
        assert len(table["rows"]) >= rows
        assert table["rows"][-1]["cells"][:4] == ["web", "1/1", "Running", "0"]
        assert [len(row["cells"]) for row in table["rows"]] == [len(table["columnDefinitions"])] * len(table["rows"])


@pytest.mark.parametrize("path", ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1"])
async def test_discovery_is_for_whoever_logged_in(cluster: Cluster, path: str) -> None:
    async with connect(cluster) as client:
        assert (await client.request("GET", path)).status == 403
        known = await client.request("GET", path, headers=[bearer(cluster), ("Impersonate-User", "bob")])
    assert known.status == 200
    assert json.loads(known.body)["kind"].startswith("API")


# --- pods ----------------------------------------------------------------------------------------------------------


async def container_status(admin: Admin, name: str) -> dict[str, Any]:
    (status,) = (await admin.get(f"{PODS}/{name}"))["status"]["containerStatuses"]
    assert isinstance(status, dict)
    return status


async def log(admin: Admin, name: str, *query: tuple[str, str], status: int = 200) -> bytes:
    answer = await admin.ask("GET", f"{PODS}/{name}/log", query=list(query))
    assert answer.status == status
    return answer.body


async def test_a_pod_that_ends_tells_how_and_is_not_started_again(admin: Admin) -> None:
    body = pod("ends", "sh", "-c", "echo said; echo complained >&2; exit 3", restartPolicy="Never")
    assert (await admin.ask("POST", PODS, body)).status == 201

    async def failed() -> bool:
        return bool((await admin.get(f"{PODS}/ends"))["status"]["phase"] == "Failed")

    await eventually(failed)
    status = await container_status(admin, "ends")
    assert (status["state"]["terminated"]["exitCode"], status["restartCount"]) == (3, 0)
    assert sorted((await log(admin, "ends")).splitlines()) == [b"complained", b"said"]
    assert b"not found" in await log(admin, "ends", ("previous", "true"), status=400)


async def test_a_pod_that_ends_again_is_started_after_a_while(admin: Admin) -> None:
    assert (await admin.ask("POST", PODS, pod("restless", "sh", "-c", "echo up; exit 1"))).status == 201

    async def backs_off() -> bool:
        state = (await container_status(admin, "restless"))["state"]
        return bool(state.get("waiting", {}).get("reason") == "CrashLoopBackOff")

    await eventually(backs_off)
    status = await container_status(admin, "restless")
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 1)
    assert await log(admin, "restless") == b"up\n"
    assert (await admin.ask("DELETE", f"{PODS}/restless")).status == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (pod("no-image", image="somewhere.example/else:1"), "ErrImageNeverPull"),
        (pod("no-program", "no-such-program", restartPolicy="Never"), "StartError"),
    ],
)
async def test_a_pod_that_cannot_start_says_why(admin: Admin, body: dict[str, Any], reason: str) -> None:
    name = body["metadata"]["name"]
    assert (await admin.ask("POST", PODS, body)).status == 201

    async def told() -> bool:
        statuses = (await admin.get(f"{PODS}/{name}"))["status"].get("containerStatuses", [])
        return any(state["reason"] == reason for one in statuses for state in one["state"].values())

    await eventually(told)
    assert b"waiting to start" in await log(admin, name, status=400)
    entered = await admin.ask("GET", f"{PODS}/{name}/exec", query=[("command", "true"), ("stdout", "true")])
    assert entered.status == 500
    assert (await admin.ask("DELETE", f"{PODS}/{name}")).status == 200


async def test_a_log_that_is_followed_ends_with_the_container_and_lets_go_of_who_left(
    cluster: Cluster, admin: Admin
) -> None:
    script = "echo begun; until [ -e stop ]; do sleep 0.05; done; echo done"
    assert (await admin.ask("POST", PODS, pod("talks", "sh", "-c", script, restartPolicy="Never"))).status == 201
    path, query = f"{PODS}/talks/log", [("follow", "true")]

    async def started() -> bool:
        return (await admin.ask("GET", path)).body == b"begun\n"

    await eventually(started)
    async with connect(cluster) as gone, connect(cluster) as client:
        await gone.begin("GET", path, query, [bearer(cluster)])
        gone.leave()
        await client.begin("GET", path, query, [bearer(cluster)])
        chunks = client.chunks()
        assert await anext(chunks) == b"begun\n"
        await cluster.control({"do": "crash", "pod": "default/talks", "container": "main"})
        assert [chunk async for chunk in chunks] == []
    assert (await admin.ask("DELETE", f"{PODS}/talks")).status == 200


async def test_a_deployments_pods_are_as_many_as_it_wants(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, connect(cluster) as client:
        admin = Admin(client, cluster)
        deployment = "/apis/apps/v1/namespaces/shop/deployments/api"

        async def pods() -> set[str]:
            listed = await admin.get("/api/v1/namespaces/shop/pods")
            return {one["metadata"]["name"] for one in listed["items"]}

        first = await pods()
        for wanted in (3, 1, 2):
            await admin.ask("PATCH", deployment, {"spec": {"replicas": wanted}}, MERGE)

            async def there(count: int = wanted) -> bool:
                ready = (await admin.get(deployment))["status"]["readyReplicas"]
                return bool(ready == count == len(await pods()))

            await eventually(there)
        gone = min(await pods())
        await admin.ask("DELETE", f"/api/v1/namespaces/shop/pods/{gone}")

        async def replaced() -> bool:
            now = await pods()
            return gone not in now and len(now) == 2

        await eventually(replaced)
        assert not await pods() <= first
        await admin.ask("DELETE", deployment)

        async def none_left() -> bool:
            return not await pods()

        await eventually(none_left)


async def test_the_processes_of_a_deleted_pod_are_gone_and_its_name_is_free(cluster: Cluster, admin: Admin) -> None:
    for image in ("local/busybox:1", "local/debian:1"):
        assert (await admin.ask("POST", PODS, pod("again", image=image))).status == 201

        async def running() -> bool:
            return bool((await admin.get(f"{PODS}/again"))["status"]["phase"] == "Running")

        await eventually(running)
        assert (await container_status(admin, "again"))["image"] == image
        options = {"gracePeriodSeconds": 0}
        assert (await admin.ask("DELETE", f"{PODS}/again", options)).status == 200
    assert [one for one in await cluster.processes() if one["pod"] == "default/again"] == []


# --- tokens --------------------------------------------------------------------------------------------------------

TOKEN = "/api/v1/namespaces/default/serviceaccounts/default/token"


async def issued(admin: Admin, **spec: object) -> str:
    answer = await admin.ask("POST", TOKEN, {"metadata": {}, "spec": spec})
    assert answer.status == 201
    return str(json.loads(answer.body)["status"]["token"])


async def test_an_accounts_token_is_a_json_web_token_that_logs_in(cluster: Cluster, admin: Admin) -> None:
    token = await issued(admin, expirationSeconds=600)
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert claims["exp"] - claims["iat"] == 600
    async with connect(cluster) as client:
        credentials = [("Authorization", f"Bearer {token}")]
        refused = await client.request("GET", PODS, headers=credentials)
    assert refused.status == 403
    assert b'User \\"system:serviceaccount:default:default\\" cannot list' in refused.body


async def test_a_token_for_another_audience_or_past_its_time_is_none(cluster: Cluster, admin: Admin) -> None:
    elsewhere, short = await issued(admin, audiences=["elsewhere"]), await issued(admin, expirationSeconds=1)

    async def refused(token: str) -> bool:
        async with connect(cluster) as client:
            answer = await client.request("GET", "/version", headers=[("Authorization", f"Bearer {token}")])
            return answer.status == 401

    assert await refused(elsewhere)
    await eventually(lambda: refused(short))


async def test_many_watches_at_once_all_hear(cluster: Cluster, admin: Admin) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts"
    version = await admin.version(path)

    async def first(ready: asyncio.Semaphore) -> str:
        async with connect(cluster) as client:
            watch = await watching(client, cluster, path, ("resourceVersion", version))
            ready.release()
            _, value = await watch.event()
            return str(value["metadata"]["name"])

    ready = asyncio.Semaphore(0)
    heard = [asyncio.create_task(first(ready)) for _ in range(10)]
    for _ in heard:
        await ready.acquire()
    await admin.ask("POST", path, {"metadata": {"name": "heard"}})
    assert await asyncio.gather(*heard) == ["heard"] * 10
