"""Requests that fail in a way that may pass are made again, within a patience, and whoever waits is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from bastion.errors import BastionError, Code
from bastion.metrics import Metrics
from bastion.model import KubeIdentity
from bastion.pods.requests import impersonation
from bastion.pods.retry import FIRST_PAUSE_S, LONGEST_PAUSE_S, Passing, pause_s
from support import apis
from support.rawexec import Peer, raw_exec, response

if TYPE_CHECKING:
    from pathlib import Path

CHANCES = st.floats(0, 1, exclude_max=True)


@given(tried=st.integers(1, 10_000), chance=CHANCES, asked=st.none() | st.floats(0, 999))
def test_a_pause_grows_up_to_a_bound_and_is_never_shorter_than_the_server_asks(
    tried: int, chance: float, asked: float | None
) -> None:
    pause = pause_s(tried, chance, asked)

    assert FIRST_PAUSE_S / 2 <= pause <= max(LONGEST_PAUSE_S, asked or 0)
    assert pause >= (asked or 0)
    assert pause_s(tried + 1, chance, asked) >= pause


async def not_upgraded(_peer: Peer) -> None:
    raise AssertionError("not upgraded")


def answers(*statuses: str) -> tuple[list[str], object]:
    """Each request gets the next answer, and the last one stays."""
    left = list(statuses)

    def answer(_request: str) -> bytes:
        status = left.pop(0) if len(left) > 1 else left[0]
        return response(status, json.dumps({"message": status, "ok": True}).encode())

    return left, answer


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"])
async def test_what_may_pass_is_tried_again_and_said_counted_and_logged(tmp_path: Path, status: str) -> None:
    _, answer = answers(status, "200 OK")
    told: list[str] = []
    metrics = Metrics()
    async with raw_exec(tmp_path, not_upgraded, answer) as server:  # type: ignore[arg-type] # as above
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with apis.api_by(kubeconfig, apis.retries(30, metrics=metrics)) as api:
            assert (await api.get("version", tell=told.append))["ok"]

    assert told == ["waiting for the API server, retry 1 in 1 s"]
    assert len(server.requests) == 2
    assert b"bastion_api_retries_total 1.0" in generate_latest(metrics._registry)


@pytest.mark.parametrize(
    ("status", "error"), [("404 Not Found", None), ("403 Forbidden", Code.CLUSTER_DENIED), ("400 Bad Request", None)]
)
async def test_what_will_not_pass_is_not_tried_again(tmp_path: Path, status: str, error: Code | None) -> None:
    _, answer = answers(status)
    async with raw_exec(tmp_path, not_upgraded, answer) as server:  # type: ignore[arg-type] # as above
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with apis.api_by(kubeconfig, apis.retries(30)) as api:
            with pytest.raises(Exception, match=r".") as refused:
                await api.get("version")

    assert len(server.requests) == 1
    if error is not None:
        assert isinstance(refused.value, BastionError)
        assert refused.value.code is error


async def test_nobody_is_kept_waiting_for_longer_than_the_patience(tmp_path: Path) -> None:
    _, answer = answers("503 Service Unavailable")
    async with raw_exec(tmp_path, not_upgraded, answer) as server:  # type: ignore[arg-type] # as above
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with apis.api_by(kubeconfig, apis.retries(1.5)) as api:
            with pytest.raises(BastionError, match="HTTP 503") as refused:
                await api.get("version")

    assert refused.value.code is Code.CLUSTER_UNAVAILABLE
    assert len(server.requests) == 3  # at once, after a second at most, and when the patience is over


async def test_a_retry_after_beyond_the_patience_is_not_waited_for(tmp_path: Path) -> None:
    late = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with raw_exec(tmp_path, not_upgraded, lambda _request: late) as server:
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with apis.api_by(kubeconfig, apis.retries(60)) as api:
            with pytest.raises(BastionError, match="HTTP 429"):
                await api.get("version")

    assert len(server.requests) == 1


async def test_a_lost_connection_is_tried_again(tmp_path: Path) -> None:
    came: list[str] = []

    def answer(request: str) -> bytes:
        came.append(request)
        return b"" if len(came) == 1 else response("200 OK", b"{}")

    async with raw_exec(tmp_path, not_upgraded, answer) as server:
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with apis.api_by(kubeconfig, apis.retries(30)) as api:
            assert await api.get("version") == {}

    assert len(came) == 2


@pytest.mark.parametrize("lost", [b"", response("503 Service Unavailable"), response("401 Unauthorized")])
async def test_a_stream_is_opened_again_if_patience_is_asked_for(tmp_path: Path, lost: bytes) -> None:
    answers_left = [lost, response("200 OK", b"line")]
    async with raw_exec(tmp_path, not_upgraded, lambda _request: answers_left.pop(0)) as server:
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with (
            apis.api_by(kubeconfig, apis.retries(30)) as api,
            api.streaming("log", patiently=True) as body,
        ):
            assert await body.read() == b"line"

    assert not answers_left


async def test_a_stream_is_opened_once_otherwise_and_the_servers_wish_is_passed_on(tmp_path: Path) -> None:
    busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with raw_exec(tmp_path, not_upgraded, lambda _request: busy) as server:
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with apis.api_by(kubeconfig, apis.retries(30)) as api:
            with pytest.raises(BastionError, match="HTTP 429") as refused:
                async with api.streaming("pods"):
                    raise AssertionError("there is nothing to read")

    assert len(server.requests) == 1
    assert isinstance(refused.value.__cause__, Passing)
    assert refused.value.__cause__.retry_after_s == 7.0


async def test_an_answer_that_is_no_json_is_not_understood(tmp_path: Path) -> None:
    async with raw_exec(tmp_path, not_upgraded, lambda _request: response("200 OK", b"<html>Log in")) as server:
        kubeconfig = apis.kubeconfig_at(tmp_path, server.url, server.ca)
        async with apis.api_by(kubeconfig) as api:
            with pytest.raises(BastionError, match="its answer is not understood") as refused:
                await api.get("version")

    assert refused.value.code is Code.CLUSTER_UNAVAILABLE
    assert "<html>Log in" in refused.value.detail


# --- A73: what impersonation may be made of ---------------------------------------------------


@given(st.text(), st.lists(st.text(), max_size=3))
def test_nobody_is_impersonated_whose_name_is_not_ours_to_give(user: str, groups: list[str]) -> None:
    identity = KubeIdentity(user=user, groups=tuple(groups))
    names = [user, *groups]
    if all(name.startswith("bastion:") and name.isascii() and name.isprintable() for name in names):
        assert impersonation(identity)[0] == ("Impersonate-User", user)
    else:
        with pytest.raises(BastionError, match="cannot act in the cluster"):
            impersonation(identity)


@pytest.mark.parametrize(
    "name",
    [
        "system:masters",
        "bastion:a\r\nImpersonate-Group: system:masters",
        "bastion:a\nX: y",
        "bastion:\x00",
        "bastion:é",
    ],
)
def test_a_header_cannot_be_made_into_two(name: str) -> None:
    for identity in (KubeIdentity(user=name), KubeIdentity(user="bastion:a", groups=(name,))):
        with pytest.raises(BastionError):
            impersonation(identity)


def test_the_session_goes_along_for_the_api_servers_own_log() -> None:
    identity = KubeIdentity(user="bastion:alice", groups=("bastion:g",), session="abc123")

    assert impersonation(identity) == [
        ("Impersonate-User", "bastion:alice"),
        ("Impersonate-Group", "bastion:g"),
        ("Impersonate-Extra-bastion-session", "abc123"),
    ]
