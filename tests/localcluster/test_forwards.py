"""Port-forward over a WebSocket without SPDY, and attach: what no recording shows."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING

import pytest

from support.cluster import running_cluster
from support.rawclient import BINARY, TEXT, Frame, bearer, channel, connect
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.cluster import Cluster
    from support.rawclient import Answer, Query, RawClient

WEB = "/api/v1/namespaces/default/pods/web"
V4 = "v4.channel.k8s.io"


async def forward(
    client: RawClient, cluster: Cluster, *ports: str, subprotocols: Sequence[str] = (V4,), user: str = ""
) -> Answer:
    query: Query = [("ports", port) for port in ports]
    headers = [bearer(cluster), *([("Impersonate-User", user)] if user else [])]
    return await client.upgrade(f"{WEB}/portforward", query, headers, subprotocols)


async def port_frames(client: RawClient, *ports: int) -> None:
    """The first message on each channel is its port."""
    for index, port in enumerate(ports):
        for number in (2 * index, 2 * index + 1):
            assert await client.frame() == Frame(BINARY, bytes([number]) + port.to_bytes(2, "little"))


async def test_several_ports_share_one_stream(cluster: Cluster) -> None:
    async with connect(cluster) as client:
        assert (await forward(client, cluster, "7000,7003")).status == 101
        await port_frames(client, 7000, 7003)
        assert await client.frame() == Frame(BINARY, b"\x02hello\n")
        data = os.urandom(200_000)
        sending = asyncio.create_task(client.send_frame(b"\0" + data))
        said = b""
        while len(said) < len(data):
            frame = await client.frame()
            assert frame is not None
            assert frame.data[0] == 0
            said += frame.data[1:]
        await sending
        assert said == data


@pytest.mark.parametrize("subprotocol", ["v4.base64.channel.k8s.io", ""])
async def test_the_older_ways_are_spoken_too(cluster: Cluster, subprotocol: str) -> None:
    async with connect(cluster) as client:
        answer = await forward(client, cluster, "7003", subprotocols=[subprotocol] if subprotocol else [])
        assert (answer.status, answer.headers.get("sec-websocket-protocol", "")) == (101, subprotocol)
        frames, _ = await client.frames_to_end()
    if subprotocol:
        assert {one.opcode for one in frames} == {TEXT}
        frames = [Frame(BINARY, bytes([one.data[0] - 48]) + base64.b64decode(one.data[1:])) for one in frames]
    assert channel(frames, 0) == (7003).to_bytes(2, "little") + b"hello\n"


@pytest.mark.parametrize("ports", ["0", "65536", "web", "-1", "7000,"])
async def test_what_is_no_port_is_a_400(cluster: Cluster, ports: str) -> None:
    async with connect(cluster) as client:
        assert (await forward(client, cluster, ports)).status == 400


@pytest.mark.parametrize("user", ["carol", "dave", "bob"])
async def test_a_forward_needs_both_verbs(cluster: Cluster, user: str) -> None:
    path = "/api/v1/namespaces/shop/pods/api-788b6f4684-4fttr/portforward"
    async with connect(cluster) as client:
        answer = await client.upgrade(path, [("ports", "1")], [bearer(cluster), ("Impersonate-User", user)], [V4])
    assert answer.status == 403


async def test_a_client_that_does_not_read_stops_the_pod_and_not_the_server(cluster: Cluster) -> None:
    async with connect(cluster) as client, connect(cluster) as other:
        assert (await forward(client, cluster, "7001")).status == 101
        await port_frames(client, 7001)
        before = resident(cluster)
        for _ in range(50):
            assert (await other.request("GET", "/readyz")).status == 200
            await asyncio.sleep(0.02)  # the time in which an unbounded server would grow
        assert resident(cluster) - before < 8 << 20
        frame = await client.frame()
        assert frame is not None
        assert set(frame.data) == {0}


def resident(cluster: Cluster) -> int:
    """Bytes of memory."""
    with open(f"/proc/{cluster.pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - shorter than a Path
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_stream_that_is_cut_ends_and_leaves_nothing(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        async with connect(cluster) as client:
            await forward(client, cluster, "7000")
            await port_frames(client, 7000)
            assert (await cluster.control({"do": "cut", "pod": "default/web"}))["streams"] == 1
            assert await client.frame() is None

        async def none_left() -> bool:
            return bool((await cluster.control({"do": "cut", "pod": "default/web"}))["streams"] == 0)

        await eventually(none_left)


async def test_a_port_is_closed_once_the_main_process_died_and_open_again(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        for _ in range(2):
            async with connect(cluster) as client:
                await forward(client, cluster, "7003")
                frames, _ = await client.frames_to_end()
                assert channel(frames, 0).endswith(b"hello\n")
            await cluster.control({"do": "crash", "pod": "default/web", "container": "web"})
            assert await cluster.processes() == []


async def test_attach_gives_what_the_main_process_says_from_then_on(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, connect(cluster) as client, connect(cluster) as admin:
        container = '{"name":"main","image":"local/busybox:1","stdin":true,"command":["sh","-c","read a; echo got $a"]}'
        body = f'{{"metadata":{{"name":"asks"}},"spec":{{"restartPolicy":"Never","containers":[{container}]}}}}'
        pods = "/api/v1/namespaces/default/pods"
        assert (await admin.request("POST", pods, [], [bearer(cluster)], body.encode())).status == 201
        query: Query = [("stdin", "true"), ("stdout", "true"), ("stderr", "true")]

        async def attached() -> bool:
            answer = await client.upgrade(f"{pods}/asks/attach", query, [bearer(cluster)], ["v5.channel.k8s.io"])
            return answer.status == 101

        await eventually(attached)
        await client.send_frame(b"\0this\n")
        frames, _ = await client.frames_to_end()
        assert channel(frames, 1) == b"got this\n"
        assert channel(frames, 3) == b'{"metadata":{},"status":"Success"}'
