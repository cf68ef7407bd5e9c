"""What the API server answers to a direct question and nobody understands is said to be so: it is no bug of ours."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.podfacts import PodFacts, pod_facts, targets_of, workload_facts
from bastion.pods.answers import understood
from bastion.pods.lookup import Direct
from support import podobjects
from support.apis import api_by, kubeconfig_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SHOP = "/api/v1/namespaces/shop"
APPS = "/apis/apps/v1/namespaces/shop"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["metadata", "spec", "status", "name", "uid", "items"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@asynccontextmanager
async def asking(folder: Path, objects: dict[str, Any]) -> AsyncIterator[Direct]:
    """Who asks an API server that has these at these paths."""

    async def answer(request: web.Request) -> web.Response:
        found = objects.get(request.path)
        return web.json_response({} if found is None else found, status=404 if found is None else 200)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server, api_by(kubeconfig_at(folder, str(server.make_url("")))) as api:
        yield Direct(api)


def assert_not_understood(error: BastionError, detail: str) -> None:
    assert error.code is Code.CLUSTER_UNAVAILABLE
    assert "its answer is not understood" in error.user_message
    assert error.detail == detail


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"metadata": {}}, "KeyError('namespace')"),
        (["no pod"], "TypeError('list indices must be integers or slices, not str')"),
        ({**podobjects.pod("web"), "status": "well"}, "AttributeError(\"'str' object has no attribute 'get'\")"),
    ],
)
async def test_an_odd_pod(tmp_path: Path, odd: Any, why: str) -> None:
    async with asking(tmp_path, {f"{SHOP}/pods/web": odd}) as direct:
        with pytest.raises(BastionError) as caught:
            await direct.pod("shop", "web")
        assert await direct.pod("shop", "another") is None

    assert_not_understood(caught.value, f"its answer is no pod: {why}")


async def test_an_odd_workload(tmp_path: Path) -> None:
    odd = podobjects.workload("api", "uid-1")
    del odd["spec"]["selector"]
    async with asking(tmp_path, {f"{APPS}/deployments/api": odd}) as direct:
        with pytest.raises(BastionError) as caught:
            await direct.workloads(("deploy", "sts"), "shop", "api")

    assert_not_understood(caught.value, "its answer is no deploy: KeyError('selector')")


@pytest.mark.parametrize("which", ["pods", "replicasets"])
async def test_an_odd_one_among_those_of_a_workload(tmp_path: Path, which: str) -> None:
    objects = {
        f"{APPS}/deployments/api": podobjects.workload("api", "uid-1"),
        f"{APPS}/replicasets": {"metadata": {}, "items": []},
        f"{SHOP}/pods": {"metadata": {}, "items": []},
    }
    path = f"{SHOP}/pods" if which == "pods" else f"{APPS}/replicasets"
    objects[path] = {"metadata": {}, "items": [{"metadata": {}}]}
    async with asking(tmp_path, objects) as direct:
        [api] = await direct.workloads(("deploy",), "shop", "api")
        with pytest.raises(BastionError) as caught:
            await direct.generations(api)

    kind = "pod" if which == "pods" else "rs"
    assert_not_understood(caught.value, f"its answer is no {kind}: KeyError('namespace')")


def test_the_pods_that_a_workload_would_make_are_known_from_its_template() -> None:
    makes = podobjects.template(labels={"team": "shop"}, containers=["app", "side"], init=["setup"], hostNetwork=True)
    api = workload_facts("deploy", podobjects.workload("api", "uid-1", makes=makes))

    assert [(one.container, one.labels, one.namespace, one.host_network) for one in targets_of(api)] == [
        (name, {"app": "api", "team": "shop"}, "shop", True) for name in ("app", "side", "setup")
    ]


@pytest.mark.parametrize("makes", [None, {}, {"metadata": None, "spec": None}, {"spec": {"containers": None}}])
def test_without_a_template_nothing_is_known_of_them(makes: Any) -> None:
    item = podobjects.workload("api", "uid-1")
    item["spec"]["template"] = makes

    assert not list(targets_of(workload_facts("job", item)))


def test_of_a_replica_set_the_template_is_not_kept() -> None:
    assert workload_facts("rs", podobjects.workload("api-1", "uid-2")).template is None


@given(JSON)
def test_whatever_json_comes_as_a_template_it_is_one_or_not_understood(makes: Any) -> None:
    item = podobjects.workload("api", "uid-1")
    item["spec"]["template"] = makes
    try:
        read = understood(partial(workload_facts, "deploy"), item, "deploy")
    except BastionError as error:
        assert_not_understood(error, error.detail)
    else:
        assert not list(targets_of(read))


@given(JSON)
def test_whatever_json_comes_it_is_a_pod_or_not_understood(answer: Any) -> None:
    try:
        read = understood(pod_facts, answer, "pod")
    except BastionError as error:
        assert_not_understood(error, error.detail)
    else:
        assert isinstance(read, PodFacts)
