"""A request goes where it was meant to go, and carries what was meant for it alone."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from bastion.errors import BastionError, Code
from bastion.model import KubeIdentity, Target
from bastion.pods.reviews import Reviews
from support import apis
from support.kubeconfigs import write_kubeconfig
from support.rawexec import Peer, raw_exec, response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALICE, BOB = (KubeIdentity(user=f"bastion:{name}", groups=("bastion:engineer",)) for name in ("alice", "bob"))
TARGET = Target(namespace="shop", pod="web", pod_uid="uid-1", container="app")
ELSEWHERE = "/api/v1/namespaces/kube-system/secrets"


async def not_upgraded(_peer: Peer) -> None:
    raise AssertionError("not upgraded")


def redirecting(status: str, body: bytes = b"") -> Callable[[str], bytes]:
    """Every request is sent elsewhere, where everything is allowed."""

    def answer(request: str) -> bytes:
        if request.split()[1].startswith(ELSEWHERE):
            return response("200 OK", json.dumps({"status": {"allowed": True}}).encode())
        there = (
            f"HTTP/1.1 {status}\r\nLocation: {ELSEWHERE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return there.encode() + body

    return answer


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "304 Not Modified"])
async def test_a_redirection_is_no_answer_and_is_not_followed(tmp_path: Path, status: str) -> None:
    body = b'{"status": {"allowed": true}}' if not status.startswith("304") else b""
    async with (
        raw_exec(tmp_path, not_upgraded, redirecting(status, body)) as server,
        apis.api_by(apis.kubeconfig_at(tmp_path, server.url, server.ca)) as api,
    ):
        for asked in (
            Reviews(api).exec(TARGET, ALICE, apis.told_to_nobody),
            api.get("api", "v1", "namespaces", "shop", "pods", "other", identity=ALICE),
            api.patch("api", "v1", "namespaces", "shop", "pods", "other", body={}, content_type="application/json"),
        ):
            with pytest.raises(BastionError, match=f"HTTP {status[:3]}") as refused:
                await asked
            assert refused.value.code is Code.CLUSTER_UNAVAILABLE
        with pytest.raises(BastionError, match=f"HTTP {status[:3]}"):
            async with api.streaming("api", "v1", "pods", identity=ALICE):
                raise AssertionError("there is nothing to read")
        with pytest.raises(BastionError, match=f"HTTP {status[:3]}"):
            async with apis.pods_by(api).exec(TARGET, apis.exec_request(), ALICE, apis.told_to_nobody):
                raise AssertionError("there is nothing to enter")

    assert server.requests
    assert not any(ELSEWHERE in request for request in server.requests)


async def test_what_one_persons_answer_sets_is_not_sent_with_the_next_ones_request(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=alice; Path=/\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    async with raw_exec(tmp_path, not_upgraded, lambda _request: answer) as server:
        # By a name: cookies of a bare address are not kept by anybody.
        cluster = {"certificate-authority": str(server.ca), "tls-server-name": "127.0.0.1"}
        url = server.url.replace("127.0.0.1", "localhost")
        kubeconfig = write_kubeconfig(tmp_path / "by-name.kubeconfig", url, cluster=cluster, user={})
        async with apis.api_by(kubeconfig) as api:
            for identity in (ALICE, BOB):
                await api.get("version", identity=identity)
                async with api.streaming("version", identity=identity):
                    pass

    assert len(server.requests) == 4
    assert not any("\r\nCookie:" in request for request in server.requests)


async def test_every_request_says_whose_it_is(tmp_path: Path) -> None:
    refused = response("403 Forbidden", b'{"message": "no"}')
    async with (
        raw_exec(tmp_path, not_upgraded, lambda _request: refused) as server,
        apis.api_by(apis.kubeconfig_at(tmp_path, server.url, server.ca)) as api,
    ):
        with pytest.raises(BastionError):
            await api.get("version")
        with pytest.raises(BastionError):
            async with api.streaming("version"):
                raise AssertionError("there is nothing to read")
        with pytest.raises(BastionError):
            async with apis.pods_by(api).exec(TARGET, apis.exec_request(), ALICE, apis.told_to_nobody):
                raise AssertionError("there is nothing to enter")

    assert [f"\r\nUser-Agent: bastion/{version('bastion')}\r\n" in request for request in server.requests] == [True] * 3
