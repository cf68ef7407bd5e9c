"""The faults that tests cause through the control socket, as a client of the API sees them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cluster import running_cluster
from support.clusteradmin import PODS, Admin, admin_of, pod, watching
from support.rawclient import bearer, channel, connect, exec_in
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.cluster import Cluster

UNREACHABLE = "error dialing backend: dial tcp 127.0.0.1:10250: connect: connection refused"


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Admin]:
    async with admin_of(cluster) as admin:
        yield admin


async def running_pod(admin: Admin, name: str, **spec: Any) -> str:
    await admin.make(PODS, pod(name, "sleep", "infinity", **spec))
    await admin.until(f"{PODS}/{name}", lambda value: value["status"]["phase"] == "Running")
    return f"{PODS}/{name}"


async def test_a_container_without_memory_is_killed_whole_and_started_again(cluster: Cluster, admin: Admin) -> None:
    path = await running_pod(admin, "greedy")
    async with exec_in(cluster, "default/greedy", "cat") as client:
        await cluster.control({"do": "oom", "pod": "default/greedy", "container": "main"})
        frames, _ = await client.frames_to_end()
    assert json.loads(channel(frames, 3))["details"]["causes"][0]["message"] == "137"
    (status,) = (await admin.get(path))["status"]["containerStatuses"]
    ended = status["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"], status["restartCount"]) == ("OOMKilled", 137, 1)
    assert "running" in status["state"]
    await admin.delete(path)


async def test_a_container_that_is_not_started_again_says_why_it_was_killed(cluster: Cluster, admin: Admin) -> None:
    path = await running_pod(admin, "spent", restartPolicy="Never")
    await cluster.control({"do": "oom", "pod": "default/spent", "container": "main"})
    value = await admin.until(path, lambda value: value["status"]["phase"] == "Failed")
    (status,) = value["status"]["containerStatuses"]
    assert (status["state"]["terminated"]["reason"], status["restartCount"]) == ("OOMKilled", 0)
    await admin.delete(path)


async def test_a_token_that_is_revoked_is_a_401_until_it_is_restored(cluster: Cluster) -> None:
    user = "system:serviceaccount:bastion:bastion"
    async with connect(cluster) as client:

        async def status() -> int:
            answer = await client.request("GET", "/version", headers=[bearer(cluster, user)])
            return answer.status

        assert await status() == 200
        await cluster.control({"do": "revoke", "user": user})
        assert await status() == 401
        assert (await client.request("GET", "/version", headers=[bearer(cluster)])).status == 200
        await cluster.control({"do": "restore", "user": user})
        assert await status() == 200


@pytest.mark.parametrize(("status", "reason"), [(500, "InternalError"), (503, "ServiceUnavailable")])
async def test_so_many_requests_fail_as_asked_and_the_next_does_not(
    cluster: Cluster, admin: Admin, status: int, reason: str
) -> None:
    await cluster.control({"do": "fail", "times": 2, "status": status, "retry_after": 3, "match": "/pods/web"})
    assert (await admin.ask("GET", PODS)).status == 200
    for _ in range(2):
        answer = await admin.ask("GET", f"{PODS}/web")
        assert (answer.status, json.loads(answer.body)["reason"]) == (status, reason)
        assert answer.headers["retry-after"] == "3"
    assert (await admin.ask("GET", f"{PODS}/web")).status == 200


async def test_an_overloaded_server_says_so_in_plain_text(cluster: Cluster, admin: Admin) -> None:
    await cluster.control({"do": "fail", "times": 1, "status": 429})
    answer = await admin.ask("GET", PODS)
    assert (answer.status, answer.body) == (429, b"Too many requests, please try again later.\n")
    assert "retry-after" not in answer.headers


async def test_whoever_watches_from_before_what_is_forgotten_has_to_list_again(cluster: Cluster, admin: Admin) -> None:
    version = await admin.version("/api/v1/namespaces/default/serviceaccounts")
    await admin.make("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "forgotten"}})
    await cluster.control({"do": "forget"})
    async with connect(cluster) as client:
        watch = await watching(client, cluster, PODS, ("resourceVersion", version))
        kind, value = await watch.event()
    assert (kind, value["code"], value["reason"]) == ("ERROR", 410, "Expired")


async def test_a_reset_breaks_every_connection(cluster: Cluster) -> None:
    async with connect(cluster) as idle, exec_in(cluster, "default/web", "cat") as stream:
        assert (await idle.request("GET", "/readyz")).status == 200
        answer = await cluster.control({"do": "reset"})
        assert answer["connections"] >= 2
        _, ending = await stream.frames_to_end()
        assert (ending.code, ending.close_notify) == (0, False)
    async with connect(cluster) as client:
        assert (await client.request("GET", "/readyz")).status == 200


async def test_a_server_that_restarts_refuses_connections_for_a_while(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        await cluster.control({"do": "reset", "seconds": 1})
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", cluster.port)

        async def answers() -> bool:
            try:
                async with connect(cluster) as client:
                    return (await client.request("GET", "/readyz")).status == 200
            except ConnectionRefusedError:
                return False

        await eventually(answers, within=30)


async def test_a_node_that_is_gone_cuts_its_streams_and_answers_nothing_until_it_is_back(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, admin_of(cluster) as admin, connect(cluster) as follower:
        await follower.begin("GET", f"{PODS}/web/log", [("follow", "true")], [bearer(cluster)])
        async with exec_in(cluster, "default/web", "cat") as stream:
            await stream.send_frame(b"\0here")
            answer = await cluster.control({"do": "node", "up": False, "grace": 0.2})
            assert answer["streams"] == 2
            _, ending = await stream.frames_to_end()
            assert ending.code == 0
        assert [chunk async for chunk in follower.chunks()] == []
        assert (follower.fin, follower.close_notify) == (True, False)

        for below in ("exec", "attach", "portforward"):
            refused = await admin.ask("GET", f"{PODS}/web/{below}", query=[("command", "true"), ("stdout", "1")])
            assert (refused.status, json.loads(refused.body)["message"]) == (500, UNREACHABLE)
        refused = await admin.ask("GET", f"{PODS}/web/log")
        asked = 'Get "https://127.0.0.1:10250/containerLogs/default/web/web": dial tcp'
        assert (refused.status, json.loads(refused.body)["message"][: len(asked)]) == (500, asked)

        def ready(value: dict[str, Any]) -> str:
            return str(next(one["status"] for one in value["status"]["conditions"] if one["type"] == "Ready"))

        value = await admin.until(f"{PODS}/web", lambda value: ready(value) == "False")
        assert value["status"]["phase"] == "Running"
        await admin.delete(f"{PODS}/web")
        await asyncio.sleep(1.5)  # longer than its grace: nobody ends it
        assert "deletionTimestamp" in (await admin.get(f"{PODS}/web"))["metadata"]

        await cluster.control({"do": "node", "up": True})
        await admin.until_gone(f"{PODS}/web")
        await admin.until(f"{PODS}/multi", lambda value: ready(value) == "True")


async def test_a_node_that_came_back_in_time_is_not_taken_for_lost_the_next_time(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, admin_of(cluster) as admin:
        await cluster.control({"do": "node", "up": False, "grace": 0.5})
        await cluster.control({"do": "node", "up": True})
        await cluster.control({"do": "node", "up": False, "grace": 300})
        before = await admin.version(f"{PODS}/web")
        await asyncio.sleep(1)  # longer than the first time it was given
        assert await admin.version(f"{PODS}/web") == before


async def test_a_node_that_hangs_leaves_its_streams_silent(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, exec_in(cluster, "default/web", "cat") as stream:
        await cluster.control({"do": "node", "up": False, "hang": True})
        await stream.send_frame(b"\0lost")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stream.frame()


async def test_bookmarks_come_at_intervals_to_those_who_want_them(tmp_path: Path) -> None:
    async with running_cluster(tmp_path, "--bookmarks-every", "0.2") as cluster, admin_of(cluster) as admin:
        path = "/apis/batch/v1/jobs"
        begin = ("resourceVersion", await admin.version(path))
        async with connect(cluster) as client:
            wanted = ("allowWatchBookmarks", "true")
            watch = await watching(client, cluster, path, begin, wanted, ("timeoutSeconds", "5"))
            for _ in range(2):
                kind, value = await watch.event()
                assert (kind, value["kind"]) == ("BOOKMARK", "Job")
                assert "annotations" not in value["metadata"]
                assert int(value["metadata"]["resourceVersion"]) >= int(begin[1])
        async with connect(cluster) as client:
            watch = await watching(client, cluster, path, begin, ("timeoutSeconds", "1"))
            assert await watch.ended()


@pytest.mark.parametrize(
    "asked",
    [
        {"do": "oom", "pod": "default/none", "container": "x"},
        {"do": "evict", "pod": "default/none"},
        {"do": "fail", "times": 1, "status": 418},
        {"do": "fail", "status": 500},
        {"do": "node"},
        {"do": "revoke"},
    ],
)
async def test_a_fault_that_cannot_be_caused_is_told(cluster: Cluster, asked: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="error"):
        await cluster.control(asked)
