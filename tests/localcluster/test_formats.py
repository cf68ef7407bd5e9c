"""The formats that the embedded cluster reads and writes, each alone: SPDY, Protocol Buffers, patches, tables, logs."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bastion.localcluster import kinds, patches, protobuf, spdy, tables
from bastion.localcluster.http import Request
from bastion.localcluster.logs import MAX_BYTES, MAX_LINE, Log, LogOptions
from bastion.localcluster.statuses import ApiError
from support.examples import examples

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WORDS = st.text(alphabet=st.characters(codec="latin-1", exclude_characters="\0"), max_size=20)
HEADERS = st.dictionaries(WORDS.map(str.lower), WORDS, max_size=4)


# --- SPDY ----------------------------------------------------------------------------------------------------------


def test_the_dictionary_is_the_one_that_clients_name_by_its_checksum() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.integers(1, 99), HEADERS, st.booleans()),
            st.tuples(st.just("data"), st.integers(1, 99), st.binary(max_size=200), st.booleans()),
            st.tuples(st.just("reset"), st.integers(1, 99)),
            st.tuples(st.just("ping"), st.integers(0, 2**32 - 1)),
            st.tuples(st.just("go away")),
        ),
        max_size=8,
    ),
    st.integers(1, 50),
)
def test_frames_come_back_however_they_are_cut(said: list[tuple[object, ...]], size: int) -> None:
    encoder, decoder = spdy.Encoder(), spdy.Decoder()
    data = b""
    wanted: list[spdy.Frame] = []
    for one in said:
        match one:
            case ("open", int(stream), dict(headers), bool(fin)):
                data += encoder.opened(stream, headers, fin=fin)
                wanted.append(spdy.Opened(stream=stream, headers=lowered(headers), fin=fin))
            case ("data", int(stream), bytes(sent), bool(fin)):
                data += encoder.data(stream, sent, fin=fin)
                wanted.append(spdy.Data(stream=stream, data=sent, fin=fin))
            case ("reset", int(stream)):
                data += encoder.reset(stream)
                wanted.append(spdy.Reset(stream=stream))
            case ("ping", int(number)):
                data += encoder.ping(number)
                wanted.append(spdy.Ping(number=number))
            case _:
                data += encoder.go_away()
                wanted.append(spdy.GoAway())
    assert [frame for at in range(0, len(data), size) for frame in decoder.feed(data[at : at + size])] == wanted


def lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_long_data_is_cut_into_frames_of_which_the_last_ends_the_stream() -> None:
    frames = spdy.Decoder().feed(spdy.Encoder().data(1, bytes(100_000), fin=True))
    assert [len(one.data) for one in frames if isinstance(one, spdy.Data)] == [32768, 32768, 32768, 1696]
    assert [one.fin for one in frames if isinstance(one, spdy.Data)] == [False, False, False, True]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_spdy_decoder(data: bytes) -> None:
    for head in (b"", struct.pack("!HHI", 0x8003, 1, len(data)), struct.pack("!HHI", 0x8003, 8, len(data))):
        with contextlib.suppress(spdy.SpdyError):
            assert isinstance(spdy.Decoder().feed(head + data), list)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!II", 1, spdy.MAX_FRAME + 1),
        struct.pack("!HHI", 0x8002, 1, 0),
        struct.pack("!HHI", 0x8003, 1, 2) + b"ab",
        struct.pack("!HHI", 0x8003, 1, 30) + bytes(30),
        struct.pack("!HHI", 0x8003, 6, 2) + b"ab",
    ],
)
def test_what_is_no_spdy_is_an_error(data: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        spdy.Decoder().feed(data)


# --- Protocol Buffers ----------------------------------------------------------------------------------------------


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def enveloped(message: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, b"v1")) + field(2, message) + field(3, b"") + field(4, b"")


@given(st.text(max_size=200), st.lists(st.text(max_size=9), max_size=3), st.integers(0, 2**63 - 1))
def test_a_request_in_protocol_buffers_is_read(namespace: str, audiences: list[str], seconds: int) -> None:
    access = field(2, field(1, field(1, namespace.encode()) + field(5, b"pods") + field(9, b"unknown")))
    spec = {"resourceAttributes": {"namespace": namespace, "resource": "pods"}}
    assert protobuf.decode(enveloped(access), "SelfSubjectAccessReview") == {"metadata": {}, "spec": spec}
    token = field(2, b"".join(field(1, one.encode()) for one in audiences) + field(4, seconds))
    wanted = {**({"audiences": audiences} if audiences else {}), "expirationSeconds": seconds}
    assert protobuf.decode(enveloped(token), "TokenRequest")["spec"] == wanted


@given(st.binary(max_size=100))
def test_no_bytes_break_the_reader_of_protocol_buffers(data: bytes) -> None:
    for body in (data, enveloped(data), enveloped(field(2, data)), b"k8s\0" + data):
        with contextlib.suppress(ValueError):
            assert set(protobuf.decode(body, "SubjectAccessReview")) == {"metadata", "spec"}


# --- patches -------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "name", "$x"]), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "name"]), JSON, max_size=3)


@examples(500)
@example(value={}, patch={"a": [{"a": None, "b": None, "name": ""}]}, strategic=True)
@given(value=OBJECTS, patch=OBJECTS, strategic=st.booleans())
def test_a_patch_leaves_both_as_they_were_and_repeats_to_the_same(
    *, value: dict[str, object], patch: dict[str, object], strategic: bool
) -> None:
    before = json.dumps([value, patch])
    with contextlib.suppress(ApiError):
        once = patches.merged(value, patch, strategic=strategic)
        assert patches.merged(once, patch, strategic=strategic) == once
    assert json.dumps([value, patch]) == before


def test_null_takes_out_and_objects_are_merged() -> None:
    value = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert patches.merged(value, {"a": {"b": None}, "d": [2]}, strategic=False) == {"a": {"c": 2}, "d": [2]}


def test_named_things_are_merged_by_name_and_new_ones_come_first() -> None:
    value = {"list": [{"name": "x", "kept": 1}]}
    patch = {"list": [{"name": "y"}, {"name": "x", "new": 2}], "$setElementOrder/list": [{"name": "y"}]}
    wanted = {"list": [{"name": "y"}, {"name": "x", "kept": 1, "new": 2}]}
    assert patches.merged(value, patch, strategic=True) == wanted


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("application/json-patch+json", b"[]", 415),
        (patches.MERGE, b"[]", 400),
        (patches.MERGE, b"{", 400),
        (patches.MERGE, b'{"metadata":null}', 400),
        (patches.STRATEGIC, b'{"$patch":"delete"}', 400),
        (patches.MERGE, b'{"a":' * 200 + b"1" + b"}" * 200, 400),
    ],
)
def test_a_patch_that_cannot_be_applied_is_refused(media_type: str, body: bytes, status: int) -> None:
    request = Request(method="PATCH", target="/", headers=(("content-type", media_type),), body=body)
    with pytest.raises(ApiError) as refused:
        patches.apply({"metadata": {}}, request)
    assert refused.value.response.status == status


# --- tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (3600, "60m"),
        (4 * 3600, "4h"),
        (4 * 3600 + 60, "4h1m"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d"),
        (-5, "0s"),
    ],
)
def test_an_age_is_told_as_kubectl_tells_it(seconds: int, said: str) -> None:
    assert tables.age((NOON - timedelta(seconds=seconds)).isoformat(), NOON) == said


def test_a_pod_that_waits_or_ended_shows_why_and_how_often() -> None:
    ended = {"terminated": {"reason": "Error", "finishedAt": "2026-11-23T11:59:30Z"}}
    status = {
        "ready": False,
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": ended,
    }
    pod = {
        "kind": "Pod",
        "metadata": {"name": "web", "creationTimestamp": "2026-11-23T11:55:00Z"},
        "spec": {"containers": [{}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }
    (row,) = tables.table(kinds.POD, pod, NOON)["rows"]
    assert row["cells"][:5] == ["web", "0/1", "CrashLoopBackOff", "2 (30s ago)", "5m"]


# --- logs ----------------------------------------------------------------------------------------------------------


async def said_by(log: Log, options: LogOptions) -> bytes:
    return b"".join([data async for data in log.read(options)])


@given(st.lists(st.binary(max_size=30), max_size=10))
async def test_a_log_gives_back_what_was_written(pieces: list[bytes]) -> None:
    log = Log()
    for piece in pieces:
        log.write(NOON, piece)
    log.end(NOON)
    assert await said_by(log, LogOptions(follow=True)) == b"".join(pieces)


async def test_a_log_can_be_asked_for_its_end_its_beginning_and_its_times() -> None:
    log = Log()
    for number in range(5):
        log.write(NOON + timedelta(seconds=number), b"line %d\n" % number)
    assert await said_by(log, LogOptions(tail=2)) == b"line 3\nline 4\n"
    assert await said_by(log, LogOptions(tail=0)) == b""
    assert await said_by(log, LogOptions(since=NOON + timedelta(seconds=4))) == b"line 4\n"
    assert await said_by(log, LogOptions(limit=10)) == b"line 0\nlin"
    assert await said_by(log, LogOptions(tail=1, timestamps=True)) == b"2026-11-23T12:00:04.000000000Z line 4\n"


async def test_a_log_is_bounded_and_so_are_its_lines() -> None:
    log = Log()
    log.write(NOON, b"x" * (MAX_LINE + 1))
    assert len(await said_by(log, LogOptions())) == MAX_LINE
    for number in range(MAX_BYTES // 1000 + 100):
        log.write(NOON, b"%0999d\n" % number)
    kept = await said_by(log, LogOptions())
    assert MAX_BYTES - 1000 <= len(kept) <= MAX_BYTES
    assert kept.endswith(b"%0999d\n" % (MAX_BYTES // 1000 + 99))
