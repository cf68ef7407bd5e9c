"""From a login to a container: from the catalogue, and asked of an API server that has what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bastion import login
from bastion.errors import BastionError, Code
from bastion.model import TargetLogin
from bastion.pods import listwatch, lookup, resolve
from bastion.pods.listwatch import Freshness
from bastion.pods.resolve import Resolver
from support.apis import told_to_nobody, unsynced
from support.catalogs import connected_to, holds, keeping_up, sees_all, sees_team
from support.listserver import END, ListServer, list_server
from support.podobjects import RUNNING, pod, template, terminated, waiting, workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bastion.model import Resolved, Target
    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog
    from bastion.ports import Asks

STARTING: dict[str, Any] = {"phase": "Pending", "ready": False, "containers": {"app": waiting("ContainerCreating")}}
WAYS = ("known", "asked")


@pytest.fixture
async def server() -> AsyncIterator[ListServer]:
    async with list_server() as running:
        running.objects["namespaces"] = {("", "shop"): {"metadata": {"name": "shop"}}}
        yield running


@pytest.fixture
async def way(server: ListServer, tmp_path: Path) -> AsyncIterator[Api]:
    async with connected_to(server.url, tmp_path) as api:
        yield api


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be waited for before another look is not."""
    monkeypatch.setattr(resolve, "POLL_S", 0.02)
    monkeypatch.setattr(listwatch, "CALM_S", 0.02)


@asynccontextmanager
async def catalogue(way: Api, how: str) -> AsyncIterator[Catalog]:
    """One that keeps up ("known"), or one that never began, so that everything is asked for ("asked")."""
    if how == "asked":
        yield unsynced(way)
        return
    async with keeping_up(way) as catalog:
        yield catalog


def target(text: str) -> TargetLogin:
    where = login.parse(text)
    assert isinstance(where, TargetLogin)
    return where


async def resolved(way: Api, how: str, text: str, *, person: str = "alice", sees: Asks = sees_all) -> Resolved:
    async with catalogue(way, how) as catalog:
        return await Resolver(way, catalog).resolve(
            target(text), person=person, sees=sees, enters=sees_all, tell=told_to_nobody
        )


async def refused(way: Api, how: str, text: str, *, sees: Asks = sees_all) -> BastionError:
    with pytest.raises(BastionError) as caught:
        await resolved(way, how, text, sees=sees)
    return caught.value


def put_deployment(server: ListServer) -> None:
    """Deployment api with an old and a new ReplicaSet, and a ReplicaSet of somebody else."""
    revised: list[dict[str, Any]] = [
        {"annotations": {"deployment.kubernetes.io/revision": str(number)}} for number in (1, 2)
    ]
    server.put("deployments", workload("api", "d1"))
    server.put("replicasets", workload("api-1", "rs1", owner="d1", **revised[0]))
    server.put("replicasets", workload("api-2", "rs2", owner="d1", **revised[1]))
    server.put("replicasets", workload("other", "rs3", owner="d2"))


# --- what a name stands for --------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
async def test_a_pod_is_found_by_its_name_with_what_pins_it(server: ListServer, way: Api, how: str) -> None:
    server.put("pods", pod("web", metadata={"labels": {"team": "shop"}}))

    found = await resolved(way, how, "web.shop")

    assert (found.target.pod, found.target.pod_uid, found.target.container) == ("web", "uid-web", "app")
    assert (found.target.namespace, found.target.labels, found.target.node) == ("shop", {"team": "shop"}, "node-1")
    assert (found.chosen_from, found.stale) == ("", False)


@pytest.mark.parametrize("how", WAYS)
async def test_a_pods_name_wins_over_a_workloads(server: ListServer, way: Api, how: str) -> None:
    put_deployment(server)
    server.put("pods", pod("api-2-a", owner="rs2"))
    server.put("pods", pod("api"))

    assert (await resolved(way, how, "api.shop")).target.pod == "api"
    assert (await resolved(way, how, "deploy_api.shop")).target.pod == "api-2-a"


@pytest.mark.parametrize("how", WAYS)
async def test_of_a_deployment_a_ready_pod_of_the_newest_replica_set_is_chosen(
    server: ListServer, way: Api, how: str
) -> None:
    put_deployment(server)
    for name, owner, ready in (
        ("api-1-a", "rs1", True),
        ("api-2-a", "rs2", False),
        ("api-2-b", "rs2", True),
        ("other-a", "rs3", True),  # has the labels, but belongs to something else
        ("alone", "", True),
    ):
        server.put("pods", pod(name, owner=owner, ready=ready))

    for person in ("alice", "bob", "carol"):
        found = await resolved(way, how, "api.shop", person=person)
        assert (found.target.pod, found.chosen_from) == ("api-2-b", "deploy/api")


@pytest.mark.parametrize("how", WAYS)
async def test_the_same_person_is_led_to_the_same_pod_while_it_lives(server: ListServer, way: Api, how: str) -> None:
    put_deployment(server)
    for number in range(4):
        server.put("pods", pod(f"api-2-{number}", owner="rs2"))

    first = (await resolved(way, how, "api.shop")).target.pod
    others = {(await resolved(way, how, "api.shop", person=f"person-{number}")).target.pod for number in range(12)}
    server.remove("pods", next(name for name in ("api-2-0", "api-2-1") if name != first))

    assert (await resolved(way, how, "api.shop")).target.pod == first
    assert len(others) > 1


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("kind", "plural"), [("sts", "statefulsets"), ("ds", "daemonsets"), ("job", "jobs")])
async def test_other_workloads_own_their_pods_themselves(
    server: ListServer, way: Api, how: str, kind: str, plural: str
) -> None:
    server.put(plural, workload("api", "w1"))
    server.put("pods", pod("api-0", owner="w1"))
    server.put("pods", pod("api-1", owner="w2"))

    found = await resolved(way, how, f"{kind}_api.shop")

    assert (found.target.pod, found.chosen_from) == ("api-0", "")
    assert (await resolved(way, how, "api.shop")).target.pod == "api-0"


@pytest.mark.parametrize("how", WAYS)
async def test_a_stateful_sets_pod_is_found_by_its_number(server: ListServer, way: Api, how: str) -> None:
    server.put("statefulsets", workload("db", "s1"))
    for name, owner in (("db-0", "s1"), ("db-1", "s1"), ("db-10", "s1"), ("db-2", "")):
        server.put("pods", pod(name, owner=owner))

    assert (await resolved(way, how, "sts_db-1.shop")).target.pod == "db-1"
    assert (await resolved(way, how, "db-2.shop")).target.pod == "db-2"
    absent = await refused(way, how, "sts_db-2.shop")
    assert absent.code is Code.TARGET_MISSING
    assert absent.user_message == "sts/db has no pod db-2 now; its pods: db-0, db-1, db-10"
    for nothing in ("sts_nope-1.shop", "sts_db-01.shop", "sts_db-x.shop", "ds_db-1.shop"):
        assert (await refused(way, how, nothing)).code is Code.TARGET_MISSING


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("web.shop", Code.TARGET_MISSING, "there is no pod or workload web in namespace shop"),
        ("web.nope", Code.TARGET_MISSING, "there is no namespace nope; a login is POD.NAMESPACE"),
        ("sts_web.shop", Code.TARGET_MISSING, "there is no sts/web in namespace shop"),
        ("api.shop", Code.TARGET_AMBIGUOUS, "api is the name of several workloads; say deploy_api.shop, sts_api.shop"),
        ("one.shop+x", Code.TARGET_MISSING, "one has no container x, or your roles do not reach it; it has app"),
        ("done.shop", Code.TARGET_NOT_RUNNING, "current phase is Succeeded"),
        ("leaving.shop", Code.TARGET_NOT_RUNNING, "pod leaving is Terminating"),
        (
            "job_api.shop",
            Code.TARGET_NOT_RUNNING,
            "no pod of job/api can be entered (it has 1): pod job-a: cannot exec",
        ),
    ],
)
async def test_what_cannot_be_resolved_says_why(  # noqa: PLR0913, PLR0917 - a table
    server: ListServer, way: Api, how: str, text: str, code: Code, says: str
) -> None:
    server.put("pods", pod("one"))
    server.put("pods", pod("done", phase="Succeeded", ready=False))
    server.put("pods", pod("leaving", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
    server.put("pods", pod("job-a", owner="j1", phase="Failed", containers={"app": terminated("Error", 2)}))
    for plural, uid in (("deployments", "d1"), ("statefulsets", "s1")):
        server.put(plural, workload("api", uid))
    if text.startswith("job"):
        server.put("jobs", workload("api", "j1"))

    error = await refused(way, how, text)

    assert error.code is code
    assert says in error.user_message


@pytest.mark.parametrize("how", WAYS)
async def test_what_is_looked_at_need_not_run(server: ListServer, way: Api, how: str) -> None:
    put_deployment(server)
    server.put("pods", pod("done", phase="Failed", ready=False, containers={"app": terminated("Error", 1)}))
    server.put("pods", pod("api-2-a", owner="rs2", **STARTING))

    async with catalogue(way, how) as catalog:
        resolver = Resolver(way, catalog)

        async def found(text: str) -> tuple[str, str]:
            at = (
                await resolver.resolve(target(text), person="alice", sees=sees_all, enters=None, tell=told_to_nobody)
            ).target
            return at.pod, at.container

        assert await found("done.shop") == ("done", "app")
        assert await found("api.shop") == ("api-2-a", "app")
        for nothing in ("nope.shop", "done.shop+x", "api.shop+x"):
            with pytest.raises(BastionError) as caught:
                await found(nothing)
            assert caught.value.code is Code.TARGET_MISSING


# --- what a person does not see ----------------------------------------------

OURS = sees_team("ours")
TEAM: dict[str, Any] = {"labels": {"app": "api", "team": "ours"}}
CRASHED = waiting("CrashLoopBackOff", "back-off restarting failed container=secret")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("text", ["vault.shop", "vault.shop+secret", "vault.shop+x"])
@pytest.mark.parametrize(
    "vault",
    [
        {"containers": {"secret": RUNNING}},
        {"containers": {"secret": CRASHED}, "ready": False},
        {"containers": {"secret": waiting("ContainerCreating")}, "phase": "Pending", "ready": False},
        {"containers": {"secret": RUNNING}, "phase": "Failed", "ready": False},
    ],
)
async def test_a_pod_that_a_person_does_not_see_is_as_one_that_is_not_there(
    server: ListServer, way: Api, how: str, text: str, vault: dict[str, Any]
) -> None:
    absent = await refused(way, how, text, sees=OURS)
    server.put("pods", pod("vault", metadata={"labels": {"team": "sec"}}, **vault))

    withheld = await refused(way, how, text, sees=OURS)

    assert (withheld.code, withheld.user_message) == (absent.code, absent.user_message)
    assert withheld.user_message == "there is no pod or workload vault in namespace shop, or your roles do not reach it"
    assert (absent.detail, withheld.detail) == (
        "it is not there",
        "it is there, but no role of this person's reaches it",
    )


@pytest.mark.parametrize("how", WAYS)
async def test_a_workload_is_not_there_if_it_has_pods_and_none_is_seen(server: ListServer, way: Api, how: str) -> None:
    put_deployment(server)
    server.put("statefulsets", workload("db", "s1"))
    server.put("pods", pod("api-2-a", owner="rs2", **STARTING))
    server.put("pods", pod("db-0", owner="s1"))

    for text, what in (
        ("api.shop", "pod or workload api"),
        ("deploy_api.shop", "deploy/api"),
        ("sts_db-0.shop", "sts/db-0"),
        ("sts_db-7.shop", "sts/db-7"),
    ):
        error = await refused(way, how, text, sees=OURS)
        assert error.code is Code.TARGET_MISSING
        assert error.user_message == f"there is no {what} in namespace shop, or your roles do not reach it"
        assert error.detail == "it is there, but no role of this person's reaches it"


OURS_BUT_VAULT = sees_team("ours", "app", "setup")
HIDDEN_TEMPLATES: dict[str, dict[str, Any]] = {
    "labels": template(labels={"team": "sec"}),
    "containers": template(labels={"team": "ours"}, containers=["vault"]),
    "network": template(labels={"team": "ours"}, hostNetwork=True),
    "none": {},
}


def sees_some(target: Target) -> bool:
    return OURS_BUT_VAULT(target) and not target.host_network


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("hidden", HIDDEN_TEMPLATES)
@pytest.mark.parametrize("replicas", [0, 2])
async def test_a_workload_without_pods_is_not_there_if_a_pod_of_it_would_not_be_seen(
    server: ListServer, way: Api, how: str, hidden: str, replicas: int
) -> None:
    for plural, name, uid in (("deployments", "api", "d1"), ("statefulsets", "db", "s1"), ("jobs", "once", "j1")):
        item = workload(name, uid, replicas=replicas, makes=HIDDEN_TEMPLATES[hidden])
        if hidden == "none":
            del item["spec"]["template"]
        server.put(plural, item)

    for text, what in (
        ("api.shop", "pod or workload api"),
        ("deploy_api.shop", "deploy/api"),
        ("deploy_api.shop+vault", "deploy/api"),
        ("sts_db-0.shop", "sts/db-0"),
        ("job_once.shop", "job/once"),
    ):
        error = await refused(way, how, text, sees=sees_some)
        assert error.code is Code.TARGET_MISSING
        assert error.user_message == f"there is no {what} in namespace shop, or your roles do not reach it"
        assert error.detail == "it is there, but no role of this person's reaches it"


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "seen",
    [
        template(labels={"team": "ours"}, containers=["app", "vault"]),
        template(labels={"team": "ours"}, containers=["vault"], init=["setup"]),
    ],
)
async def test_a_workload_without_pods_is_told_of_to_who_would_see_one_of_a_pods_containers(
    server: ListServer, way: Api, how: str, seen: dict[str, Any]
) -> None:
    server.put("deployments", workload("api", "d1", replicas=0, makes=seen))
    server.put("statefulsets", workload("db", "s1", replicas=0, makes=seen))

    error = await refused(way, how, "deploy_api.shop", sees=sees_some)
    assert error.user_message == "deploy/api in namespace shop has no pod (it is scaled to 0)"
    error = await refused(way, how, "sts_db-0.shop", sees=sees_some)
    assert error.user_message == "sts/db has no pod db-0 now; its pods: none"


def put_hidden(server: ListServer) -> None:
    """One of each kind of thing that only the team sec may know of."""
    sec: dict[str, Any] = {"labels": {"app": "api", "team": "sec"}}
    put_deployment(server)
    server.put("statefulsets", workload("db", "s1"))
    server.put("jobs", workload("idle", "j1", makes=template(labels={"team": "sec"})))
    for name, owner in (("vault", ""), ("api-2-a", "rs2"), ("db-0", "s1")):
        server.put("pods", pod(name, owner=owner, metadata=sec))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{}.shop", "vault"),
        ("{}.shop+x", "vault"),
        ("{}.shop", "api"),
        ("deploy_{}.shop", "api"),
        ("{}.shop", "db"),
        ("sts_{}.shop", "db"),
        ("sts_{}-0.shop", "db"),
        ("sts_{}-7.shop", "db"),
        ("{}.shop", "idle"),
        ("job_{}.shop", "idle"),
    ],
)
async def test_the_same_is_asked_for_what_is_withheld_as_for_what_is_missing(
    server: ListServer, way: Api, text: str, name: str
) -> None:
    put_hidden(server)
    found = []
    async with keeping_up(way) as catalog:
        for one in (name, "nothing"):
            server.asked.clear()
            with pytest.raises(BastionError) as caught:
                await Resolver(way, catalog).resolve(
                    target(text.format(one)), person="a", sees=OURS, enters=sees_all, tell=told_to_nobody
                )
            words = caught.value.user_message.replace(one, "it")
            found.append((sorted(re.sub(rf"(?<=s/){one}\b", "it", asked) for asked in server.asked), words))

    assert found[0] == found[1]
    assert any(asked == "/api/v1/namespaces/shop" for asked in found[0][0])


async def test_what_the_catalogue_withholds_does_not_hide_what_it_has_not_heard_of(
    server: ListServer, way: Api
) -> None:
    put_hidden(server)
    server.put("pods", pod("web", metadata={"labels": {"team": "sec"}}))
    async with keeping_up(way) as catalog:  # these are not told to the watches
        server.objects["daemonsets"] = {("shop", "web"): workload("web", "ds1")}
        server.objects["pods"]["shop", "web-a"] = pod("web-a", owner="ds1", metadata=TEAM)

        found = await Resolver(way, catalog).resolve(
            target("web.shop"), person="a", sees=OURS, enters=sees_all, tell=told_to_nobody
        )

    assert found.target.pod == "web-a"


@pytest.mark.parametrize("how", WAYS)
async def test_where_a_kind_may_not_be_looked_up_what_is_withheld_is_still_as_what_is_missing(
    server: ListServer, way: Api, how: str
) -> None:
    server.refused["jobs"] = 403
    put_hidden(server)
    for one in ("vault", "api", "db", "nothing"):
        error = await refused(way, how, f"{one}.shop", sees=OURS)
        assert error.code is Code.CLUSTER_DENIED


@pytest.mark.parametrize("how", WAYS)
async def test_of_a_workloads_pods_only_those_that_are_seen_are_chosen_from_and_named(
    server: ListServer, way: Api, how: str
) -> None:
    put_deployment(server)
    server.put("statefulsets", workload("db", "s1"))
    for number in range(3):
        server.put("pods", pod(f"api-2-{number}", owner="rs2"))
        server.put("pods", pod(f"db-{number}", owner="s1", metadata=TEAM if number == 1 else None))
    server.put("pods", pod("api-1-a", owner="rs1", metadata=TEAM))

    for person in "abcd":
        found = await resolved(way, how, "api.shop", person=person, sees=OURS)
        assert (found.target.pod, found.chosen_from) == ("api-1-a", "")
    for number in (0, 7):
        error = await refused(way, how, f"sts_db-{number}.shop", sees=OURS)
        assert error.user_message == f"sts/db has no pod db-{number} now; its pods: db-1"


@pytest.mark.parametrize("how", WAYS)
async def test_a_workload_whose_pods_are_not_seen_makes_no_name_ambiguous(
    server: ListServer, way: Api, how: str
) -> None:
    put_deployment(server)
    server.put("statefulsets", workload("api", "s1"))
    server.put("pods", pod("api-0", owner="s1"))
    server.put("pods", pod("api-2-a", owner="rs2", metadata=TEAM))

    assert (await resolved(way, how, "api.shop", sees=OURS)).target.pod == "api-2-a"

    server.put("daemonsets", workload("api", "ds1", makes=template(labels={"team": "sec"})))  # has no pods
    assert (await resolved(way, how, "api.shop", sees=OURS)).target.pod == "api-2-a"

    server.put("daemonsets", workload("api", "ds1", makes=template(labels={"team": "ours"})))
    error = await refused(way, how, "api.shop", sees=OURS)
    assert error.user_message == "api is the name of several workloads; say deploy_api.shop, ds_api.shop"


@pytest.mark.parametrize("how", WAYS)
async def test_a_pod_that_is_not_seen_does_not_hide_a_workload_of_its_name(
    server: ListServer, way: Api, how: str
) -> None:
    put_deployment(server)
    server.put("pods", pod("api"))
    server.put("pods", pod("api-2-a", owner="rs2", metadata=TEAM))

    assert (await resolved(way, how, "api.shop", sees=OURS)).target.pod == "api-2-a"
    assert (await resolved(way, how, "api.shop")).target.pod == "api"


STATES = [RUNNING, CRASHED, waiting("ContainerCreating"), terminated("Error", 3), {}]
DEFAULT = {**TEAM, "annotations": {"kubectl.kubernetes.io/default-container": "vault"}}


def put_vaults(server: ListServer, state: dict[str, Any]) -> None:
    """A pod and a Deployment's pod with two containers, of which "vault" is the default one."""
    put_deployment(server)
    for name, owner in (("web", ""), ("api-2-a", "rs2")):
        containers = {"app": RUNNING, "vault": state}
        server.put("pods", pod(name, owner=owner, containers=containers, metadata=DEFAULT, ready=False))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("text", ["web.shop", "web.shop+vault", "api.shop", "api.shop+vault"])
async def test_where_a_person_may_not_enter_no_state_is_told_and_nothing_waited_for(
    server: ListServer, way: Api, how: str, text: str, state: dict[str, Any]
) -> None:
    put_vaults(server, state)
    told: list[str] = []

    async with catalogue(way, how) as catalog:
        found = await Resolver(way, catalog).resolve(
            target(text), person="a", sees=OURS, enters=sees_team("ours", "app"), tell=told.append
        )

    assert (found.target.pod, found.target.container) == ("web" if "web" in text else "api-2-a", "vault")
    assert told == []


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ["web", "api"])
async def test_a_container_that_is_not_seen_is_as_one_that_is_not_there(
    server: ListServer, way: Api, how: str, name: str, state: dict[str, Any]
) -> None:
    put_vaults(server, state)
    app = sees_team("ours", "app")
    where = "web" if name == "web" else "api-2-a"

    assert (await resolved(way, how, f"{name}.shop", sees=app)).target.container == "app"
    hidden, absent = [await refused(way, how, f"{name}.shop+{one}", sees=app) for one in ("vault", "nope")]
    assert hidden.user_message == f"{where} has no container vault, or your roles do not reach it; it has app"
    assert absent.user_message == hidden.user_message.replace("vault", "nope")
    assert (hidden.code, hidden.detail) == (absent.code, "it is there, but no role of this person's reaches it")
    assert absent.detail == "it is not there"


@pytest.mark.parametrize("how", WAYS)
async def test_what_is_not_seen_is_not_looked_at_either(server: ListServer, way: Api, how: str) -> None:
    server.put("pods", pod("vault", containers={"secret": CRASHED}))
    both = {"app": RUNNING, "secret": CRASHED}
    server.put("pods", pod("web", containers=both, metadata=TEAM))

    async with catalogue(way, how) as catalog:
        resolver = Resolver(way, catalog)
        said = []
        for text in ("vault.shop", "web.shop+nope"):
            with pytest.raises(BastionError) as caught:
                await resolver.resolve(
                    target(text), person="a", sees=sees_team("ours", "app"), enters=None, tell=told_to_nobody
                )
            said.append(caught.value.user_message)

    assert said == [
        "there is no pod or workload vault in namespace shop, or your roles do not reach it",
        "web has no container nope, or your roles do not reach it; it has app",
    ]


# --- the same pod while it lives ---------------------------------------------


async def led(resolver: Resolver, text: str, *, person: str = "alice") -> str:
    found = await resolver.resolve(target(text), person=person, sees=sees_all, enters=sees_all, tell=told_to_nobody)
    return found.target.pod


@pytest.mark.parametrize("how", WAYS)
async def test_people_keep_their_pods_when_a_workload_is_scaled_up_or_rolled_out(
    server: ListServer, way: Api, how: str
) -> None:
    put_deployment(server)
    names = [f"api-1-{number}" for number in range(2)]
    for name in names:
        server.put("pods", pod(name, owner="rs1"))
    people = [f"person-{number}" for number in range(30)]
    async with catalogue(way, how) as catalog:
        resolver = Resolver(way, catalog)
        before = {person: await led(resolver, "api.shop", person=person) for person in people}
        for name, owner in [(f"api-1-{number}", "rs1") for number in range(2, 8)] + [("api-2-a", "rs2")]:
            server.put("pods", pod(name, owner=owner))
        await holds(lambda: how == "asked" or catalog.pod("shop", "api-2-a") is not None)

        assert {person: await led(resolver, "api.shop", person=person) for person in people} == before
        newcomer = await led(resolver, "api.shop", person="somebody-new")
        server.remove("pods", names[0])
        await holds(lambda: how == "asked" or catalog.pod("shop", names[0]) is None)
        after = {person: await led(resolver, "api.shop", person=person) for person in people}

    assert set(before.values()) == set(names)
    assert newcomer == "api-2-a"
    assert after == {person: name if name == names[1] else "api-2-a" for person, name in before.items()}


async def test_a_container_that_only_another_pod_has_leads_there_and_back(server: ListServer, way: Api) -> None:
    put_deployment(server)
    for number in range(4):
        server.put("pods", pod(f"api-2-{number}", owner="rs2"))
    async with catalogue(way, "asked") as catalog:
        resolver = Resolver(way, catalog)
        own = await led(resolver, "api.shop")
        server.put("pods", pod("api-2-x", owner="rs2", ephemeral={"dbg": RUNNING}))

        assert await led(resolver, "api.shop+dbg") == "api-2-x"
        assert await led(resolver, "api.shop") == own
        assert await led(resolver, "api.shop+app") == own


async def test_only_so_many_are_remembered_those_of_the_longest_ago_are_not(
    server: ListServer, way: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "STAYS", 2)
    put_deployment(server)
    server.put("pods", pod("api-2-0", owner="rs2"))
    async with catalogue(way, "asked") as catalog:
        resolver = Resolver(way, catalog)
        for person in ("ann", "bob", "ann", "cid"):  # bob is the one of the longest ago
            await led(resolver, "api.shop", person=person)
        server.put("pods", pod("api-2-1", owner="rs2"))
        first = pod("api-2-0", owner="rs2", ready=False)
        server.put("pods", first)

        assert await led(resolver, "api.shop", person="ann") == "api-2-0"
        assert await led(resolver, "api.shop", person="cid") == "api-2-0"
        assert await led(resolver, "api.shop", person="bob") == "api-2-1"


# --- what is only starting ---------------------------------------------------


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("how", WAYS)
async def test_a_starting_pod_is_waited_for_and_each_reason_is_told_once(
    server: ListServer, way: Api, how: str
) -> None:
    unscheduled: dict[str, Any] = {
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "no node has room"}]
    }
    server.put("pods", pod("web", phase="Pending", ready=False, containers={"app": {}}, status=unscheduled))
    told: list[str] = []
    async with catalogue(way, how) as catalog:
        coming = asyncio.create_task(
            Resolver(way, catalog).resolve(
                target("web.shop"), person="a", sees=sees_all, enters=sees_all, tell=told.append
            )
        )
        await holds(lambda: len(told) == 1)
        for number in range(3):
            server.put("pods", pod("web", metadata={"labels": {"n": str(number)}}, **STARTING))
        await holds(lambda: len(told) == 2)
        assert not coming.done()
        server.put("pods", pod("web"))
        found = await coming

    assert (found.target.pod, found.target.container) == ("web", "app")
    assert told == ["waiting for pod web: no node has room", "waiting for pod web: ContainerCreating"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("how", WAYS)
async def test_a_workload_without_a_pod_is_waited_for(server: ListServer, way: Api, how: str) -> None:
    put_deployment(server)
    told: list[str] = []
    async with catalogue(way, how) as catalog:
        coming = asyncio.create_task(
            Resolver(way, catalog).resolve(
                target("api.shop"), person="a", sees=sees_all, enters=sees_all, tell=told.append
            )
        )
        await holds(lambda: len(told) == 1)
        server.put("pods", pod("api-2-a", owner="rs2", ready=False))
        found = await coming

    assert found.target.pod == "api-2-a"
    assert told == [
        "waiting for a pod of deploy/api: it has none yet",
        "no pod of deploy/api is ready; taking api-2-a",
    ]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("becomes", "code"),
    [
        (pod("web", containers={"app": waiting("ErrImagePull", "no such image")}), Code.TARGET_NOT_RUNNING),
        (None, Code.TARGET_MISSING),
    ],
)
async def test_a_pod_that_fails_or_goes_while_it_is_waited_for_is_refused(
    server: ListServer, way: Api, how: str, becomes: dict[str, Any] | None, code: Code
) -> None:
    server.put("pods", pod("web", **STARTING))
    told: list[str] = []
    async with catalogue(way, how) as catalog:
        coming = asyncio.create_task(
            Resolver(way, catalog).resolve(
                target("web.shop"), person="a", sees=sees_all, enters=sees_all, tell=told.append
            )
        )
        await holds(lambda: len(told) == 1)
        if becomes is None:
            server.remove("pods", "web")
        else:
            server.put("pods", becomes)
        with pytest.raises(BastionError) as caught:
            await coming

    assert caught.value.code is code


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("how", WAYS)
async def test_patience_has_an_end_and_the_reason_is_told(server: ListServer, way: Api, how: str) -> None:
    server.put("pods", pod("web", **STARTING))
    async with catalogue(way, how) as catalog:
        with pytest.raises(BastionError) as caught:
            await Resolver(way, catalog, patience_s=0.2).resolve(
                target("web.shop"), person="a", sees=sees_all, enters=sees_all, tell=told_to_nobody
            )

    assert caught.value.code is Code.TARGET_NOT_RUNNING
    assert caught.value.user_message == (
        "pod web did not start within 0 s: ContainerCreating; `events web.shop`, on the bastion's console, may say why"
    )


async def test_who_leaves_while_waiting_leaves_nothing_behind(server: ListServer, way: Api) -> None:
    server.put("pods", pod("web", **STARTING))
    told: list[str] = []
    async with keeping_up(way) as catalog:
        coming = asyncio.create_task(
            Resolver(way, catalog).resolve(
                target("web.shop"), person="a", sees=sees_all, enters=sees_all, tell=told.append
            )
        )
        await holds(lambda: bool(told))
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await coming
        assert coming.cancelled()
        assert not catalog._followers


# --- what the catalogue does not know ----------------------------------------


async def test_what_the_catalogue_does_not_have_is_asked_for(server: ListServer, way: Api) -> None:
    async with keeping_up(way) as catalog:
        server.objects["pods"] = {("shop", "new"): pod("new")}  # not told to the watches

        found = await Resolver(way, catalog).resolve(
            target("new.shop"), person="a", sees=sees_all, enters=sees_all, tell=told_to_nobody
        )

        assert (found.target.pod, found.stale) == ("new", False)
        assert catalog.pod("shop", "new") is None


@pytest.mark.usefixtures("hurried")
async def test_a_catalogue_that_is_behind_is_not_relied_on_and_that_is_said(server: ListServer, way: Api) -> None:
    server.put("pods", pod("web"))
    async with keeping_up(way) as catalog:
        server.ends_at_once = True
        server.send(END)
        await holds(lambda: catalog.freshness("pod", "shop") is Freshness.BEHIND)
        server.put("pods", pod("web", metadata={"uid": "another"}))

        found = await Resolver(way, catalog).resolve(
            target("web.shop"), person="a", sees=sees_all, enters=sees_all, tell=told_to_nobody
        )

        assert (found.target.pod_uid, found.stale) == ("another", True)


@pytest.mark.parametrize("how", WAYS)
async def test_a_kind_that_the_bastion_may_not_look_up_does_not_hide_the_others(
    server: ListServer, way: Api, how: str
) -> None:
    server.refused["jobs"] = 403
    put_deployment(server)
    server.put("pods", pod("api-2-a", owner="rs2"))

    assert (await resolved(way, how, "api.shop")).target.pod == "api-2-a"
    assert (await refused(way, how, "job_api.shop")).code is Code.CLUSTER_DENIED
    assert (await refused(way, how, "nope.shop")).code is Code.CLUSTER_DENIED


async def test_where_namespaces_may_not_be_looked_up_a_missing_pod_is_still_that(server: ListServer, way: Api) -> None:
    server.refused["namespaces"] = 403

    absent = await refused(way, "asked", "web.shop")
    assert absent.user_message == "there is no pod or workload web in namespace shop, or your roles do not reach it"


async def test_a_namespace_that_is_not_looked_after_is_not_even_asked_about(server: ListServer, way: Api) -> None:
    server.put("pods", pod("web", namespace="secret"))
    async with keeping_up(way, "shop") as catalog:
        with pytest.raises(BastionError) as caught:
            await Resolver(way, catalog).resolve(
                target("web.secret"), person="a", sees=sees_all, enters=sees_all, tell=told_to_nobody
            )

    assert caught.value.code is Code.TARGET_MISSING
    assert "not one of those that this bastion looks after" in caught.value.user_message


@pytest.mark.parametrize("status", [403, 401, 500, 503])
async def test_a_cluster_that_refuses_the_bastion_itself_is_not_a_missing_pod(
    server: ListServer, way: Api, status: int
) -> None:
    server.refused["pods"] = status

    expected = Code.CLUSTER_DENIED if status == 403 else Code.CLUSTER_UNAVAILABLE
    assert (await refused(way, "asked", "web.shop")).code is expected


async def test_a_cluster_that_cannot_be_reached_is_said_to_be_so(tmp_path: Path) -> None:
    async with connected_to("http://127.0.0.1:1", tmp_path) as way:
        assert (await refused(way, "asked", "web.shop")).code is Code.CLUSTER_UNAVAILABLE


@pytest.mark.parametrize(
    ("wanted", "query"),
    [
        ({"matchLabels": {"app": "api", "tier": "web"}}, "app=api,tier=web"),
        ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}, "tier in (a,b)"),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}, "x notin (y)"),
        ({"matchExpressions": [{"key": "z", "operator": "Exists"}]}, "z"),
        (
            {"matchLabels": {"app": "api"}, "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]},
            "app=api,!old",
        ),
        ({}, ""),
    ],
)
def test_a_workloads_selector_becomes_a_query(wanted: dict[str, Any], query: str) -> None:
    assert lookup.selector(wanted) == query


async def test_the_default_container_is_the_annotated_one(server: ListServer, way: Api) -> None:
    annotations = {"kubectl.kubernetes.io/default-container": "app"}
    server.put("pods", pod("web", containers={"side": RUNNING, "app": RUNNING}, metadata={"annotations": annotations}))

    assert (await resolved(way, "known", "web.shop")).target.container == "app"
    assert (await resolved(way, "asked", "web.shop+side")).target.container == "side"
