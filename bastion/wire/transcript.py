"""Transcripts: timed frames of a session to the bytes of stored chunks and back; used by recorder and cli.audit_replay.

A frame is a varint (microseconds since the frame before it, or since the
chunk's first), one byte for the kind, a varint (length) and that many bytes. Varints are
those of Protocol Buffers: seven bits a byte, the lowest first. A chunk is a run of
frames, compressed where that helps. What is stored may be hostile: decoding
costs no more memory than `MAX_RAW` and answers garbage with TranscriptError.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import zstandard

from bastion.model import WindowSize
from bastion.records import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RAW = 1024 * 1024
"""The largest chunk there is, uncompressed, in bytes."""

_LEVEL = 1  # fast; higher levels gain little on terminal output
_MAX_WINDOW = MAX_RAW  # what a compressed chunk may make the decompressor allocate
_MAX_VARINT_BYTES = 9  # 63 bits


class Kind(StrEnum):
    """What a frame holds, as the byte that stands for it."""

    STDOUT = "o"
    STDERR = "e"
    INPUT = "i"
    RESIZE = "r"  # data is COLSxROWS
    MARKER = "m"  # data is a line of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Something that happened in a session, `at_us` microseconds after its start."""

    at_us: int
    kind: Kind
    data: bytes


class TranscriptError(ValueError):
    """Stored bytes that are no transcript; the message says why."""


def resize_data(size: WindowSize) -> bytes:
    """The data of a RESIZE frame."""
    return str(size).encode("ascii")


def parse_resize(data: bytes) -> WindowSize:
    """The size in a RESIZE frame. Raises TranscriptError."""
    cols, separator, rows = data.partition(b"x")
    if not (separator and cols.isdigit() and rows.isdigit() and len(data) <= 2 * 5 + 1):
        raise TranscriptError("a resize is not COLSxROWS")
    return WindowSize(cols=int(cols), rows=int(rows))


# --- frames --------------------------------------------------------------------


def encode_frame(frame: Frame, since_us: int) -> bytes:
    """A frame's bytes, after one at `since_us`. A clock that ran backwards counts as standing still."""
    delta = max(0, frame.at_us - since_us)
    return b"".join((_varint(delta), frame.kind.value.encode(), _varint(len(frame.data)), frame.data))


def decode_frames(raw: bytes, t0_us: int) -> Iterator[Frame]:
    """The frames of an uncompressed chunk that begins at `t0_us`. Raises TranscriptError at the first bad byte."""
    at_us, offset = t0_us, 0
    while offset < len(raw):
        delta, offset = _parse_varint(raw, offset)
        kind, offset = _parse_kind(raw, offset)
        length, offset = _parse_varint(raw, offset)
        end = offset + length
        if end > len(raw):
            raise TranscriptError("a frame is cut off")
        at_us += delta
        yield Frame(at_us=at_us, kind=kind, data=raw[offset:end])
        offset = end


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte, the eighth says that more follow
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _parse_varint(raw: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(raw[offset : offset + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, offset + index + 1
    raise TranscriptError("a number is cut off or too long")


def _parse_kind(raw: bytes, offset: int) -> tuple[Kind, int]:
    try:
        return Kind(chr(raw[offset])), offset + 1
    except (IndexError, ValueError):
        raise TranscriptError("a frame is of no known kind") from None


# --- chunks --------------------------------------------------------------------


def pack(session: str, seq: int, frames: bytes, *, t0_us: int, t1_us: int) -> Chunk:
    """Encoded frames as a chunk to be stored, compressed if that makes it smaller. Takes about 5 ms per MiB."""
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(frames)
    codec, data = ("zstd", packed) if len(packed) < len(frames) else ("raw", frames)
    return Chunk(session=session, seq=seq, t0_us=t0_us, t1_us=t1_us, raw_len=len(frames), codec=codec, data=data)


def unpack(chunk: Chunk) -> bytes:
    """The encoded frames of a stored chunk. Raises TranscriptError if it is not what it says it is."""
    if not 0 <= chunk.raw_len <= MAX_RAW:
        raise TranscriptError(f"chunk {chunk.seq} says it has {chunk.raw_len} bytes; no chunk has more than {MAX_RAW}")
    if chunk.codec not in {"raw", "zstd"}:
        raise TranscriptError(f"chunk {chunk.seq} is compressed in an unknown way")
    raw = chunk.data if chunk.codec == "raw" else _decompress(chunk)
    if len(raw) != chunk.raw_len:
        raise TranscriptError(f"chunk {chunk.seq} has {len(raw)} bytes and says {chunk.raw_len}")
    return raw


def _decompress(chunk: Chunk) -> bytes:
    try:
        parameters = zstandard.get_frame_parameters(chunk.data)
        # The size in the frame is what the decompressor allocates, so it is looked at before.
        if parameters.content_size != chunk.raw_len or parameters.window_size > _MAX_WINDOW:
            raise TranscriptError(f"chunk {chunk.seq} does not decompress to the {chunk.raw_len} bytes it says")
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        return decompressor.decompress(chunk.data, max_output_size=chunk.raw_len, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise TranscriptError(f"chunk {chunk.seq} cannot be decompressed: {error}") from None


def frames_of(chunk: Chunk, expected_seq: int) -> Iterator[Frame]:
    """The frames of a stored chunk, which must be the next of its session. Raises TranscriptError."""
    if chunk.seq != expected_seq:
        raise TranscriptError(f"chunk {expected_seq} is missing")
    return decode_frames(unpack(chunk), chunk.t0_us)
