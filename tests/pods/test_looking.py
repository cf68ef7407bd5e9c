"""Looking at pods as a person, on an embedded cluster: what is there, what RBAC refuses, and what is not there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from bastion.errors import BastionError, Code
from bastion.events import Exited, Output
from bastion.model import KubeIdentity, Outcome, Stream, Target
from bastion.pods.looking import KubeLooking
from bastion.ports import LogOptions
from support import podobjects
from support.apis import api_by, kept_up, kubeconfig_at, retries, told_to_nobody, unsynced
from support.cluster import Cluster, running_cluster_sync
from support.clusteradmin import PODS, admin_of, pod
from support.faultproxy import Way, fault_proxy
from support.sockets import all_closed
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bastion.ports import ExecStream
    from support.clusteradmin import Admin
    from support.faultproxy import FaultProxy

ENGINEER = KubeIdentity(user="bastion:alice", groups=("bastion:engineer",))
NOBODY = KubeIdentity(user="bastion:nobody", groups=("bastion:nothing",))
API = "api-788b6f4684-4fttr"
WHOLE = Exited(0, Outcome.EXITED)
FAILED = Exited(255, Outcome.BROKEN, "container main ended with status 3")
UNREACHABLE = "the cluster's API server cannot be reached; try again in a moment"
OUT_OF_DATE = "the list of pods is out of date; asking the API server"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster_sync(tmp_path_factory.mktemp("looking")) as running:
        yield running


@pytest.fixture
async def looking(cluster: Cluster) -> AsyncIterator[KubeLooking]:
    async with all_closed(), api_by(cluster.bastion_kubeconfig) as api:
        yield KubeLooking(api, unsynced(api), ())


async def target(looking: KubeLooking, name: str, container: str = "") -> Target:
    """A pod as it is now."""
    facts = next(pod for pod in await looking.pods(told_to_nobody) if pod.name == name)
    return Target(
        namespace=facts.namespace,
        pod=facts.name,
        pod_uid=facts.uid,
        container=container or facts.containers[0].name,
        labels=facts.labels,
    )


async def read(stream: ExecStream) -> tuple[bytes, Exited]:
    said = b""
    async with asyncio.timeout(30):
        while isinstance(event := await stream.next_event(), Output):
            said += event.data
    assert isinstance(event, Exited)
    return said, event


async def test_pods_are_listed_from_the_catalogue_where_it_is_fresh_and_else_asked_for(cluster: Cluster) -> None:
    told: list[str] = []
    async with all_closed(), api_by(cluster.bastion_kubeconfig) as api, kept_up(api) as catalog:

        async def ready() -> bool:
            return catalog.is_ready

        await eventually(ready)
        known = await KubeLooking(api, catalog, ()).pods(told.append)
        assert not told
        asked = await KubeLooking(api, unsynced(api), ()).pods(told.append)
        assert told == [OUT_OF_DATE]
        some = await KubeLooking(api, unsynced(api), ("prod", "nowhere", "default")).pods(told_to_nobody)

    names = [(pod.namespace, pod.name) for pod in known]
    assert names == sorted(names)
    assert names == [(pod.namespace, pod.name) for pod in asked]
    assert {("default", "web"), ("prod", "db"), ("shop", API)} <= set(names)
    assert {pod.namespace for pod in some} == {"default", "prod"}
    assert [(pod.namespace, pod.name) for pod in some] == [one for one in names if one[0] in {"default", "prod"}]


async def test_a_long_list_is_asked_for_page_by_page(looking: KubeLooking, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await looking.pods(told_to_nobody)
    monkeypatch.setattr("bastion.pods.pages.PAGE", 2)

    assert [pod.uid for pod in await looking.pods(told_to_nobody)] == [pod.uid for pod in whole]
    assert len(whole) > 4


async def test_a_list_whose_first_page_the_cluster_has_forgotten_is_asked_for_at_once(tmp_path: Path) -> None:
    asked: list[str] = []

    async def listed(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        if "continue" in request.query:  # what a real API server says: 410, reason Expired
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "The provided continue parameter…"}
            return web.json_response(gone, status=410)
        page = {"continue": "token"} if "limit" in request.query else {}
        items = [podobjects.pod("one")] if page else [podobjects.pod("one"), podobjects.pod("two")]
        return web.json_response({"metadata": {"resourceVersion": "1", **page}, "items": items})

    app = web.Application()
    app.router.add_get("/api/v1/pods", listed)
    async with TestServer(app) as server, api_by(kubeconfig_at(tmp_path, str(server.make_url("")))) as api:
        found = await KubeLooking(api, unsynced(api), ()).pods(told_to_nobody)

    assert [pod.name for pod in found] == ["one", "two"]
    assert len(asked) == 3


async def test_an_empty_list_may_come_without_items(tmp_path: Path) -> None:
    async def listed(_request: web.Request) -> web.Response:
        return web.json_response({"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": None})

    app = web.Application()
    app.router.add_get("/api/v1/pods", listed)
    async with TestServer(app) as server, api_by(kubeconfig_at(tmp_path, str(server.make_url("")))) as api:
        assert not await KubeLooking(api, unsynced(api), ()).pods(told_to_nobody)


async def test_a_pod_is_got_as_the_person(looking: KubeLooking) -> None:
    multi = await target(looking, "multi")

    pod = await looking.pod(multi, ENGINEER, told_to_nobody)
    assert pod["metadata"]["name"] == "multi"
    with pytest.raises(BastionError) as refused:
        await looking.pod(multi, NOBODY, told_to_nobody)
    assert refused.value.code is Code.CLUSTER_DENIED
    assert refused.value.user_message == (
        "the cluster's own RBAC does not let you get pods for pod multi in namespace default"
    )


@pytest.mark.parametrize("change", [{"pod_uid": "another"}, {"pod": "nope"}])
async def test_another_pod_of_that_name_is_not_the_one(looking: KubeLooking, change: dict[str, Any]) -> None:
    gone = replace(await target(looking, "web"), **change)

    with pytest.raises(BastionError) as got:
        await looking.pod(gone, ENGINEER, told_to_nobody)
    with pytest.raises(BastionError) as logged:
        async with looking.logs(gone, LogOptions(), ENGINEER, told_to_nobody):
            raise AssertionError("the log of another pod")

    assert got.value.code is logged.value.code is Code.TARGET_MISSING


@pytest.mark.parametrize("change", [{"labels": {"team": "another"}}, {"host_network": True}])
async def test_a_pod_that_is_not_any_more_what_the_policy_looked_at_is_not_looked_at(
    looking: KubeLooking, change: dict[str, Any]
) -> None:
    before = replace(await target(looking, "web"), **change)

    with pytest.raises(BastionError) as got:
        await looking.pod(before, ENGINEER, told_to_nobody)
    with pytest.raises(BastionError) as logged:
        async with looking.logs(before, LogOptions(), ENGINEER, told_to_nobody):
            raise AssertionError("the log of a pod that nobody decided about")

    for caught in (got, logged):
        assert caught.value.code is Code.TARGET_MISSING
        assert caught.value.user_message == "pod web in namespace default was changed meanwhile; ask again"


async def test_events_are_those_of_the_very_pod(looking: KubeLooking) -> None:
    web = await target(looking, "web")

    async def started() -> bool:
        found = await looking.events(web, ENGINEER, told_to_nobody)
        return "Started" in {event["reason"] for event in found}

    await eventually(started)
    found = await looking.events(web, ENGINEER, told_to_nobody)
    assert {event["involvedObject"]["uid"] for event in found} == {web.pod_uid}
    assert not await looking.events(replace(web, pod_uid="another"), ENGINEER, told_to_nobody)
    with pytest.raises(BastionError, match="cluster_denied"):
        await looking.events(web, NOBODY, told_to_nobody)


async def test_usage_is_measured(looking: KubeLooking) -> None:
    multi = await target(looking, "multi")

    usage = await looking.usage(multi, ENGINEER, told_to_nobody)
    assert usage is not None
    assert {one["name"] for one in usage["containers"]} == {"app", "sidecar"}
    with pytest.raises(BastionError, match="cluster_denied"):
        await looking.usage(multi, NOBODY, told_to_nobody)
    with pytest.raises(BastionError) as unmeasured:
        await looking.usage(replace(multi, pod="nope"), ENGINEER, told_to_nobody)
    assert unmeasured.value.code is Code.TARGET_NOT_RUNNING
    assert "nothing is measured yet of pod nope" in unmeasured.value.user_message


async def test_a_log_is_read_to_its_end(looking: KubeLooking) -> None:
    api = await target(looking, API)

    async def listening() -> bool:
        async with looking.logs(api, LogOptions(), ENGINEER, told_to_nobody) as stream:
            return (await read(stream))[0].startswith(b"listening\n")

    await eventually(listening)
    async with looking.logs(api, LogOptions(tail=1, timestamps=True, since_s=3600), ENGINEER, told_to_nobody) as stream:
        said, end = await read(stream)
    assert said.count(b"\n") == 1
    assert said.startswith(b"20")
    assert (end.status, end.outcome) == (0, Outcome.EXITED)


async def test_a_log_that_is_followed_waits_for_more(looking: KubeLooking) -> None:
    api = await target(looking, API)

    async with looking.logs(api, LogOptions(follow=True), ENGINEER, told_to_nobody) as stream:
        first = await stream.next_event()
        assert isinstance(first, Output)
        assert first.data.startswith(b"listening\n")
        waiting = asyncio.ensure_future(stream.next_event())
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done or isinstance(waiting.result(), Output)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_log_that_breaks_off_does_not_look_whole(cluster: Cluster, looking: KubeLooking) -> None:
    api = await target(looking, API)

    with capture_logs() as logs:
        async with looking.logs(api, LogOptions(follow=True), ENGINEER, told_to_nobody) as stream:
            await stream.next_event()
            await cluster.control({"do": "reset", "seconds": 0})
            _, end = await read(stream)

    why = "the API server may have been restarted: ask again"
    assert end == Exited(255, Outcome.BROKEN, f"the log broke off, though pod {API} is well; {why}")
    lost = [line for line in logs if line["event"] == "api.stream_lost"]
    assert [line["what"] for line in lost] == [f"GET /api/v1/namespaces/shop/pods/{API}/log"]
    assert "ClientPayloadError" not in end.message
    assert lost[0]["error"].startswith(f"127.0.0.1:{cluster.port}: ")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_opening_a_log_is_tried_again_and_said_like_any_other_question(cluster: Cluster, status: int) -> None:
    told: list[str] = []
    async with all_closed(), api_by(cluster.bastion_kubeconfig, retries(30)) as api:
        looking = KubeLooking(api, unsynced(api), ())
        web = await target(looking, "web")
        await cluster.control({"do": "fail", "times": 1, "status": status, "retry_after": 1, "match": "/log"})
        async with looking.logs(web, LogOptions(tail=0), ENGINEER, told.append) as stream:
            assert await read(stream) == (b"", WHOLE)

    assert told == ["waiting for the API server, retry 1 in 1 s"]


async def test_a_log_on_a_node_that_is_away_is_not_the_api_servers_fault(cluster: Cluster) -> None:
    told: list[str] = []
    async with all_closed(), api_by(cluster.bastion_kubeconfig, retries(30)) as api:
        looking = KubeLooking(api, unsynced(api), ())
        web = replace(await target(looking, "web"), node="local-node")
        await cluster.control({"do": "node", "up": False, "grace": 300})
        try:
            with pytest.raises(BastionError) as caught:
                async with looking.logs(web, LogOptions(), ENGINEER, told.append):
                    raise AssertionError("nobody can read it there")
        finally:
            await cluster.control({"do": "node", "up": True})

    assert caught.value.code is Code.CLUSTER_UNAVAILABLE
    assert caught.value.user_message == "the node of pod web (local-node) cannot be reached by the API server"
    assert "containerLogs" in caught.value.detail
    assert not told  # no other try would mend it


async def test_a_followed_log_whose_node_is_lost_says_so(cluster: Cluster, looking: KubeLooking) -> None:
    web = replace(await target(looking, API), node="local-node")

    async with looking.logs(web, LogOptions(follow=True), ENGINEER, told_to_nobody) as stream:
        await stream.next_event()
        await cluster.control({"do": "node", "up": False, "grace": 300})
        try:
            _, end = await read(stream)
        finally:
            await cluster.control({"do": "node", "up": True})

    said = f"the node of pod {API} (local-node) cannot be reached by the API server"
    assert end == Exited(255, Outcome.BROKEN, f"the log broke off; {said}")


async def test_a_quiet_log_that_is_followed_ends_once_its_node_is_taken_for_lost(
    cluster: Cluster, admin: Admin, looking: KubeLooking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bastion.pods.following.ASK_EVERY_S", 0.5)
    monkeypatch.setattr("bastion.pods.watchman.NODE_WITHIN_S", 0.5)
    await run(admin, "left", "echo begun; sleep infinity")
    left = replace(await target(looking, "left"), node="local-node")

    async with looking.logs(left, LogOptions(follow=True), ENGINEER, told_to_nobody) as stream:
        await stream.next_event()
        await cluster.control({"do": "node", "up": False, "hang": True, "grace": 1})
        try:
            _, end = await read(stream)
        finally:
            await cluster.control({"do": "node", "up": True})

    said = "the node of pod left (local-node) cannot be reached by the API server"
    assert end == Exited(255, Outcome.BROKEN, f"the log broke off; {said}")
    await admin.delete(f"{PODS}/left")
    await admin.until_gone(f"{PODS}/left")


@pytest.mark.parametrize("cause", ["connect: connection refused", "net/http: TLS handshake timeout"])
async def test_a_log_that_the_api_server_cannot_get_from_the_node_is_not_its_own_fault(
    tmp_path: Path, cause: str
) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        said = f'Get "https://10.0.0.7:10250/containerLogs/default/web/app": {cause}'
        return web.json_response({"kind": "Status", "message": said}, status=500)

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/default/pods/web/log", refuse)
    lost = Target(namespace="default", pod="web", pod_uid="1", container="app", node="worker-1")
    async with TestServer(app) as server, api_by(kubeconfig_at(tmp_path, str(server.make_url("")))) as api:
        with pytest.raises(BastionError) as caught:
            async with KubeLooking(api, unsynced(api), ()).logs(lost, LogOptions(), ENGINEER, told_to_nobody):
                raise AssertionError("nobody can read it there")

    assert caught.value.user_message == "the node of pod web (worker-1) cannot be reached by the API server"


async def test_what_the_bastion_itself_may_not_look_up_is_not_said_of_the_persons_rights(tmp_path: Path) -> None:
    async def log(_request: web.Request) -> web.Response:
        return web.Response(text="said\n")

    async def refused(_request: web.Request) -> web.Response:
        return web.json_response({"message": "pods is forbidden"}, status=403)

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/shop/pods/web/log", log)
    app.router.add_get("/api/v1/namespaces/shop/pods/web", refused)
    gone = Target(namespace="shop", pod="web", pod_uid="uid-web", container="app")
    async with TestServer(app) as server, api_by(kubeconfig_at(tmp_path, str(server.make_url("")))) as api:
        with pytest.raises(BastionError, match="the bastion itself may not look that up"):
            async with KubeLooking(api, unsynced(api), ()).logs(gone, LogOptions(), ENGINEER, told_to_nobody):
                raise AssertionError("nobody knows whose log it is")


async def test_a_pod_that_is_not_understood_is_said_to_be_so(tmp_path: Path) -> None:
    async def odd(_request: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "web"}, "items": [{"metadata": {}}]})

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/shop/pods/web", odd)
    app.router.add_get("/api/v1/pods", odd)
    of_shop = Target(namespace="shop", pod="web", pod_uid="uid-web", container="app")
    async with TestServer(app) as server, api_by(kubeconfig_at(tmp_path, str(server.make_url("")))) as api:
        looking = KubeLooking(api, unsynced(api), ())
        for asked in (looking.pod(of_shop, ENGINEER, told_to_nobody), looking.pods(told_to_nobody)):
            with pytest.raises(BastionError, match="its answer is not understood") as caught:
                await asked
            assert caught.value.code is Code.CLUSTER_UNAVAILABLE
            assert caught.value.detail == "its answer is no pod: KeyError('namespace')"


def through(proxy: FaultProxy, cluster: Cluster, folder: Path) -> Path:
    """The bastion's kubeconfig, its server at the proxy."""
    path = folder / "proxied.kubeconfig"
    there = cluster.bastion_kubeconfig.read_text()
    path.write_text(there.replace(f":{cluster.port}", f":{proxy.port}"))
    return path


async def run(admin: Admin, name: str, script: str) -> None:
    """Have a pod run a script that begins with `echo begun`; its log holds that once this returns."""
    await admin.make(PODS, pod(name, "sh", "-c", script, restartPolicy="Never"))

    async def begun() -> bool:
        return (await admin.ask("GET", f"{PODS}/{name}/log")).body.startswith(b"begun\n")

    await eventually(begun, within=30)
    await admin.until(f"{PODS}/{name}", is_running)


async def asked_after(cluster: Cluster, name: str, times: int) -> bool:
    """Whether the bastion has asked for a pod so often."""
    requests = (await cluster.control({"do": "asked"}))["requests"]
    paths = [one["path"] for one in requests if one["user"] == "system:serviceaccount:bastion:bastion"]
    return paths.count(f"{PODS}/{name}") >= times


def is_running(value: dict[str, Any]) -> bool:
    statuses = value["status"].get("containerStatuses") or [{"state": {}}]
    return "running" in statuses[0]["state"]


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Admin]:
    async with admin_of(cluster) as admin:
        yield admin


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("delete", "pod ends was deleted"),
        ("evict", "pod ends was evicted: The node was low on resource: memory."),
        ("oom", "container main was OOM-killed"),
        ("crash", "container main ended with status 137"),
    ],
)
async def test_a_followed_log_does_not_end_well_unless_its_container_does(
    cluster: Cluster, admin: Admin, looking: KubeLooking, cause: str, said: str
) -> None:
    await run(admin, "ends", "echo begun; sleep infinity")
    async with looking.logs(await target(looking, "ends"), LogOptions(follow=True), ENGINEER, told_to_nobody) as stream:
        assert await stream.next_event() == Output(Stream.STDOUT, b"begun\n")
        if cause == "delete":
            await admin.delete(f"{PODS}/ends")
        else:
            await cluster.control({"do": cause, "pod": "default/ends", "container": "main"})
        _, end = await read(stream)

    assert end == Exited(255, Outcome.BROKEN, said)
    if cause != "delete":
        await admin.delete(f"{PODS}/ends")
    await admin.until_gone(f"{PODS}/ends")


@pytest.mark.parametrize(
    ("status", "ending"), [(0, WHOLE), (3, Exited(255, Outcome.BROKEN, "container main ended with status 3"))]
)
async def test_a_followed_log_ends_as_its_container_does(
    admin: Admin, looking: KubeLooking, tmp_path: Path, status: int, ending: Exited
) -> None:
    go = tmp_path / "go"
    await run(admin, "done", f"echo begun; until [ -e {go} ]; do sleep 0.05; done; echo last; exit {status}")
    pod_done = await target(looking, "done")
    async with looking.logs(pod_done, LogOptions(follow=True), ENGINEER, told_to_nobody) as stream:
        assert await stream.next_event() == Output(Stream.STDOUT, b"begun\n")
        go.touch()
        assert await read(stream) == (b"last\n", ending)
    async with looking.logs(pod_done, LogOptions(follow=True), ENGINEER, told_to_nobody) as stream:
        assert await read(stream) == (b"begun\nlast\n", WHOLE)  # it was over before: nothing more was to come

    await admin.delete(f"{PODS}/done")
    await admin.until_gone(f"{PODS}/done")


async def test_a_quiet_log_goes_on_and_one_of_a_silent_api_server_ends(
    cluster: Cluster, admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("ASK_EVERY_S", 0.2), ("ASK_AGAIN_S", 0.2), ("ANSWER_WITHIN_S", 2.0)):
        monkeypatch.setattr(f"bastion.pods.following.{name}", seconds)
    go = tmp_path / "go"
    await run(admin, "quiet", f"echo begun; until [ -e {go} ]; do sleep 0.05; done; echo more; sleep infinity")
    with fault_proxy(("127.0.0.1", cluster.port)) as proxy:
        async with api_by(through(proxy, cluster, tmp_path)) as api:
            looking = KubeLooking(api, unsynced(api), ())
            async with looking.logs(
                await target(looking, "quiet"), LogOptions(follow=True), ENGINEER, told_to_nobody
            ) as stream:
                assert await stream.next_event() == Output(Stream.STDOUT, b"begun\n")
                waiting = asyncio.ensure_future(stream.next_event())
                await eventually(partial(asked_after, cluster, "quiet", 5), within=30)
                assert not waiting.done()
                go.touch()
                assert await waiting == Output(Stream.STDOUT, b"more\n")
                proxy.swallow(*Way)
                _, end = await read(stream)

    assert end == Exited(255, Outcome.BROKEN, f"the log broke off; {UNREACHABLE}")
    await admin.delete(f"{PODS}/quiet")
    await admin.until_gone(f"{PODS}/quiet")


async def test_a_silent_log_whose_container_is_gone_ends(
    cluster: Cluster, admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bastion.pods.following.ASK_EVERY_S", 0.5)
    monkeypatch.setattr("bastion.pods.following.GRACE_S", 0.5)
    await run(admin, "frozen", "echo begun; sleep infinity")
    with fault_proxy(("127.0.0.1", cluster.port)) as proxy:
        async with api_by(through(proxy, cluster, tmp_path)) as api:
            looking = KubeLooking(api, unsynced(api), ())
            async with looking.logs(
                await target(looking, "frozen"), LogOptions(follow=True), ENGINEER, told_to_nobody
            ) as stream:
                assert await stream.next_event() == Output(Stream.STDOUT, b"begun\n")
                proxy.swallow_newest(*Way)  # the log's own: the pod is asked for over the one of the list
                await cluster.control({"do": "evict", "pod": "default/frozen"})
                _, end = await read(stream)

    assert end == Exited(255, Outcome.BROKEN, "pod frozen was evicted: The node was low on resource: memory.")
    await admin.delete(f"{PODS}/frozen")
    await admin.until_gone(f"{PODS}/frozen")


async def test_what_was_never_run_has_no_earlier_log(looking: KubeLooking) -> None:
    web = await target(looking, "web")

    with pytest.raises(BastionError) as caught:
        async with looking.logs(web, LogOptions(previous=True), ENGINEER, told_to_nobody):
            raise AssertionError("there was no run before")

    assert caught.value.code is Code.TARGET_NOT_RUNNING
    assert caught.value.user_message == 'previous terminated container "web" in pod "web" not found'


async def test_rbac_has_the_last_word_on_logs(looking: KubeLooking) -> None:
    with pytest.raises(BastionError) as caught:
        async with looking.logs(await target(looking, "web"), LogOptions(), NOBODY, told_to_nobody):
            raise AssertionError("nobody may read logs")

    assert caught.value.code is Code.CLUSTER_DENIED
    assert "does not let you get pods/log for pod web" in caught.value.user_message


async def test_a_cluster_without_metrics_has_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_cluster_sync(tmp_path_factory.mktemp("nometrics"), "--no-metrics") as running:
        async with all_closed(), api_by(running.bastion_kubeconfig) as api:
            looking = KubeLooking(api, unsynced(api), ())
            web = await target(looking, "web")
            assert await looking.usage(web, NOBODY, told_to_nobody) is None
