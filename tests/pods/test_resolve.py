"""From a login to a container, against an API server that says exactly what a test wants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes_asyncio.client import Configuration

from bastion import login
from bastion.errors import BastionError, Code
from bastion.model import TargetLogin
from bastion.pods.api import Api
from bastion.pods.resolve import Resolver
from support.rawexec import Peer, raw_exec, response

if TYPE_CHECKING:
    from pathlib import Path

    from bastion.model import Resolved

Objects = dict[str, dict[str, Any]]
SHOP = {"/api/v1/namespaces/shop": {"metadata": {"name": "shop"}}}


def pod(name: str, owner: str = "", **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "labels": {"app": "api"}}
    if owner:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner, "controller": True}]
    conditions = [{"type": "Ready", "status": more.pop("ready", "True")}]
    status = {"phase": more.pop("phase", "Running"), "conditions": conditions}
    spec = {"containers": [{"name": one} for one in more.pop("containers", ["app"])], "nodeName": "node-1"}
    return {"metadata": {**metadata, **more}, "spec": spec, "status": status}


def workload(uid: str, **more: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "api"}, **more}
    template = {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "app"}]}}
    return {
        "metadata": {"name": "api", "namespace": "shop", "uid": uid},
        "spec": {"selector": selector, "template": template, "serviceName": "api"},
    }


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "1"}, "items": list(items)}


async def resolve(folder: Path, text: str, objects: Objects, status: str = "404 Not Found") -> Resolved:
    """What a login resolves to; `objects` by path, what is not among them gives `status`."""

    def answer(request: str) -> bytes:
        path = request.split(" ")[1].partition("?")[0]
        found = {**SHOP, **objects}.get(path)
        body = json.dumps(found if found is not None else {"message": f"no {path}"}).encode()
        return response("200 OK" if found is not None else status, body)

    async def script(_peer: Peer) -> None:
        raise AssertionError("nothing is upgraded")

    async with raw_exec(folder, script, answer) as server:
        configuration = Configuration(host=server.url)
        configuration.ssl_ca_cert = str(server.ca)
        api = Api(configuration)
        where = login.parse(text)
        assert isinstance(where, TargetLogin)
        try:
            return await Resolver(api).resolve(where)
        finally:
            await api.aclose()


PODS = "/api/v1/namespaces/shop/pods"
APPS = "/apis/apps/v1/namespaces/shop"
DEPLOYMENT: Objects = {
    f"{APPS}/deployments/api": workload("d1"),
    f"{APPS}/replicasets": listed(
        {
            **workload("rs1"),
            "metadata": {
                "name": "api-1",
                "uid": "rs1",
                "ownerReferences": pod("x", "d1")["metadata"]["ownerReferences"],
            },
        },
        {**workload("rs2"), "metadata": {"name": "other-1", "uid": "rs2"}},
    ),
}


async def test_a_pod_is_found_by_its_name_with_what_pins_it(tmp_path: Path) -> None:
    found = await resolve(tmp_path, "web.shop", {f"{PODS}/web": pod("web", labels={"team": "shop"})})

    assert (found.target.pod, found.target.pod_uid, found.target.container) == ("web", "uid-web", "app")
    assert (found.target.labels, found.target.node, found.chosen_from) == ({"team": "shop"}, "node-1", "")


async def test_a_pods_name_wins_over_a_workloads(tmp_path: Path) -> None:
    assert (await resolve(tmp_path, "api.shop", {f"{PODS}/api": pod("api"), **DEPLOYMENT})).target.pod == "api"


async def test_of_a_deployment_the_first_ready_pod_of_its_own_is_chosen_and_the_choice_is_told(tmp_path: Path) -> None:
    pods = listed(
        pod("api-1-c", "rs1"),
        pod("api-1-a", "rs1", ready="False"),
        pod("api-0", "rs2"),  # has the labels, but belongs to something else
        pod("api-1-b", "rs1"),
        pod("aaa", "rs1", deletionTimestamp="2026-01-01T00:00:00Z"),
    )

    found = await resolve(tmp_path, "deploy_api.shop", {**DEPLOYMENT, PODS: pods})

    assert (found.target.pod, found.chosen_from) == ("api-1-b", "deploy/api")


async def test_a_workload_with_one_ready_pod_was_no_choice(tmp_path: Path) -> None:
    found = await resolve(tmp_path, "api.shop", {**DEPLOYMENT, PODS: listed(pod("api-1-a", "rs1"))})

    assert (found.target.pod, found.chosen_from) == ("api-1-a", "")


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("sts", f"{APPS}/statefulsets/api"),
        ("ds", f"{APPS}/daemonsets/api"),
        ("job", "/apis/batch/v1/namespaces/shop/jobs/api"),
    ],
)
async def test_other_workloads_own_their_pods_themselves(tmp_path: Path, kind: str, path: str) -> None:
    objects = {path: workload("w1"), PODS: listed(pod("api-0", "w1"), pod("api-1", "w2"))}

    assert (await resolve(tmp_path, f"{kind}_api.shop", objects)).target.pod == "api-0"


async def test_a_selector_with_expressions_is_asked_for_as_such(tmp_path: Path) -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "x", "operator": "NotIn", "values": ["y"]},
        {"key": "z", "operator": "Exists"},
    ]
    objects = {
        f"{APPS}/statefulsets/api": workload("w1", matchExpressions=expressions),
        PODS: listed(pod("api-0", "w1")),
    }

    assert (await resolve(tmp_path, "sts_api.shop", objects)).target.pod == "api-0"


@pytest.mark.parametrize(
    ("text", "container"),
    [("web.shop", "app"), ("web.shop+sidecar", "sidecar"), ("web.shop+app", "app")],
)
async def test_the_container_is_the_named_one_else_the_annotations(tmp_path: Path, text: str, container: str) -> None:
    annotations = {"kubectl.kubernetes.io/default-container": "app"}
    objects = {f"{PODS}/web": pod("web", containers=["sidecar", "app"], annotations=annotations)}

    assert (await resolve(tmp_path, text, objects)).target.container == container


async def test_an_annotation_that_names_no_container_is_ignored(tmp_path: Path) -> None:
    annotations = {"kubectl.kubernetes.io/default-container": "gone"}
    objects = {f"{PODS}/web": pod("web", containers=["first", "second"], annotations=annotations)}

    assert (await resolve(tmp_path, "web.shop", objects)).target.container == "first"


@pytest.mark.parametrize(
    ("text", "objects", "code", "says"),
    [
        ("web.shop", {}, Code.TARGET_MISSING, "no pod or workload web in namespace shop"),
        ("web.nope", {}, Code.TARGET_MISSING, "no namespace nope"),
        ("sts_web.shop", {}, Code.TARGET_MISSING, "no sts/web in namespace shop"),
        (
            "api.shop",
            {**DEPLOYMENT, f"{APPS}/statefulsets/api": workload("s1")},
            Code.TARGET_AMBIGUOUS,
            "deploy_api.shop, sts_api.shop",
        ),
        (
            "api.shop",
            {**DEPLOYMENT, PODS: listed(pod("api-1-a", "rs1", ready="False"))},
            Code.TARGET_NOT_RUNNING,
            "deploy/api in namespace shop has no ready pod (it has 1)",
        ),
        ("web.shop", {f"{PODS}/web": pod("web", phase="Pending")}, Code.TARGET_NOT_RUNNING, "phase is Pending"),
        (
            "web.shop",
            {f"{PODS}/web": pod("web", deletionTimestamp="2026-01-01T00:00:00Z")},
            Code.TARGET_NOT_RUNNING,
            "being deleted",
        ),
        ("web.shop+x", {f"{PODS}/web": pod("web")}, Code.TARGET_MISSING, "no container x; it has app"),
    ],
)
async def test_what_cannot_be_resolved_says_why(
    tmp_path: Path, text: str, objects: Objects, code: Code, says: str
) -> None:
    with pytest.raises(BastionError) as caught:
        await resolve(tmp_path, text, objects)

    assert caught.value.code is code
    assert says in caught.value.user_message


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("403 Forbidden", Code.CLUSTER_DENIED),
        ("500 Internal Server Error", Code.CLUSTER_UNAVAILABLE),
        ("401 Unauthorized", Code.CLUSTER_UNAVAILABLE),
    ],
)
async def test_a_cluster_that_refuses_the_bastion_itself_is_not_a_missing_pod(
    tmp_path: Path, status: str, code: Code
) -> None:
    with pytest.raises(BastionError) as caught:
        await resolve(tmp_path, "web.shop", {}, status)

    assert caught.value.code is code


async def test_a_cluster_that_cannot_be_reached_is_said_to_be_so() -> None:
    api = Api(Configuration(host="https://127.0.0.1:1"))
    where = login.parse("web.shop")
    assert isinstance(where, TargetLogin)
    with pytest.raises(BastionError) as caught:
        await Resolver(api).resolve(where)
    await api.aclose()

    assert caught.value.code is Code.CLUSTER_UNAVAILABLE
