"""The embedded cluster against what a real Kubernetes 1.36 was recorded to say (tests/data/kube-wire)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.cluster import running_cluster, running_cluster_sync
from support.rawclient import BINARY, Ending, Frame, RawClient, bearer, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster
    from support.rawclient import Answer, Query

RECORDINGS = Path(__file__).parent.parent / "data" / "kube-wire"
EXECS = sorted(path.stem for path in RECORDINGS.glob("exec-*.json") if path.stem != "exec-ephemeral")
FORWARDS = sorted(path.stem for path in RECORDINGS.glob("portforward-*.json"))
WATCHES = sorted(path.stem for path in RECORDINGS.glob("pods-watch-*.json"))
ANSWERS = sorted(
    path.stem
    for pattern in (
        "deployment-get",
        "events-list",
        "metrics-absent",
        "namespace*",
        "pod-get*",
        "pod-log*",
        "pods-list-*",
        "replicasets-list",
        "sar-*",
        "tokenreview-bad",
        "unauthenticated-*",
        "version",
    )
    for path in RECORDINGS.glob(f"{pattern}.json")
)
HEADERS = ("content-type", "cache-control")
STATUS = 3

EXEC_ID = re.compile(r"[0-9a-f]{64}")
PROMPT = re.compile(rb"bash-\d+\.\d+[#$] ")
"""bash's version and the user are those of the machine."""


def test_the_recordings_are_there() -> None:
    assert len(EXECS) == 26
    assert len(ANSWERS) == 25
    assert len(FORWARDS) == 4
    assert len(WATCHES) == 3
    alone = ["ephemeral-add", "ephemeral-status", "exec-ephemeral", "tokenreview-good"]
    assert sorted([*EXECS, *ANSWERS, *FORWARDS, *WATCHES, *alone]) == sorted(
        path.stem for path in RECORDINGS.glob("*.json")
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Without a metrics server, as the recorded one."""
    with running_cluster_sync(tmp_path_factory.mktemp("cluster"), "--no-metrics") as running:
        yield running


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_the_recorded_one(name: str, cluster: Cluster) -> None:
    recorded = load(name)
    request, expected = recorded["request"], recorded["response"]
    body = json.dumps(request["body"]).encode() if request["body"] else b""
    async with connect(cluster) as client:
        answer = await client.request(
            request["method"], request["path"], query_of(request), headers_of(name, request, cluster), body
        )
    assert answer.status == expected["status"]
    assert_headers(answer.headers, expected)
    if "text" in expected:
        assert answer.body.decode() == expected["text"]
    else:
        assert seen_by_a_client(json.loads(answer.body)) == seen_by_a_client(expected["json"])


@pytest.mark.parametrize("name", WATCHES)
async def test_a_watch_is_the_recorded_one(name: str, cluster: Cluster) -> None:
    recorded = load(name)
    request, expected = recorded["request"], recorded["response"]
    async with connect(cluster) as client:
        listed = await client.request("GET", request["path"], headers=[bearer(cluster)])
        version = json.loads(listed.body)["metadata"]["resourceVersion"]
        query: Query = [
            (key, version if (key, name) == ("resourceVersion", "pods-watch-from-list") else value)
            for key, value in request["query"]
        ]
        answer = await client.request("GET", request["path"], query, headers_of(name, request, cluster))
    assert answer.status == expected["status"]
    assert_headers(answer.headers, expected)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [seen_event(one) for one in lines] == [seen_event(one) for one in expected["json_lines"]]
    if lines and lines[-1]["type"] == "BOOKMARK":
        assert lines[-1]["object"]["metadata"]["resourceVersion"] == version


def seen_event(event: dict[str, Any]) -> Any:
    value = event["object"]
    match event["type"]:
        case "ERROR":
            return {**value, "message": re.sub(r"\(\d+\)", "(OLDEST)", value["message"])}
        case "BOOKMARK":
            return {**value, "metadata": {**value["metadata"], "resourceVersion": ""}}
        case kind:
            return kind, seen_by_a_client(value)


async def upgraded(client: RawClient, name: str, recorded: dict[str, Any], cluster: Cluster) -> Answer:
    """The answer to a recorded upgrade, whose status and subprotocol are those that were recorded."""
    request, expected = recorded["request"], recorded["response"]
    answer = await client.upgrade(
        request["path"], query_of(request), headers_of(name, request, cluster), request["subprotocols"]
    )
    assert answer.status == expected["status"]
    assert answer.headers.get("sec-websocket-protocol") == expected.get("subprotocol")
    return answer


@pytest.mark.parametrize("name", FORWARDS)
async def test_a_port_forward_is_the_recorded_one(name: str, cluster: Cluster) -> None:
    recorded = load(name)
    expected = recorded["response"]
    async with connect(cluster) as client:
        answer = await upgraded(client, name, recorded, cluster)
        if answer.status != 101:
            assert_headers(answer.headers, expected)
            assert answer.body.decode() == expected["text"]
            return
        frames = [(one["from"], base64.b64decode(one["binary"])) for one in recorded["frames"]]
        for _, data in frames[:2]:
            assert await client.frame() == Frame(BINARY, data)
        for sender, data in frames:
            if sender == "client":
                await client.send_frame(data)
        rest, ending = await client.frames_to_end()
    wanted = [data for sender, data in frames[2:] if sender == "server"]
    assert forwarded([one.data for one in rest]) == forwarded(wanted)
    assert ending == Ending(code=1000, close_notify=True, fin=True)


def forwarded(frames: list[bytes]) -> dict[int, bytes]:
    """What each channel said in all, without the time of day, the sandbox and its network."""
    channels: dict[int, bytes] = {}
    for data in frames:
        channels[data[0]] = channels.get(data[0], b"") + data[1:]
    drop = rb"Date: [^\r]*|[0-9a-f]{64}|cni-[0-9a-f-]{36}"
    return {channel: re.sub(drop, b"", said) for channel, said in channels.items()}


async def test_a_token_of_an_account_is_reviewed_as_recorded(cluster: Cluster) -> None:
    recorded = load("tokenreview-good")
    request, expected = recorded["request"], recorded["response"]
    (audience,) = request["body"]["spec"]["audiences"]
    wanted = {"metadata": {}, "spec": {"audiences": [audience]}}
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    async with connect(cluster) as client:
        made = await client.request(
            "POST", f"{accounts}/default/token", [], [bearer(cluster)], json.dumps(wanted).encode()
        )
        token = json.loads(made.body)["status"]["token"]
        body = {**request["body"], "spec": {**request["body"]["spec"], "token": token}}
        answer = await client.request(
            request["method"], request["path"], [], [bearer(cluster)], json.dumps(body).encode()
        )
    assert (made.status, answer.status) == (201, expected["status"])
    assert_headers(answer.headers, expected)
    assert json.loads(answer.body)["spec"] == body["spec"]
    assert seen_status(answer.body) == seen_status(json.dumps(expected["json"]))


def seen_status(body: bytes | str) -> Any:
    """The status of a TokenReview without the ids of that day."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", json.dumps(json.loads(body)["status"]))


async def test_an_ephemeral_container_is_added_and_entered_as_recorded(tmp_path: Path) -> None:
    added, later, entered = (load(name) for name in ("ephemeral-add", "ephemeral-status", "exec-ephemeral"))
    (asked,) = added["request"]["body"]["spec"]["ephemeralContainers"]
    body = {"spec": {"ephemeralContainers": [{**asked, "image": "local/busybox:1"}]}}
    headers = list(added["request"]["headers"].items())
    async with running_cluster(tmp_path) as cluster, connect(cluster) as client:
        credentials = [bearer(cluster), *headers]
        path = added["request"]["path"]
        answer = await client.request("PATCH", path, [], credentials, json.dumps(body).encode())
        assert answer.status == added["response"]["status"]
        assert_headers(answer.headers, added["response"])
        assert seen_ephemeral(json.loads(answer.body)) == seen_ephemeral(added["response"]["json"])
        pod = await client.request("GET", later["request"]["path"], headers=[bearer(cluster)])
        assert seen_ephemeral(json.loads(pod.body)) == seen_ephemeral(later["response"]["json"])
        request = entered["request"]
        upgraded = await client.upgrade(request["path"], query_of(request), [bearer(cluster)], request["subprotocols"])
        assert upgraded.status == entered["response"]["status"]
        frames, ending = await client.frames_to_end()
    said = spoken([one.data for one in frames])
    wanted = spoken([base64.b64decode(one["binary"]) for one in entered["frames"]])
    assert said[STATUS] == wanted[STATUS]
    assert said[1].splitlines()[0] == wanted[1].splitlines()[0]  # what follows lists a file system that is not emulated
    assert ending == Ending(code=1000, close_notify=True, fin=True)


def seen_ephemeral(pod: dict[str, Any]) -> Any:
    """The recorded patch's container, in spec and status; another one had been added and ended before."""
    (spec,) = (one for one in pod["spec"]["ephemeralContainers"] if one["name"] == "debug-rec")
    (status,) = (one for one in pod["status"]["ephemeralContainerStatuses"] if one["name"] == "debug-rec")
    return (
        {**spec, "image": ""},
        list(pod["spec"])[list(pod["spec"]).index("containers") :][:2],
        {key: status[key] for key in ("name", "lastState", "ready", "restartCount")},
        list(status["state"]),
        sorted(set(status) - {"user"}),
        pod["metadata"]["generation"] > 1,
        pod["status"]["phase"],
    )


@pytest.mark.parametrize("name", EXECS)
async def test_an_exec_is_the_recorded_one(name: str, cluster: Cluster) -> None:
    recorded = load(name)
    expected = recorded["response"]
    async with connect(cluster) as client:
        answer = await upgraded(client, name, recorded, cluster)
        if answer.status == 101:
            await assert_conversation(client, recorded)
            return
        assert_headers(answer.headers, expected)
        if "json" in expected:
            assert json.loads(answer.body) == expected["json"]
        else:
            assert answer.body.decode() == expected["text"]
        if expected["headers"].get("Connection") == "close":
            assert await client.read(1) == b""


async def assert_conversation(client: RawClient, recorded: dict[str, Any]) -> None:
    """Play the client's frames at the points where they were recorded, and compare what each channel said."""
    frames = [(one["from"], base64.b64decode(one["binary"])) for one in recorded["frames"]]
    first = await client.frame()
    assert first == Frame(BINARY, frames[0][1]) == Frame(BINARY, b"\x01")
    expected, said = b"", b""  # of channel 1, which is the only one that talks before the client does
    for sender, data in frames[1:]:
        if sender == "client":
            said += await said_until(client, len(expected) - len(said))
            await client.send_frame(data)
        elif data[:1] == b"\x01":
            expected += data[1:]
    if recorded["close"]["by"] == "client":  # v4 has no end of input: nothing more comes
        assert said == expected
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.frame()
        return
    rest, ending = await client.frames_to_end()
    wanted = [data for sender, data in frames if sender == "server"]
    got = [first.data, b"\x01" + said, *(frame.data for frame in rest)]
    assert spoken(got) == spoken(wanted)
    assert {frame.opcode for frame in rest} == {BINARY}
    assert rest[-1].data[0] == STATUS
    assert [frame.data[0] for frame in rest].count(STATUS) == 1
    assert ending == Ending(code=1000, close_notify=True, fin=True)


async def said_until(client: RawClient, count: int) -> bytes:
    said = b""
    while len(said) < count:
        frame = await client.frame()
        assert frame is not None
        assert frame.data[0] == 1
        said += frame.data[1:]
    return said


def spoken(frames: list[bytes]) -> dict[int, bytes]:
    """What each channel said in all, without what differs from run to run."""
    channels: dict[int, bytes] = {}
    for data in frames:
        channels[data[0]] = channels.get(data[0], b"") + data[1:]
    if 1 in channels:
        channels[1] = PROMPT.sub(b"bash-5.2# ", channels[1])
    if STATUS in channels:  # byte for byte, but for the id of the exec
        channels[STATUS] = EXEC_ID.sub("EXEC-ID", channels[STATUS].decode()).encode()
    return channels


def load(name: str) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((RECORDINGS / f"{name}.json").read_text())
    return recorded


def query_of(request: dict[str, Any]) -> Query:
    return [(key, value) for key, value in request["query"]]


def headers_of(name: str, request: dict[str, Any], cluster: Cluster) -> list[tuple[str, str]]:
    """The recorded headers; the recordings leave out the admin's token."""
    token = [] if name.startswith("unauthenticated-") else [bearer(cluster)]
    return [*token, *request["headers"].items()]


def assert_headers(headers: dict[str, str], expected: dict[str, Any]) -> None:
    recorded = {key.lower(): value for key, value in expected["headers"].items()}
    assert {key: headers.get(key) for key in HEADERS} == {key: recorded.get(key) for key in HEADERS}


# --- what a client uses of an object -------------------------------------------------------------------------------


def seen_by_a_client(value: dict[str, Any]) -> Any:
    """Of an object, the part that the bastion and kubectl's tables go by; other answers whole.

    Names, labels, the default-container annotation, owners; a pod's containers, node and restart policy; a workload's
    selector, replicas and template labels; phases, conditions, container states and replica counts. Of uids, times,
    addresses and versions: that they are there.
    """
    if "gitVersion" in value:
        return {**value, "gitCommit": ""}
    kind = value["kind"]
    if kind.endswith("List"):
        page = {key: part for key, part in value["metadata"].items() if key not in ("resourceVersion", "continue")}
        return (
            kind,
            value["apiVersion"],
            page,
            start_of(value["metadata"]),
            [seen_happening(one) if kind == "EventList" else seen_object(one) for one in value["items"]],
        )
    if kind in ("SubjectAccessReview", "TokenReview"):
        return {**value, "metadata": {}}
    if kind == "Status":
        return value
    return kind, value["apiVersion"], seen_object(value)


def start_of(metadata: dict[str, Any]) -> str:
    token = metadata.get("continue", "")
    start = str(json.loads(base64.urlsafe_b64decode(token + "=="))["start"]) if token else ""
    return re.sub(r"\.[0-9a-f]{16}\0", ".SUFFIX\0", start)  # of the name of an event


def seen_happening(event: dict[str, Any]) -> dict[str, Any]:
    """Of an event: whom it is about, who tells it, and which keys there are. What happened is that day's."""
    assert re.fullmatch(r"web\.[0-9a-f]{16}", event["metadata"]["name"])
    return {
        "about": {key: event["involvedObject"][key] for key in ("kind", "namespace", "name", "apiVersion")},
        "by": event["reportingComponent"],
        "keys": sorted(event),
        "empty": sorted(key for key in event if event[key] is None),
        "source": sorted(event["source"]),
    }


def seen_object(value: dict[str, Any]) -> dict[str, Any]:
    metadata, spec, status = value["metadata"], value["spec"], value["status"]
    default = "kubectl.kubernetes.io/default-container"
    return {
        "names": [metadata.get(key) for key in ("name", "generateName", "namespace")],
        "labels": metadata.get("labels"),
        "default container": metadata.get("annotations", {}).get(default),
        "owners": [{**one, "uid": bool(one["uid"])} for one in metadata.get("ownerReferences", [])],
        "there": [key for key in ("uid", "resourceVersion", "creationTimestamp") if metadata.get(key)],
        "spec": {key: spec.get(key) for key in ("replicas", "selector", "restartPolicy", "finalizers")},
        "node": bool(spec.get("nodeName")),
        "containers": [one["name"] for one in spec.get("containers", [])],
        "template": spec.get("template", {}).get("metadata"),
        "phase": status.get("phase"),
        "counts": {key: status[key] for key in status if key.lower().endswith("replicas")},
        "conditions": [(one["type"], one["status"], one.get("reason")) for one in status.get("conditions", [])],
        "states": [
            (one["name"], list(one["state"]), one["ready"], one["started"])
            for one in status.get("containerStatuses", [])
        ],
        "address": bool(status.get("podIP")),
    }
