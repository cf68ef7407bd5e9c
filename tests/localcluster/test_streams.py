"""The exec stream under load, at its limits and with faults."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cluster import running_cluster
from support.rawclient import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Ending,
    Frame,
    bearer,
    channel,
    connect,
    exec_in,
    exec_query,
    masked,
)
from support.waiting import eventually

if TYPE_CHECKING:
    from support.cluster import Cluster

MIB = 1 << 20
WEB = "/api/v1/namespaces/default/pods/web/exec"
NORMAL_END = Ending(code=1000, close_notify=True, fin=True)


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def moved(pid: int) -> int:
    """Bytes that a process has read and written."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["rchar"]) + int(counters["wchar"])


async def is_still(pid: int) -> bool:
    """Whether a process moves no byte for a while."""
    before = moved(pid)
    await asyncio.sleep(0.3)
    return moved(pid) == before


async def pid_of(cluster: Cluster, *argv: str) -> int:
    pids: list[int] = []

    async def started() -> bool:
        pids[:] = [one["pid"] for one in await cluster.processes() if one["argv"] == list(argv)]
        return bool(pids)

    await eventually(started)
    return pids[0]


async def test_a_client_that_does_not_read_stops_the_process(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, exec_in(cluster, "default/web", "cat", "/dev/zero"):
        before = resident(cluster.pid)
        pid = await pid_of(cluster, "cat", "/dev/zero")
        await eventually(lambda: is_still(pid))
        assert moved(pid) > 0
        assert resident(cluster.pid) - before < 5 * MIB


async def test_a_process_that_does_not_read_stops_the_client(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, exec_in(cluster, "default/web", "sleep", "1000") as client:
        await pid_of(cluster, "sleep", "1000")
        before, sent, data = resident(cluster.pid), 0, masked(b"\0" + bytes(MIB))
        with contextlib.suppress(TimeoutError):
            while sent < 100:
                async with asyncio.timeout(1):
                    await client.send(data)
                sent += 1
        assert 0 < sent < 50  # what the kernel's socket buffers hold, at most
        assert resident(cluster.pid) - before < 5 * MIB
        await cluster.control({"do": "cut", "pod": "default/web"})
        await eventually(lambda: is_orphan(cluster))


async def is_orphan(cluster: Cluster) -> bool:
    (process,) = await cluster.processes()
    return bool(process["orphan"])


async def test_twenty_megabytes_and_an_immediate_end_reach_a_client_that_lags(cluster: Cluster) -> None:
    numbers = 2_700_000
    async with exec_in(cluster, "default/web", "seq", str(numbers)) as client:
        frames: list[Frame] = []
        while (frame := await client.frame()) is not None and frame.opcode == BINARY:
            frames.append(frame)
            await asyncio.sleep(0.001)  # lags: the server is ahead all the time
        assert channel(frames, 1) == b"".join(b"%d\n" % n for n in range(1, numbers + 1))
        assert channel(frames, 3) == b'{"metadata":{},"status":"Success"}'
        assert max(len(one.data) for one in frames) <= 32_769
        assert await client.frames_to_end() == ([], Ending(code=0, close_notify=True, fin=True))


async def test_a_hundred_megabytes_pass_in_seconds(cluster: Cluster) -> None:
    size = 100 * MIB
    begun = time.monotonic()
    async with exec_in(cluster, "default/web", "head", "-c", str(size), "/dev/zero") as client:
        frames, ending = await client.frames_to_end()
    assert len(channel(frames, 1)) == size
    async with exec_in(cluster, "default/web", "wc", "-c") as client:
        data = masked(b"\0" + bytes(64 * 1024))
        for _ in range(size // (64 * 1024)):
            await client.send(data)
        await client.send_frame(b"\xff\0")
        frames, ending = await client.frames_to_end()
    assert channel(frames, 1).strip() == str(size).encode()
    assert ending == NORMAL_END
    assert time.monotonic() - begun < 15  # two to three when nothing else runs


async def test_a_client_frame_of_31_mib_passes(cluster: Cluster) -> None:
    async with exec_in(cluster, "default/web", "wc", "-c") as client:
        await client.send_frame(b"\0" + bytes(31 * MIB))
        await client.send_frame(b"\xff\0")
        frames, ending = await client.frames_to_end()
    assert channel(frames, 1).strip() == str(31 * MIB).encode()
    assert ending == NORMAL_END


async def test_a_client_frame_of_33_mib_drops_the_connection(cluster: Cluster) -> None:
    async with exec_in(cluster, "default/web", "wc", "-c") as client:
        with contextlib.suppress(ConnectionError):
            await client.send_frame(b"\0" + bytes(33 * MIB))
        assert await client.frames_to_end() == ([], Ending(code=0, close_notify=False, fin=True))


async def test_a_message_in_fragments_is_one_message(cluster: Cluster) -> None:
    async with exec_in(cluster, "default/web", "cat") as client:
        first, rest = bytearray(masked(b"\0one ")), bytearray(masked(b"message", opcode=0))
        first[0] &= 0x7F  # not the last
        await client.send(bytes(first) + masked(b"still here", opcode=PING) + bytes(rest))
        await client.send_frame(b"\xff\0")
        frames, _ = await client.frames_to_end()
    assert frames[0] == Frame(PONG, b"still here")
    assert channel(frames, 1) == b"one message"


async def test_unknown_channels_are_ignored(cluster: Cluster) -> None:
    async with exec_in(cluster, "default/web", "cat") as client:
        for data in (b"\x09what", b"", b"\x04not json", b"\x03status", b"\xff\x05", b"\0kept"):
            await client.send_frame(data)
        await client.send_frame(b"\xff\0")
        frames, _ = await client.frames_to_end()
    assert channel(frames, 1) == b"kept"


async def test_the_end_of_stdin_is_ignored_on_a_terminal(cluster: Cluster) -> None:
    async with exec_in(cluster, "default/web", "sh", "-c", "read line; echo got $line", tty=True) as client:
        await client.send_frame(b"\xff\0")
        await client.send_frame(b"\0hello\r")
        frames, _ = await client.frames_to_end()
    assert channel(frames, 1) == b"hello\r\ngot hello\r\n"


@pytest.mark.parametrize("name", ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"])
async def test_base64_subprotocols_speak_text(cluster: Cluster, name: str) -> None:
    async with connect(cluster) as client:
        answer = await client.upgrade(WEB, exec_query("sh", "-c", "read x; echo $x; exit 3"), [bearer(cluster)], [name])
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, name)
        assert await client.frame() == Frame(TEXT, b"1")
        await client.send_frame(b"0" + base64.b64encode(b"hello\n"), opcode=TEXT)
        frames, _ = await client.frames_to_end()
    decoded = {frame.data[:1]: base64.b64decode(frame.data[1:]) for frame in frames}
    assert decoded[b"1"] == b"hello\n"
    assert b"exit code 3" in decoded[b"3"]


@pytest.mark.parametrize("offer", [["channel.k8s.io"], []])
async def test_the_first_subprotocol_says_a_failure_in_plain_text(cluster: Cluster, offer: list[str]) -> None:
    async with connect(cluster) as client:
        answer = await client.upgrade(WEB, exec_query("sh", "-c", "exit 3"), [bearer(cluster)], offer)
        assert answer.headers.get("sec-websocket-protocol", "") == "".join(offer)
        frames, _ = await client.frames_to_end()
    said = "command terminated with non-zero exit code: error executing command [sh -c exit 3], exit code 3"
    assert channel(frames, 3).decode() == said


async def test_an_old_server_refuses_v5_and_prefers_v4_to_it(tmp_path: Path) -> None:
    async with running_cluster(tmp_path, subprotocols="v4") as cluster:
        for offer, status, chosen in (
            (["v5.channel.k8s.io"], 403, None),
            (["v5.channel.k8s.io", "v4.channel.k8s.io"], 101, "v4.channel.k8s.io"),
        ):
            async with connect(cluster) as client:
                answer = await client.upgrade(WEB, exec_query("true"), [bearer(cluster)], offer)
                assert (answer.status, answer.headers.get("sec-websocket-protocol"), answer.body) == (
                    status,
                    chosen,
                    b"",
                )


async def test_an_argument_over_128_kib_fails_in_the_container(cluster: Cluster) -> None:
    for length, reason in ((131_000, None), (140_000, "argument list too long")):
        async with exec_in(cluster, "default/web", "true", "x" * length) as client:
            frames, _ = await client.frames_to_end()
        status = json.loads(channel(frames, 3))
        assert status.get("message", "").endswith(reason or "")
        assert (status["status"] == "Success") == (reason is None)


async def test_half_a_megabyte_of_arguments_passes(cluster: Cluster) -> None:
    async with exec_in(cluster, "default/web", "sh", "-c", 'echo "$#"', "sh", *["x" * 5000] * 100) as client:
        frames, _ = await client.frames_to_end()
    assert channel(frames, 1) == b"100\n"


async def test_a_url_over_a_megabyte_is_refused_before_the_upgrade(cluster: Cluster) -> None:
    async with connect(cluster) as client:
        answer = await client.upgrade(WEB, exec_query("true", *["x" * 100_000] * 11), [bearer(cluster)], [])
        assert answer.status == 431


async def test_an_argument_that_is_not_utf_8_is_refused_before_the_upgrade(cluster: Cluster) -> None:
    async with connect(cluster) as client:
        answer = await client.upgrade(WEB, exec_query("printf", b"\xff"), [bearer(cluster)], ["v5.channel.k8s.io"])
        assert answer.status == 500
        assert json.loads(answer.body)["reason"] == "InternalError"


async def test_a_request_that_is_no_upgrade_is_told_so(cluster: Cluster) -> None:
    async with connect(cluster) as client:
        answer = await client.request("GET", WEB, exec_query("true"), [bearer(cluster)])
    assert (answer.status, json.loads(answer.body)["message"]) == (400, "Upgrade request required")


async def test_a_cut_ends_a_stream_without_any_goodbye(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, exec_in(cluster, "default/web", "sleep", "1000") as client:
        await pid_of(cluster, "sleep", "1000")
        assert (await cluster.control({"do": "cut", "pod": "prod/db"}))["streams"] == 0
        assert (await cluster.control({"do": "cut", "pod": "default/web"}))["streams"] == 1
        assert await client.frames_to_end() == ([], Ending(code=0, close_notify=False, fin=True))


async def test_a_held_stream_is_silent_and_then_goes_on(cluster: Cluster) -> None:
    async with exec_in(cluster, "default/web", "cat") as client:
        await client.send_frame(b"\0before")
        assert await client.frame() == Frame(BINARY, b"\x01before")
        await cluster.control({"do": "hold", "pod": "default/web", "seconds": 1})
        begun = time.monotonic()
        await client.send_frame(b"ping", opcode=PING)
        await client.send_frame(b"\0after")
        await client.send_frame(b"\xff\0")
        frames, ending = await client.frames_to_end()
        assert time.monotonic() - begun > 0.9
    assert channel(frames, 1) == b"after"
    assert ending == NORMAL_END
