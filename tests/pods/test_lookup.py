"""What the API server answers to a direct question and nobody understands is said to be so: it is no bug of ours."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.podfacts import PodFacts, pod_facts
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


@given(JSON)
def test_whatever_json_comes_it_is_a_pod_or_not_understood(answer: Any) -> None:
    try:
        read = understood(pod_facts, answer, "pod")
    except BastionError as error:
        assert_not_understood(error, error.detail)
    else:
        assert isinstance(read, PodFacts)
