"""Transcripts: what goes in comes out, and what is stored may be hostile."""

from __future__ import annotations

import dataclasses
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bastion.model import WindowSize
from bastion.records import Chunk
from bastion.wire.transcript import (
    MAX_RAW,
    Frame,
    Kind,
    TranscriptError,
    decode_frames,
    encode_frame,
    frames_of,
    pack,
    parse_resize,
    resize_data,
    unpack,
)
from support.examples import examples

frames = st.lists(
    st.builds(
        lambda gap, kind, data: (gap, kind, data),
        st.integers(0, 1 << 40),
        st.sampled_from(Kind),
        st.binary(max_size=300),
    ),
    max_size=30,
)


def timed(gaps: list[tuple[int, Kind, bytes]]) -> list[Frame]:
    at_us, made = 0, []
    for gap, kind, data in gaps:
        at_us += gap
        made.append(Frame(at_us=at_us, kind=kind, data=data))
    return made


def packed(run: list[Frame], seq: int) -> Chunk:
    since, raw = run[0].at_us, b""
    for frame in run:
        raw += encode_frame(frame, since)
        since = frame.at_us
    return pack("s", seq, raw, t0_us=run[0].at_us, t1_us=since)


@given(frames, st.data())
@examples(200)
def test_frames_come_out_as_they_went_in_however_they_are_cut_into_chunks(
    gaps: list[tuple[int, Kind, bytes]], data: st.DataObject
) -> None:
    whole = timed(gaps)
    chunks: list[Chunk] = []
    left = whole
    while left:
        length = data.draw(st.integers(1, len(left)))
        chunks.append(packed(left[:length], len(chunks)))
        left = left[length:]

    assert [frame for seq, chunk in enumerate(chunks) for frame in frames_of(chunk, seq)] == whole


@given(st.binary(max_size=400))
@examples(500)
def test_garbage_is_a_clean_error_or_frames(raw: bytes) -> None:
    try:
        found = list(decode_frames(raw, 0))
    except TranscriptError:
        return

    since, again = 0, b""
    for frame in found:
        again += encode_frame(frame, since)
        since = frame.at_us
    assert list(decode_frames(again, 0)) == found


@given(st.binary(max_size=400), st.integers(-1, 1000), st.sampled_from(["zstd", "raw", "lzma"]))
@examples(300)
def test_a_garbage_chunk_is_a_clean_error_or_of_the_length_it_says(data: bytes, raw_len: int, codec: str) -> None:
    chunk = Chunk(session="s", seq=0, t0_us=0, t1_us=0, raw_len=raw_len, codec=codec, data=data)
    try:
        assert len(unpack(chunk)) == raw_len
    except TranscriptError:
        assert codec != "raw" or len(data) != raw_len


def bomb(size: int, *, says: int | None) -> Chunk:
    data = zstandard.ZstdCompressor(write_content_size=says is None).compress(bytes(size))
    return Chunk(session="s", seq=0, t0_us=0, t1_us=0, raw_len=size if says is None else says, codec="zstd", data=data)


@pytest.mark.parametrize(
    "chunk",
    [
        bomb(64 * MAX_RAW, says=None),
        bomb(64 * MAX_RAW, says=100),
        bomb(1000, says=999),
        dataclasses.replace(bomb(1000, says=None), raw_len=999),
        dataclasses.replace(bomb(1000, says=None), raw_len=1001),
        dataclasses.replace(bomb(1000, says=None), data=bomb(1000, says=None).data + b"more"),
        dataclasses.replace(bomb(1000, says=None), data=bomb(1000, says=None).data[:-1]),
        dataclasses.replace(bomb(1000, says=None), codec="raw"),
        dataclasses.replace(bomb(1000, says=None), raw_len=-1),
        dataclasses.replace(bomb(1000, says=None), raw_len=1 << 62),
    ],
)
def test_a_hostile_chunk_is_refused_without_the_memory_it_asks_for(chunk: Chunk) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TranscriptError):
            unpack(chunk)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_RAW
    finally:
        tracemalloc.stop()


def test_a_missing_chunk_is_noticed() -> None:
    chunk = packed([Frame(at_us=0, kind=Kind.STDOUT, data=b"x")], 1)
    with pytest.raises(TranscriptError, match="chunk 0 is missing"):
        frames_of(chunk, 0)


def test_sizes_are_columns_first() -> None:
    size = WindowSize(cols=132, rows=43)

    assert resize_data(size) == b"132x43"
    assert parse_resize(b"132x43") == size


@pytest.mark.parametrize(
    "data", [b"", b"x", b"80", b"80x", b"x24", b"-1x2", b"80x24x3", b"999999999999x1", b"\xef\xbc\x98x4"]
)
def test_what_is_no_size_is_an_error(data: bytes) -> None:
    with pytest.raises(TranscriptError):
        parse_resize(data)


@given(st.binary(max_size=12) | st.from_regex(rb"[0-9]{0,6}x?[0-9]{0,6}", fullmatch=True))
@examples(300)
def test_any_bytes_are_a_size_that_comes_back_or_a_clean_error(data: bytes) -> None:
    try:
        size = parse_resize(data)
    except TranscriptError:
        return
    assert parse_resize(resize_data(size)) == size


@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 3))
@examples(200)
def test_a_garbage_chunk_read_as_frames_is_a_clean_error_or_frames_within_its_bytes(
    data: bytes, seq: int, expected: int
) -> None:
    chunk = Chunk(session="s", seq=seq, t0_us=5, t1_us=5, raw_len=len(data), codec="raw", data=data)
    try:
        found = list(frames_of(chunk, expected))
    except TranscriptError:
        return
    assert seq == expected
    assert sum(len(frame.data) + 3 for frame in found) <= len(data)
    assert [frame.at_us for frame in found] == sorted(frame.at_us for frame in found)
