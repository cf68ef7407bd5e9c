"""The exec stream against servers that behave as real ones do, and worse."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest
import structlog

from bastion.errors import BastionError, Code
from bastion.events import Exited, Input, InputClosed, Output, Resized
from bastion.model import ExecRequest, KubeIdentity, Outcome, Pty, Stream, Target, WindowSize
from bastion.pods import boot, execs, watchman
from bastion.pods import stream as pod_stream
from bastion.pods.catalog import Catalog
from bastion.system import SystemClock
from bastion.wire import remotecommand
from support import apis
from support.rawexec import BINARY, CLOSE, PING, PONG, Peer, RawExec, pod, raw_exec, response
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bastion.pods.api import Api
    from bastion.pods.listwatch import Freshness

MARKER = "00112233445566778899"
READY = b"\x01\x1e" + MARKER.encode() + b"\x1e"
ENDED = b"\x1d" + MARKER.encode() + b"\x1e"
ALICE = KubeIdentity(user="bastion:alice", groups=("bastion:engineer", "bastion:other"))
TARGET = Target(namespace="shop", pod="web", pod_uid="uid-1", container="app")


def asked(command: bytes | None = b"true", pty: Pty | None = None) -> ExecRequest:
    return apis.exec_request(command, pty, MARKER)


async def api_for(server: RawExec) -> Api:
    return await apis.api_for(apis.kubeconfig_at(server.ca.parent, server.url, server.ca))


async def eventually_asked(server: RawExec, times: int) -> None:
    """Return once the pod was asked for so often."""

    async def is_asked() -> bool:
        return server.looks >= times

    await eventually(is_asked, within=30)


async def ends_all_at_once(peer: Peer, status: bytes) -> None:
    """As recorded: status, Close, close_notify and FIN back to back."""
    peer.send(status)
    peer.send((1000).to_bytes(2, "big"), CLOSE)
    peer.writer.close()


async def collect(
    folder: Path, script: Callable[[Peer], Awaitable[None]], request: ExecRequest | None = None
) -> tuple[list[Output], Exited]:
    """Everything a scripted exec said, and its end."""
    async with raw_exec(folder, script) as server:
        api = await api_for(server)
        try:
            outputs: list[Output] = []
            async with apis.pods_by(api).exec(TARGET, request or asked(), ALICE, apis.told_to_nobody) as stream:
                while True:
                    event = await asyncio.wait_for(stream.next_event(), 20)
                    if isinstance(event, Exited):
                        return outputs, event
                    outputs.append(event)
        finally:
            await api.aclose()


def said_on(outputs: list[Output], stream: Stream = Stream.STDOUT) -> bytes:
    return b"".join(output.data for output in outputs if output.stream is stream)


async def test_output_without_the_ready_mark_and_the_exit_status_come_through(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        peer.send(remotecommand.CONNECTED)
        peer.send(READY[:7])
        peer.send(b"\x02early\n")
        peer.send(b"\x01" + READY[7:] + b"out")
        peer.send(b"\x02err\n")
        await ends_all_at_once(peer, remotecommand.exit_status(3))

    outputs, end = await collect(tmp_path, script)

    assert said_on(outputs) == b"out"
    assert said_on(outputs, Stream.STDERR) == b"early\nerr\n"
    assert end == Exited(3, Outcome.EXITED)


async def test_twenty_megabytes_and_an_end_at_once_reach_a_reader_that_lags(tmp_path: Path) -> None:
    chunk = bytes(range(256)) * 128
    whole = hashlib.sha256(chunk * 640).hexdigest()

    async def script(peer: Peer) -> None:
        peer.send(READY)
        for _ in range(640):
            peer.send(b"\x01" + chunk)
            await peer.writer.drain()
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        seen, size = hashlib.sha256(), 0
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            while isinstance(event := await stream.next_event(), Output):
                seen.update(event.data)
                size += len(event.data)
                if size % (1 << 20) < len(event.data):
                    await asyncio.sleep(0.02)  # a slow ssh client
        await api.aclose()

    assert event == Exited(0, Outcome.EXITED)
    assert size == len(chunk) * 640
    assert seen.hexdigest() == whole


async def test_a_reader_that_stops_stops_the_server(tmp_path: Path) -> None:
    sent = 0
    enough = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal sent
        peer.send(READY)
        while not enough.is_set():
            peer.send(b"\x01" + bytes(32768))
            await peer.writer.drain()
            await asyncio.sleep(0)  # a connection that is gone takes everything without a pause
            sent += 32768

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            before = -1
            while sent != before:  # until a whole tenth of a second passes without progress
                before = sent
                await asyncio.sleep(0.1)
            held = stream._queued
            enough.set()
        await api.aclose()

    assert 0 < held < 512 * 1024


async def test_a_pod_that_does_not_read_is_not_taken_for_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_stream, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(pod_stream, "SILENCE_S", 0.3)
    size = 30_000_000

    async def script(peer: Peer) -> None:
        peer.send(READY)
        await asyncio.sleep(1.5)  # reading nothing, for much longer than silence may last
        taken = 0
        while taken < size:
            taken += len(await peer.reader.read(1 << 20))
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as running:
            for _ in range(0, size, 100_000):
                await running.send(Input(bytes(100_000)))
            while not isinstance(event := await running.next_event(), Exited):
                pass
        await api.aclose()

    assert event == Exited(0, Outcome.EXITED)


@pytest.mark.parametrize("protocol", [remotecommand.V5, remotecommand.V4])
@pytest.mark.parametrize(("is_there", "held"), [(True, 100), (False, 100), (True, 1100)])
async def test_input_that_is_held_up_on_the_way_to_a_pod_is_no_dead_connection_while_the_api_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, protocol: str, is_there: bool, held: int
) -> None:
    """As real ones: they read input, and with it the pings behind, no faster than the process does.

    held: kilobytes of input on the way, where there is room for a thousand.
    """

    def only_one(request: str) -> bytes | None:
        return None if protocol in request else response("403 Forbidden")

    monkeypatch.setattr(pod_stream, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(pod_stream, "SILENCE_S", 0.3)
    monkeypatch.setattr(pod_stream, "HELD_ON_THE_WAY", 1_000_000)
    asked_after: list[bool] = []

    async def is_reachable() -> bool:
        asked_after.append(is_there)
        return is_there

    async def script(peer: Peer) -> None:
        peer.send(READY)
        buffers = asyncio.create_task(taken_in(peer))
        await eventually(has_asked, within=20)  # all that while no ping is answered
        buffers.cancel()
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async def taken_in(peer: Peer) -> None:
        while True:
            await peer.receive()

    async def has_asked() -> bool:
        return len(asked_after) >= 5

    async with raw_exec(tmp_path, script, only_one) as server:
        api = await api_for(server)
        stream = await execs.Execs(api, SystemClock()).open(
            execs.Call(target=TARGET, identity=ALICE, stdin=True),
            partial(boot.with_shell, asked()),
            pod_stream.Around(is_reachable=is_reachable),
        )
        await stream.started()
        for _ in range(held):
            await stream.send(Input(bytes(1000)))
        end = await stream.next_event()
        await stream.close()
        await api.aclose()

    broken = Exited(255, Outcome.BROKEN, "no answer from the API server for 0 s")
    assert end == (Exited(0, Outcome.EXITED) if is_there and held < 1000 else broken)


async def test_at_the_end_mark_input_ends_and_no_more_is_sent(tmp_path: Path) -> None:
    frames: list[bytes] = []

    async def script(peer: Peer) -> None:
        peer.send(READY)
        peer.send(b"\x02said")
        for at in range(len(ENDED)):  # in pieces, as it never comes
            peer.send(b"\x02" + ENDED[at : at + 1])
        frames.append(await peer.receive_data())
        peer.send(b"\x02late")
        await ends_all_at_once(peer, remotecommand.exit_status(3))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            said = b""
            while not isinstance(event := await stream.next_event(), Exited):
                said += event.data
                if frames:
                    await stream.send(Input(b"unread"))
                    await stream.send(InputClosed())
        await api.aclose()

    assert (said, event) == (b"saidlate", Exited(3, Outcome.EXITED))
    assert frames == [remotecommand.CLOSE_STDIN]


@pytest.mark.parametrize("beginning", [ENDED[:1], ENDED[:3]])
async def test_what_only_looks_like_the_beginning_of_an_end_mark_is_shown_soon(
    tmp_path: Path, beginning: bytes
) -> None:
    async def script(peer: Peer) -> None:
        peer.send(READY)
        peer.send(b"\x02" + beginning)
        assert await peer.receive_data() == b"\x00seen"
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            said = b""
            while said != beginning:
                event = await asyncio.wait_for(stream.next_event(), 20)
                assert isinstance(event, Output)
                said += event.data
            await stream.send(Input(b"seen"))
            assert await stream.next_event() == Exited(0, Outcome.EXITED)
        await api.aclose()


async def test_what_is_held_back_when_the_stream_ends_is_not_lost(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        peer.send(READY)
        peer.send(b"\x02last" + ENDED[:-1])
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    outputs, end = await collect(tmp_path, script)

    assert b"".join(one.data for one in outputs) == b"last" + ENDED[:-1]
    assert end == Exited(0, Outcome.EXITED)


async def test_small_frames_are_joined_and_streams_keep_their_order(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        peer.send(READY)
        for _ in range(100):
            peer.send(b"\x01ab")
        peer.send(b"\x02e")
        for _ in range(100):
            peer.send(b"\x01cd")
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    outputs, _ = await collect(tmp_path, script)

    assert said_on(outputs) == b"ab" * 100 + b"cd" * 100
    assert len(outputs) < 100
    order = b"".join(output.data for output in outputs)
    assert order == b"ab" * 100 + b"e" + b"cd" * 100


@pytest.mark.parametrize("frame", [None, CLOSE], ids=["cut", "closed politely"])
async def test_a_stream_that_ends_without_a_status_is_broken_and_never_success(
    tmp_path: Path, frame: int | None
) -> None:
    async def script(peer: Peer) -> None:
        peer.send(READY + b"half of it")
        if frame is None:
            await peer.writer.drain()
            peer.writer.transport.abort()
        else:
            peer.send((1000).to_bytes(2, "big"), frame)

    outputs, end = await collect(tmp_path, script)

    assert said_on(outputs) in {b"half of it", b""}  # an abort may take what was on its way
    assert (end.status, end.outcome) == (255, Outcome.BROKEN)
    assert end.message


async def test_a_ping_is_answered_while_nothing_else_happens(tmp_path: Path) -> None:
    answers: list[bytes] = []

    async def script(peer: Peer) -> None:
        peer.send(READY)
        peer.send(b"are you there", PING)
        while not answers:
            opcode, data = await peer.receive()
            if opcode == PONG:
                answers.append(data)
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    _, end = await collect(tmp_path, script)

    assert answers == [b"are you there"]
    assert end.status == 0


async def test_input_its_end_and_sizes_are_the_recorded_frames(tmp_path: Path) -> None:
    frames: list[bytes] = []

    async def script(peer: Peer) -> None:
        peer.send(READY)
        frames.extend([await peer.receive_data(), await peer.receive_data()])
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            await stream.send(Input(b"hi\n"))
            await stream.send(Resized(WindowSize(cols=1, rows=1)))  # no terminal, so nothing to resize
            await stream.send(InputClosed())
            assert await stream.next_event() == Exited(0, Outcome.EXITED)
        await api.aclose()

    assert frames == [b"\x00hi\n", remotecommand.CLOSE_STDIN]


async def test_a_terminal_is_resized_and_its_end_of_input_is_a_control_d(tmp_path: Path) -> None:
    frames: list[bytes] = []
    pty = Pty(term="xterm", size=WindowSize(cols=132, rows=43))

    async def script(peer: Peer) -> None:
        peer.send(READY)
        frames.extend([await peer.receive_data(), await peer.receive_data(), await peer.receive_data()])
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(None, pty), ALICE, apis.told_to_nobody) as stream:
            await stream.send(Resized(WindowSize(cols=80, rows=24)))
            await stream.send(InputClosed())
            assert await stream.next_event() == Exited(0, Outcome.EXITED)
        await api.aclose()

    # the size of the start is sent too: a container without stty would have none otherwise
    assert frames == [b'\x04{"Width":132,"Height":43}', b'\x04{"Width":80,"Height":24}', b"\x00\x04"]


async def test_the_request_names_the_person_their_groups_and_the_container(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        peer.send(READY)
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody):
            pass
        await api.aclose()

    request = server.requests[0]
    assert request.startswith("GET /api/v1/namespaces/shop/pods/web/exec?command=sh&command=-c&")
    assert "&stdin=true&stdout=true&stderr=true&tty=false&container=app HTTP/1.1\r\n" in request
    assert "Impersonate-User: bastion:alice\r\n" in request
    assert request.count("Impersonate-Group: ") == 2


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (
            "Internal error occurred: error sending request: dial tcp 10.0.0.7:10250: connect: connection refused",
            Code.CLUSTER_UNAVAILABLE,
            "the node of pod web cannot be reached",
        ),
        (
            "error dialing backend: dial tcp 10.0.0.7:10250: i/o timeout",
            Code.CLUSTER_UNAVAILABLE,
            "the node of pod web",
        ),
        (
            'Internal error occurred: unable to upgrade connection: container not found ("app")',
            Code.TARGET_NOT_RUNNING,
            "container app of pod web is not running",
        ),
    ],
)
@pytest.mark.parametrize("upgraded", [True, False])
async def test_what_is_wrong_with_the_node_or_the_container_is_said_before_and_after_the_upgrade(
    tmp_path: Path, said: str, code: Code, words: str, *, upgraded: bool
) -> None:
    async def script(peer: Peer) -> None:
        peer.send(remotecommand.CONNECTED)
        await ends_all_at_once(peer, remotecommand.failure_status(said))

    refusal = response("500 Internal Server Error", json.dumps({"message": said}).encode())
    async with raw_exec(tmp_path, script, lambda _request: None if upgraded else refusal) as server:
        api = await api_for(server)
        with pytest.raises(BastionError, match=words) as caught:
            async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody):
                pass
        await api.aclose()

    assert caught.value.code in ({code, Code.STREAM_BROKEN} if upgraded else {code})


async def test_a_container_with_another_sh_is_not_listened_to_for_ever(tmp_path: Path) -> None:
    """As a hostile image has one: what ends leftovers asks it for one line, and it never ends."""

    async def script(peer: Peer) -> None:
        while True:
            peer.send(b"\x01" + bytes(32768))
            await peer.writer.drain()

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        with pytest.raises(BastionError, match="says what our program never does") as ended:
            await apis.pods_by(api).reap(TARGET, MARKER, lingering=False)
        await api.aclose()

    assert ended.value.code is Code.STREAM_BROKEN


async def test_what_a_container_says_before_it_is_ready_is_not_kept_without_bound(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while True:
            peer.send(b"\x02" + bytes(32768))
            await peer.writer.drain()

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            event = await stream.next_event()
            assert isinstance(event, Output)
            assert event.stream is Stream.STDERR
            assert stream._queued <= 4 * pod_stream.QUEUE_LIMIT
        await api.aclose()


async def test_another_pod_of_that_name_is_never_started_in(tmp_path: Path) -> None:
    async def script(_peer: Peer) -> None:
        raise AssertionError("not asked")

    async with raw_exec(tmp_path, script, pods=(pod("uid-2"),)) as server:
        api = await api_for(server)
        with pytest.raises(BastionError, match="was replaced by another of that name") as refused:
            async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody):
                pass
        await api.aclose()

    assert refused.value.code is Code.TARGET_MISSING
    assert server.requests == []


@pytest.mark.parametrize("now", [pod(labels={"team": "payments"}), pod(hostNetwork=True)], ids=["labels", "network"])
@pytest.mark.parametrize("looks", [(), (pod(),)], ids=["before", "after"])
async def test_a_pod_that_is_not_any_more_what_the_policy_looked_at_is_not_entered(
    tmp_path: Path, now: dict[str, object], looks: tuple[dict[str, object], ...]
) -> None:
    frames: list[bytes] = []

    async def script(peer: Peer) -> None:
        peer.send(READY)
        while True:
            opcode, data = await peer.receive()
            if opcode == BINARY:
                frames.append(data)

    async with raw_exec(tmp_path, script, pods=(*looks, now)) as server:
        api = await api_for(server)
        with pytest.raises(BastionError, match="was changed meanwhile; connect again") as refused:
            async with apis.pods_by(api).exec(TARGET, asked(b"cat"), ALICE, apis.told_to_nobody) as stream:
                await stream.send(Input(b"secret"))
        await api.aclose()

    assert refused.value.code is (Code.STREAM_BROKEN if looks else Code.TARGET_MISSING)
    assert (len(server.requests), frames) == (len(looks), [])


class Mistaken(Catalog):
    """One with a mistake in it."""

    def freshness(self, kind: str, namespace: str) -> Freshness:
        raise KeyError(kind, namespace)


@pytest.mark.parametrize("mistake", ["an answer", "the catalogue"])
async def test_a_mistake_of_ours_ends_no_session_and_its_pod_goes_on_being_looked_after(
    tmp_path: Path, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchman, "LOOK_AROUND_S", 0.05)
    monkeypatch.setattr(watchman, "GRACE_S", 0.0)
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.send(READY)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await peer.receive()
        gone.set()

    surprising: dict[str, object] = {"metadata": {}}
    log = structlog.get_logger("test")
    looks = (pod(), pod(), surprising, surprising, pod("uid-2"))
    async with raw_exec(tmp_path, script, pods=looks) as server:
        api = await api_for(server)
        catalog = Mistaken(api, (), clock=SystemClock(), chance=lambda: 0.5, log=log)
        pods = apis.pods_by(api, catalog=catalog if mistake == "the catalogue" else None)
        async with pods.exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            async with asyncio.timeout(30):
                end = await stream.next_event()
        await asyncio.wait_for(gone.wait(), 30)
        await api.aclose()

    assert end == Exited(255, Outcome.BROKEN, "pod web was deleted, and another of that name is there now")
    assert server.looks > len(looks) - 1


async def test_a_pod_that_cannot_be_understood_is_not_entered(tmp_path: Path) -> None:
    async def script(_peer: Peer) -> None:
        raise AssertionError("not asked")

    async with raw_exec(tmp_path, script, pods=({"metadata": {}},)) as server:
        api = await api_for(server)
        with pytest.raises(BastionError, match="its answer is no pod") as refused:
            async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody):
                pass
        await api.aclose()

    assert refused.value.code is Code.CLUSTER_UNAVAILABLE
    assert server.requests == []


async def test_a_session_that_ended_well_stays_so_whatever_goes_wrong_beside_it(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        peer.send(READY)
        await peer.receive_data()
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script, pods=(pod(), pod(), {"metadata": {}})) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
            await eventually_asked(server, 3)
            await stream.send(Input(b"go on\n"))
            assert await stream.next_event() == Exited(0, Outcome.EXITED)
        assert stream._ws.closed
        await api.aclose()


async def test_a_pod_that_is_replaced_meanwhile_is_not_sent_a_byte(tmp_path: Path) -> None:
    frames: list[bytes] = []

    async def script(peer: Peer) -> None:
        peer.send(READY)
        while True:
            opcode, data = await peer.receive()
            if opcode == BINARY:
                frames.append(data)

    async with raw_exec(tmp_path, script, pods=(pod(), pod("uid-2"))) as server:
        api = await api_for(server)
        with pytest.raises(BastionError, match="nothing was sent to it") as ended:
            async with apis.pods_by(api).exec(TARGET, asked(b"cat"), ALICE, apis.told_to_nobody) as stream:
                await stream.send(Input(b"secret"))
        await api.aclose()

    assert ended.value.code is Code.STREAM_BROKEN
    assert len(server.requests) == 1
    assert frames == []


async def test_a_server_without_v5_is_spoken_to_in_v4_and_nothing_runs_twice(tmp_path: Path) -> None:
    started: list[str] = []
    frames: list[bytes] = []

    def answer(request: str) -> bytes | None:
        return response("403 Forbidden") if remotecommand.V5 in request else None

    async def script(peer: Peer) -> None:
        started.append(peer.request)
        peer.send(READY)
        frames.extend([await peer.receive_data(), await peer.receive_data()])
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script, answer) as server:
        api = await api_for(server)
        pods = apis.pods_by(api)
        for _ in range(2):
            async with pods.exec(TARGET, asked(b"cat"), ALICE, apis.told_to_nobody) as stream:
                assert stream.protocol == remotecommand.V4
                await stream.send(Input(b"a\xff"))
                await stream.send(InputClosed())
                assert await stream.next_event() == Exited(0, Outcome.EXITED)
        await api.aclose()

    assert len(started) == 2
    assert len(server.requests) == 3  # the refused one is not repeated
    assert frames[:2] == [b"\x00-a\\0377\n", b"\x00.\n"]


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.mark.parametrize("refusal", ["403 Forbidden", "400 Bad Request"])
async def test_one_refusal_of_v5_is_forgotten_after_a_while(tmp_path: Path, refusal: str) -> None:
    refusals = [response(refusal)]
    clock = Hand()

    async def script(peer: Peer) -> None:
        peer.send(READY)
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script, lambda _request: refusals.pop() if refusals else None) as server:
        api = await api_for(server)
        pods, spoken = apis.pods_by(api, clock=clock), []
        for later_s in (0, execs.V4_FOR_S - 1, 2, 0):
            clock.seconds += later_s
            async with pods.exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
                spoken.append(stream.protocol)
        await api.aclose()

    assert spoken == [remotecommand.V4, remotecommand.V4, remotecommand.V5, remotecommand.V5]
    assert len(server.requests) == 5


async def test_a_server_that_takes_v5_again_is_spoken_to_in_it_at_once(tmp_path: Path) -> None:
    refused = [remotecommand.V5]

    def answer(request: str) -> bytes | None:
        return response("403 Forbidden") if refused[0] in request else None

    async def script(peer: Peer) -> None:
        peer.send(READY)
        await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script, answer) as server:
        api = await api_for(server)
        pods, spoken = apis.pods_by(api, clock=Hand()), []
        for other in (remotecommand.V5, remotecommand.V4, "nothing"):
            refused[0] = other
            async with pods.exec(TARGET, asked(), ALICE, apis.told_to_nobody) as stream:
                spoken.append(stream.protocol)
        await api.aclose()

    assert spoken == [remotecommand.V4, remotecommand.V5, remotecommand.V5]
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        ("403 Forbidden", {"message": 'pods "web" is forbidden: '}, Code.CLUSTER_DENIED),
        ("404 Not Found", {"message": 'pods "web" not found'}, Code.TARGET_MISSING),
        ("400 Bad Request", {"message": "container nope is not valid for pod web"}, Code.TARGET_NOT_RUNNING),
        ("401 Unauthorized", {"message": "Unauthorized"}, Code.CLUSTER_UNAVAILABLE),
        ("500 Internal Server Error", {"message": "etcd"}, Code.CLUSTER_UNAVAILABLE),
        ("431 Request Header Fields Too Large", {}, Code.INVALID),
    ],
)
async def test_a_refusal_before_the_upgrade_keeps_the_servers_reason(
    tmp_path: Path, status: str, body: dict[str, str], code: Code
) -> None:
    async def script(_peer: Peer) -> None:
        raise AssertionError("not upgraded")

    async with raw_exec(tmp_path, script, lambda _request: response(status, json.dumps(body).encode())) as server:
        api = await api_for(server)
        with pytest.raises(BastionError) as caught:
            async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody):
                pass
        await api.aclose()

    assert caught.value.code is code
    assert body.get("message", "") in str(caught.value)


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "422 Unprocessable Entity"])
async def test_a_refusal_by_admission_is_told_in_the_words_of_its_rule(tmp_path: Path, status: str) -> None:
    async def script(_peer: Peer) -> None:
        raise AssertionError("not upgraded")

    message = 'admission webhook "exec.corp" denied the request: pods of tier=pci\nneed a \x1b[31mticket ' + "x" * 1000
    body = json.dumps({"message": message}).encode()
    async with raw_exec(tmp_path, script, lambda _request: response(status, body)) as server:
        api = await api_for(server)
        with pytest.raises(BastionError) as caught:
            async with apis.pods_by(api).exec(TARGET, asked(), ALICE, apis.told_to_nobody):
                pass
        await api.aclose()

    error = caught.value
    assert error.code is Code.CLUSTER_DENIED
    assert error.user_message.startswith(
        "the cluster's admission rules do not allow a session in pod web in namespace shop:"
        ' admission webhook "exec.corp" denied the request: pods of tier=pci need a \\x1b[31mticket xxx'
    )
    assert len(error.user_message) < 700
    assert error.detail == message


MISSING = 'exec failed: unable to start container process: exec: "sh": executable file not found in $PATH'

# What runtimes send where there is no sh: on which stream, and with which status.
NO_SHELL = {
    "containerd": [remotecommand.failure_status(MISSING)],
    "CRI-O with runc": [b"\x02ERRO[0000] " + MISSING.encode() + b"\n", remotecommand.exit_status(255)],
    "CRI-O with crun": [
        b'\x02{"msg":"executable file `sh` not found in $PATH: No such file or directory","level":"error"}\n',
        remotecommand.exit_status(127),
    ],
    "cri-dockerd": [
        b"\x01OCI runtime ",
        b"\x01exec failed: " + MISSING.encode() + b": unknown\r\n",
        remotecommand.exit_status(126),
    ],
}


@pytest.mark.parametrize("runtime", NO_SHELL)
async def test_where_there_is_no_shell_nobody_gets_one_and_nothing_is_looked_for(tmp_path: Path, runtime: str) -> None:
    async def script(peer: Peer) -> None:
        peer.send(remotecommand.CONNECTED)
        for frame in NO_SHELL[runtime]:
            peer.send(frame)
            await peer.writer.drain()
        await ends_all_at_once(peer, b"")

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        with pytest.raises(BastionError) as shell:
            async with apis.pods_by(api).exec(TARGET, asked(None), ALICE, apis.told_to_nobody):
                pass
        with pytest.raises(BastionError) as left:
            await apis.pods_by(api).reap(TARGET, MARKER, lingering=False)
        await api.aclose()

    assert (shell.value.code, left.value.code) == (Code.NO_SHELL, Code.NO_SHELL)
    assert "you can run a program of its image" in shell.value.user_message


async def test_a_program_that_says_what_a_runtime_says_is_a_program(tmp_path: Path) -> None:
    said = f"OCI runtime exec failed: {MISSING}\n".encode()

    async def script(peer: Peer) -> None:
        peer.send(READY)
        peer.send(b"\x01" + said)
        peer.send(b"\x02" + said)
        await ends_all_at_once(peer, remotecommand.exit_status(126))

    outputs, end = await collect(tmp_path, script)

    assert (said_on(outputs), said_on(outputs, Stream.STDERR)) == (said, said)
    assert end == Exited(126, Outcome.EXITED)


@pytest.mark.parametrize("rest", [b" here? no\n", b""])
@pytest.mark.parametrize("status", [0, 1])
async def test_a_shell_that_is_not_ours_and_begins_as_a_runtime_does_is_heard(
    tmp_path: Path, rest: bytes, status: int
) -> None:
    async def script(peer: Peer) -> None:
        peer.send(b"\x01OCI runtime exec failed")
        await peer.writer.drain()
        peer.send(b"\x01" + rest)
        await ends_all_at_once(peer, remotecommand.exit_status(status))

    outputs, end = await collect(tmp_path, script)

    assert said_on(outputs) == b"OCI runtime exec failed" + rest
    assert end == Exited(status, Outcome.EXITED)


@pytest.mark.parametrize("runtime", NO_SHELL)
async def test_a_container_without_a_shell_runs_a_program_of_its_own_by_argv(tmp_path: Path, runtime: str) -> None:
    async def script(peer: Peer) -> None:
        peer.send(remotecommand.CONNECTED)
        if "command=sh&" in peer.request:
            for frame in NO_SHELL[runtime]:
                peer.send(frame)
            await ends_all_at_once(peer, b"")
        else:
            peer.send(b"\x01" + await peer.receive_data())
            await ends_all_at_once(peer, remotecommand.exit_status(0))

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        async with apis.pods_by(api).exec(TARGET, asked(b"app --x 'a b'"), ALICE, apis.told_to_nobody) as stream:
            await stream.send(Input(b"kept"))  # whatever was sent while the first try failed
            assert await stream.next_event() == Output(Stream.STDOUT, b"\x00kept")
        await api.aclose()

    assert "?command=app&command=--x&command=a%20b&stdin" in server.requests[1]


async def test_a_path_that_would_arrive_as_another_is_never_sent(tmp_path: Path) -> None:
    async def script(_peer: Peer) -> None:
        raise AssertionError("not asked")

    async with raw_exec(tmp_path, script) as server:
        api = await api_for(server)
        for namespace, pod in [("..", "web"), ("shop", ".."), (".", "web"), ("", "web")]:
            target = Target(namespace=namespace, pod=pod, pod_uid="u", container="c")
            with pytest.raises(BastionError) as caught:
                async with apis.pods_by(api).exec(target, asked(), ALICE, apis.told_to_nobody):
                    pass
            assert caught.value.code is Code.INVALID
        await api.aclose()

    assert server.requests == []


def test_opcodes_of_the_raw_server_are_those_of_rfc_6455() -> None:
    assert (BINARY, CLOSE, PING, PONG) == (2, 8, 9, 10)
