"""The catalogue keeps up with a cluster, whatever becomes of its watches."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bastion.podfacts import pod_facts
from bastion.pods import listwatch
from bastion.pods.listwatch import Freshness
from support.apis import api_by
from support.catalogs import connected_to, holds, keeping_up
from support.cluster import running_cluster
from support.listserver import ABORT, END, ListServer, list_server
from support.podobjects import pod, workload
from support.records import SettableClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bastion.podfacts import PodFacts
    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog

KINDS = 6
"""How many kinds of objects a catalogue keeps up with."""


@pytest.fixture
async def server() -> AsyncIterator[ListServer]:
    async with list_server() as running:
        yield running


@pytest.fixture
async def way(server: ListServer, tmp_path: Path) -> AsyncIterator[Api]:
    async with connected_to(server.url, tmp_path) as api:
        yield api


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be waited for before another try is not."""
    monkeypatch.setattr(listwatch, "pause_s", lambda *_: 0.01)
    monkeypatch.setattr(listwatch, "CALM_S", 0.01)


def names(catalog: Catalog, namespace: str | None = None) -> list[str]:
    return sorted(one.name for one in catalog.pods(namespace))


async def watched(server: ListServer, watches: int = KINDS) -> None:
    """Once so many watches are open."""
    await holds(lambda: len(server.watches) == watches)


# --- what is known -----------------------------------------------------------


async def test_everything_is_listed_in_pages(server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listwatch, "PAGE", 3)
    monkeypatch.setattr(listwatch, "TURN", 2)
    for number in range(10):
        server.put("pods", pod(f"p{number}", namespace="shop" if number % 2 else "prod"))

    async with keeping_up(way) as catalog:
        assert server.lists.count("/api/v1/pods") == 4
        assert names(catalog) == [f"p{number}" for number in range(10)]
        assert names(catalog, "shop") == ["p1", "p3", "p5", "p7", "p9"]
        assert catalog.namespaces == ["prod", "shop"]
        assert names(catalog, "nope") == []
        assert (catalog.is_ready, catalog.is_fresh, catalog.stale_s) == (True, True, 0.0)


async def test_the_pods_of_a_workload_are_found_by_who_owns_them(server: ListServer, way: Api) -> None:
    server.put("deployments", workload("api", "d1"))
    server.put("replicasets", workload("api-1", "rs1", owner="d1", creationTimestamp="2026-01-01T00:00:00Z"))
    server.put("replicasets", workload("api-2", "rs2", owner="d1", creationTimestamp="2026-01-02T00:00:00Z"))
    server.put("replicasets", workload("other-1", "rs3", owner="d2"))
    server.put("statefulsets", workload("db", "s1"))
    for name, owner in (("old", "rs1"), ("new", "rs2"), ("stranger", "rs3"), ("db-0", "s1"), ("alone", "")):
        server.put("pods", pod(name, owner=owner))

    async with keeping_up(way) as catalog:
        deployment, stateful = catalog.workload("deploy", "shop", "api"), catalog.workload("sts", "shop", "db")
        assert deployment is not None
        assert stateful is not None
        assert [[one.name for one in pods] for pods in catalog.generations(deployment)] == [["new"], ["old"]]
        assert [one.name for one in catalog.pods_of(deployment)] == ["new", "old"]
        assert [one.name for one in catalog.pods_of(stateful)] == ["db-0"]
        assert catalog.workload("deploy", "shop", "db") is None
        assert catalog.workload("deploy", "prod", "api") is None


async def test_a_few_namespaces_are_asked_for_each_by_itself_and_nothing_else_is(server: ListServer, way: Api) -> None:
    for namespace in ("shop", "prod", "secret"):
        server.put("pods", pod(f"in-{namespace}", namespace=namespace))

    async with keeping_up(way, "shop", "prod") as catalog:
        await watched(server, 2 * KINDS)
        server.put("pods", pod("late", namespace="secret"))
        server.put("pods", pod("later", namespace="prod"))
        await holds(lambda: catalog.pod("prod", "later") is not None)

        assert names(catalog) == ["in-prod", "in-shop", "later"]
        assert all("/namespaces/shop/" in path or "/namespaces/prod/" in path for path in server.lists)
        assert (catalog.covers("shop"), catalog.covers("secret")) == (True, False)
        assert catalog.freshness("pod", "shop") is Freshness.FRESH
        assert catalog.freshness("pod", "secret") is Freshness.UNKNOWN


# --- what changes ------------------------------------------------------------


async def test_who_follows_a_pod_is_told_what_it_is_and_what_becomes_of_it(server: ListServer, way: Api) -> None:
    server.put("pods", pod("web"))
    seen: list[PodFacts | None] = []
    others: list[PodFacts | None] = []

    async with keeping_up(way) as catalog:
        await watched(server)
        leave = catalog.follow("shop", "web", seen.append)
        catalog.follow("shop", "web2", others.append)
        server.put("pods", pod("web", ready=False))
        server.put("pods", pod("other"))
        server.remove("pods", "web")
        await holds(lambda: len(seen) == 3)
        leave()
        server.put("pods", pod("web"))
        await holds(lambda: catalog.pod("shop", "web") is not None)

    assert [one and one.ready for one in seen] == [True, False, None]
    assert others == [None]


async def test_a_change_between_the_list_and_the_watch_is_not_lost(server: ListServer, way: Api) -> None:
    server.put("pods", pod("web"))

    def change_at_once(plural: str) -> None:
        if plural == "pods" and ("shop", "web") in server.objects["pods"]:
            server.remove("pods", "web")
            server.put("pods", pod("new"))

    server.listed = change_at_once
    async with keeping_up(way) as catalog:
        await holds(lambda: names(catalog) == ["new"])


async def test_waiting_for_a_change_ends_with_one(server: ListServer, way: Api) -> None:
    async with keeping_up(way) as catalog:
        await watched(server)
        server.put("deployments", workload("api", "d1"))
        while catalog.workload("deploy", "shop", "api") is None:
            await catalog.wait_changed()
        server.put("pods", pod("web"))
        while catalog.pod("shop", "web") is None:
            await catalog.wait_changed()


# --- what goes wrong ---------------------------------------------------------


async def test_a_broken_watch_goes_on_where_it_was(server: ListServer, way: Api) -> None:
    server.put("pods", pod("web"))
    async with keeping_up(way) as catalog:
        await watched(server)
        server.put("pods", pod("second"))
        await holds(lambda: catalog.pod("shop", "second") is not None)
        version = server.version
        server.send(ABORT, "pods")
        await holds(lambda: not catalog.is_fresh)

        assert catalog.freshness("pod", "shop") is Freshness.BEHIND
        assert catalog.freshness("deploy", "shop") is Freshness.FRESH
        assert catalog.stale_s > 0
        assert catalog.is_ready
        assert names(catalog) == ["second", "web"]
        server.put("pods", pod("meanwhile"))
        await holds(lambda: catalog.is_fresh and catalog.pod("shop", "meanwhile") is not None)
        assert server.watched[-1] == ("pods", str(version))
        assert server.lists.count("/api/v1/pods") == 1
        assert catalog.stale_s == 0.0


async def test_a_watch_that_ends_in_order_is_no_failure(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "SHORT_S", 0.0)
    async with keeping_up(way) as catalog:
        await watched(server)
        with capture_logs() as logs:
            server.send(END)
            await holds(lambda: len(server.watched) == 2 * KINDS)
            server.put("pods", pod("web"))
            await holds(lambda: catalog.pod("shop", "web") is not None)
        assert logs == []
        assert len(server.lists) == KINDS


async def test_a_watch_that_always_ends_at_once_counts_as_none(server: ListServer, way: Api) -> None:
    server.ends_at_once = True
    async with keeping_up(way) as catalog:
        await holds(lambda: catalog.freshness("pod", "shop") is Freshness.BEHIND)


@pytest.mark.usefixtures("hurried")
async def test_a_bookmark_advances_the_version(server: ListServer, way: Api) -> None:
    async with keeping_up(way) as catalog:
        await watched(server)
        server.bookmark()
        version = server.version
        server.send(ABORT)
        await holds(lambda: len(server.watched) >= 2 * KINDS)
        await watched(server)
        assert {asked for _, asked in server.watched[KINDS:]} == {str(version)}
        assert catalog.is_ready


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("by_http", [False, True])
async def test_a_version_that_is_too_old_is_mended_by_another_list(
    server: ListServer, way: Api, *, by_http: bool
) -> None:
    server.gone_by_http = by_http
    for name in ("stays", "goes", "changes"):
        server.put("pods", pod(name))
    seen: dict[str, list[PodFacts | None]] = {"stays": [], "goes": [], "changes": []}
    async with keeping_up(way) as catalog:
        await watched(server)
        for name, told in seen.items():
            catalog.follow("shop", name, told.append)
        server.send(ABORT, "pods")  # before what follows, which its watch is not told
        server.watches.clear()
        server.remove("pods", "goes")
        server.put("pods", pod("changes", phase="Failed"))
        server.put("pods", pod("comes"))
        server.forget()
        await holds(lambda: catalog.is_fresh and names(catalog) == ["changes", "comes", "stays"])

    assert [one and one.phase for one in seen["stays"]] == ["Running"]
    assert [one and one.phase for one in seen["goes"]] == ["Running", None]
    assert [one and one.phase for one in seen["changes"]] == ["Running", "Failed"]


async def test_a_watch_without_even_bookmarks_is_taken_for_dead(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "SILENCE_S", 0.05)
    monkeypatch.setattr(listwatch, "SHORT_S", 0.01)
    async with keeping_up(way) as catalog:
        await holds(lambda: len(server.watched) >= 3 * KINDS)
        server.put("pods", pod("web"))
        await holds(lambda: catalog.pod("shop", "web") is not None)
        assert len(server.lists) == KINDS


@pytest.mark.usefixtures("hurried")
async def test_everything_is_listed_again_now_and_then(server: ListServer, way: Api) -> None:
    clock = SettableClock()
    server.put("pods", pod("web"))
    async with keeping_up(way, clock=clock) as catalog:
        await watched(server)
        server.objects["pods"].clear()  # without a word: it was missed
        clock.at += timedelta(seconds=2 * listwatch.RESYNC_S)
        server.send(END, "pods")
        await holds(lambda: names(catalog) == [])


async def test_where_the_cluster_says_no_it_is_told_once_and_asked_again(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "DENIED_S", 0.02)
    server.refused["jobs"] = 403
    server.put("pods", pod("web"))
    server.put("jobs", workload("nightly", "j1"))
    with capture_logs() as logs:
        async with keeping_up(way) as catalog:
            await watched(server, KINDS - 1)
            assert (catalog.is_ready, catalog.is_fresh, catalog.stale_s) == (True, False, 0.0)
            assert catalog.freshness("job", "shop") is Freshness.UNKNOWN
            assert catalog.freshness("pod", "shop") is Freshness.FRESH
            del server.refused["jobs"]
            await holds(lambda: catalog.is_fresh)
            assert catalog.workload("job", "shop", "nightly") is not None

    told = [line for line in logs if line["event"] == "catalog.denied"]
    assert [line["kind"] for line in told] == ["jobs"]
    assert "kubernetes.namespaces" in told[0]["todo"]
    assert "doctor --rbac" in told[0]["todo"]
    assert [line["event"] for line in logs if line["kind"] == "jobs"] == ["catalog.denied", "catalog.caught_up"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.usefixtures("hurried")
async def test_what_may_be_listed_but_not_watched_is_not_relied_on(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "DENIED_S", 0.02)
    server.unwatchable.add("pods")
    server.put("pods", pod("web"))
    with capture_logs() as logs:
        async with keeping_up(way) as catalog:
            await holds(lambda: server.watched.count(("pods", "")) >= 3)
            assert catalog.freshness("pod", "shop") is Freshness.UNKNOWN
            server.unwatchable.clear()
            await holds(lambda: catalog.is_fresh)

    assert [line["event"] for line in logs if line["kind"] == "pods"] == ["catalog.denied", "catalog.caught_up"]


@pytest.mark.usefixtures("hurried")
async def test_an_object_with_a_surprise_in_it_is_not_known_and_everything_else_is(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "PAGE", 2)
    odd = {"containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": "137x"}}}]}
    for name in ("a", "changes", "odd", "z"):
        server.put("pods", pod(name) | ({"status": odd} if name == "odd" else {}))
    with capture_logs() as logs:
        async with keeping_up(way) as catalog:
            await watched(server)
            assert names(catalog) == ["a", "changes", "z"]
            assert catalog.is_fresh
            followed: list[PodFacts | None] = []
            catalog.follow("shop", "changes", followed.append)

            server.put("pods", pod("changes") | {"status": odd})
            server.put("pods", pod("odd") | {"status": odd})
            server.put("pods", pod("late"))
            await holds(lambda: names(catalog) == ["a", "late", "z"])
            server.forget()  # so that it is all listed again
            server.send(ABORT, "pods")
            await holds(lambda: server.lists.count("/api/v1/pods") > 3 and catalog.is_fresh)
            assert names(catalog) == ["a", "late", "z"]
            server.put("pods", pod("changes"))
            server.put("pods", pod("odd"))
            await holds(lambda: names(catalog) == ["a", "changes", "late", "odd", "z"])

    assert [one and one.name for one in followed] == ["changes", None, "changes"]
    told = [line for line in logs if line["event"] == "catalog.not_understood"]
    assert [line["object"] for line in told] == ["shop/odd", "shop/changes"]
    assert "137x" in told[0]["error"]


async def test_an_object_is_told_of_again_when_another_of_its_name_is_not_understood(
    server: ListServer, way: Api
) -> None:
    async with keeping_up(way) as catalog:
        await watched(server)
        with capture_logs() as logs:
            for after in ("first", "second"):
                server.put("pods", pod("odd") | {"spec": [1]})
                server.remove("pods", "odd")
                server.put("pods", pod(after))
                await holds(lambda name=after: catalog.pod("shop", name) is not None)  # type: ignore[misc] # mypy infers no lambda with a default
        assert [line["event"] for line in logs] == ["catalog.not_understood"] * 2
        assert names(catalog) == ["first", "second"]


async def test_a_server_that_is_busy_is_left_alone_for_as_long_as_it_wishes(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes: list[float | None] = []

    def at_once(_tried: int, _chance: float, wish: float | None) -> float:
        wishes.append(wish)
        return 0.01

    monkeypatch.setattr(listwatch, "pause_s", at_once)
    async with keeping_up(way) as catalog:
        await watched(server)
        server.refused["pods"], server.retry_after = 429, "7"
        server.send(ABORT, "pods")
        await holds(lambda: len(wishes) > listwatch.RELIST_AFTER)
        server.refused.clear()
        await holds(lambda: catalog.is_fresh)

    assert wishes[:4] == [None, 7.0, 7.0, 7.0]  # the broken watch, two that were refused, and a list


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"type":"ADDED","object":{}}\n',
        b'{"type":"ADDED","object":null}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":"x"}}}\n',
        b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"boom"}}\n',
        b'{"type":"ERROR","object":{}}\n',
        b'{"type":"BOOKMARK","object":{"metadata":{}}}\n',
        b"\xff\xfe\n",
    ],
)
async def test_an_event_that_is_not_understood_ends_the_watch_and_nothing_else(
    server: ListServer, way: Api, line: bytes
) -> None:
    server.put("pods", pod("web"))
    async with keeping_up(way) as catalog:
        await watched(server)
        with capture_logs() as logs:
            server.send(line, "pods")
            await holds(lambda: len(server.watched) > KINDS)
            server.put("pods", pod("late"))
            await holds(lambda: catalog.pod("shop", "late") is not None and catalog.is_fresh)
        assert [one["event"] for one in logs] == ["catalog.behind", "catalog.caught_up"]


async def test_an_event_larger_than_a_line_of_http_may_be_is_taken(server: ListServer, way: Api) -> None:
    async with keeping_up(way) as catalog:
        await watched(server)
        server.put("pods", pod("huge", metadata={"annotations": {"notes": "x" * 1_500_000}}))
        await holds(lambda: catalog.pod("shop", "huge") is not None)
        assert len(server.watched) == KINDS


@pytest.mark.usefixtures("hurried")
async def test_an_api_server_that_is_away_and_comes_back_costs_nothing_that_was_known(
    server: ListServer, way: Api
) -> None:
    server.put("pods", pod("web"))
    async with keeping_up(way) as catalog:
        await watched(server)
        seen: list[PodFacts | None] = []
        catalog.follow("shop", "web", seen.append)
        with capture_logs() as logs:
            server.refused.update(dict.fromkeys(("pods", "jobs"), 503))
            server.send(ABORT)
            await holds(lambda: catalog.freshness("pod", "shop") is Freshness.BEHIND)
            server.put("pods", pod("new"))
            server.refused.clear()
            await holds(lambda: catalog.is_fresh and catalog.pod("shop", "new") is not None)
        assert [line["event"] for line in logs if line.get("kind") == "pods"] == ["catalog.behind", "catalog.caught_up"]
        assert len(seen) == 1


@pytest.mark.usefixtures("hurried")
@pytest.mark.fuzz
async def test_whatever_happens_it_has_in_the_end_what_the_server_has(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "PAGE", 3)
    chance = random.Random(4)  # noqa: S311 - the same every time
    async with keeping_up(way) as catalog:
        for _ in range(1000):
            await asyncio.sleep(chance.random() / 1000)
            name, owner = f"p{chance.randrange(12)}", chance.choice(("", "rs1", "rs2"))
            match chance.randrange(12):
                case 0:
                    server.send(chance.choice((ABORT, END)))
                case 1:
                    server.forget()
                case 2:
                    server.bookmark()
                case 3:
                    await holds(lambda: catalog.is_fresh)
                case 4 | 5 | 6 if ("shop", name) in server.objects.get("pods", {}):
                    server.remove("pods", name)
                case _:
                    server.put("pods", pod(name, owner=owner, ready=chance.random() < 0.5))
        expected = {key: pod_facts(item) for key, item in server.objects["pods"].items()}
        await holds(lambda: {(one.namespace, one.name): one for one in catalog.pods()} == expected)
        for owner in ("rs1", "rs2"):
            replica_set: dict[str, Any] = workload("x", owner)
            server.put("statefulsets", replica_set | {"metadata": replica_set["metadata"] | {"name": owner}})
            while (found := catalog.workload("sts", "shop", owner)) is None:
                await catalog.wait_changed()
            owned = [one for one in expected.values() if one.owner is not None and one.owner.uid == owner]
            assert sorted(one.name for one in catalog.pods_of(found)) == sorted(one.name for one in owned)


@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line)), st.lists(st.integers(1, 9)))
def test_lines_are_what_they_are_however_they_come(lines: list[bytes], cuts: list[int]) -> None:
    async def read() -> list[bytes]:
        protocol = BaseProtocol(asyncio.get_running_loop())
        protocol.connection_made(asyncio.Transport())
        body = aiohttp.StreamReader(protocol, 2**16)
        reading = asyncio.create_task(_collected(body))
        rest = b"\n".join(lines)
        for cut in cuts:
            body.feed_data(rest[:cut])
            rest = rest[cut:]
            await asyncio.sleep(0)
        body.feed_data(rest + b"\n")
        body.feed_eof()
        return await reading

    assert asyncio.run(read()) == [line for line in lines if line]


async def _collected(body: aiohttp.StreamReader) -> list[bytes]:
    return [line async for line in listwatch._lines(body)]


# --- the embedded cluster ----------------------------------------------------


async def test_it_keeps_up_with_the_embedded_cluster_as_the_bastions_own_account(tmp_path: Path) -> None:
    async with (
        running_cluster(tmp_path) as cluster,
        api_by(cluster.bastion_kubeconfig) as way,
        keeping_up(way) as catalog,
    ):
        assert catalog.is_fresh
        assert {"web", "multi", "distroless"} <= set(names(catalog, "default"))
        deployment = catalog.workload("deploy", "shop", "api")
        assert deployment is not None
        await holds(lambda: [one.ready for one in catalog.pods_of(deployment)] == [True, True])
        assert deployment.replicas == 2
