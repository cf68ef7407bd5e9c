"""Asciicasts: what the format asks for, and that the real player plays them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model import WindowSize
from bastion.wire import asciicast
from bastion.wire.transcript import Frame, Kind, TranscriptError

PLAYER = "asciinema-player@3.18.0"
PLAY = Path(__file__).parent / "play.mjs"


def cast(frames: list[Frame]) -> list[Any]:
    events = asciicast.Events()
    lines = [line for frame in frames for line in events.lines(frame)]
    return [json.loads(line) for line in [*lines, *events.end()]]


def out(at_us: int, data: bytes, kind: Kind = Kind.STDOUT) -> Frame:
    return Frame(at_us=at_us, kind=kind, data=data)


def test_the_header_says_columns_before_rows() -> None:
    line = asciicast.header(WindowSize(cols=132, rows=43), started_at_s=1700000000, title="a\x1b]0;b\nc", term="xterm")

    assert json.loads(line) == {
        "version": 2,
        "width": 132,
        "height": 43,
        "timestamp": 1700000000,
        "title": "a ]0;b c",
        "env": {"TERM": "xterm"},
    }
    assert "\n" not in line


def test_a_resize_says_columns_before_rows() -> None:
    assert cast([out(1_500_000, b"132x43", Kind.RESIZE)]) == [[1.5, "r", "132x43"]]


def test_a_bad_resize_is_an_error() -> None:
    with pytest.raises(TranscriptError):
        cast([out(0, b"rows", Kind.RESIZE)])


def test_times_keep_their_microseconds_in_long_sessions() -> None:
    [line] = asciicast.Events().lines(out(86_400_000_001 * 100, b"x"))

    assert line == '[8640000.000100, "o", "x"]'


def test_a_character_cut_in_two_is_whole_in_the_frame_that_ends_it() -> None:
    euro = "€".encode()

    assert cast([out(1, euro[:1]), out(2, euro[1:2]), out(3, euro[2:] + b"!")]) == [[3e-06, "o", "€!"]]


def test_streams_do_not_finish_each_others_characters() -> None:
    events = cast([out(1, b"\xe2\x82"), out(2, b"e", Kind.STDERR), out(3, b"\xac")])

    assert events == [[2e-06, "o", "e"], [3e-06, "o", "€"]]


def test_bytes_that_are_not_utf_8_become_replacement_characters_and_nothing_is_left_over() -> None:
    assert cast([out(1, b"a\xffb\xe2\x82")]) == [[1e-06, "o", "a\ufffdb"], [1e-06, "o", "\ufffd"]]


@given(st.binary(max_size=200), st.integers(1, 9))
def test_however_output_is_cut_the_text_is_the_same(data: bytes, step: int) -> None:
    frames = [out(at, data[at : at + step]) for at in range(0, len(data), step)]

    assert "".join(event[2] for event in cast(frames)) == data.decode(errors="replace")


@given(
    st.lists(st.tuples(st.integers(0, 1 << 45), st.sampled_from(Kind), st.binary(max_size=40)), max_size=12).map(sorted)
)
def test_any_frames_are_lines_of_json_in_order_or_a_clean_error(happened: list[tuple[int, Kind, bytes]]) -> None:
    try:
        events = cast([out(at_us, data, kind) for at_us, kind, data in happened])
    except TranscriptError:
        assert any(kind is Kind.RESIZE for _, kind, _ in happened)
        return
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    assert {event[1] for event in events} <= set("oirm")
    assert not any("\x1b" in event[2] or "\n" in event[2] for event in events if event[1] == "m")


@given(st.text(max_size=40), st.text(max_size=20), st.integers(0, 65535), st.integers(0, 65535))
def test_any_header_is_one_line_of_json(title: str, term: str, cols: int, rows: int) -> None:
    line = asciicast.header(WindowSize(cols=cols, rows=rows), started_at_s=0, title=title, term=term)

    assert len(line.splitlines()) == 1
    assert line.isascii()
    header = json.loads(line)
    assert (header["width"], header["height"]) == (cols, rows)
    assert not any(ord(char) < 0x20 for char in header["title"])


@pytest.fixture(scope="session")
def player(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real player's package, installed beside the virtual environment so that the next run finds it."""
    folder = Path(__file__).resolve().parents[2] / ".venv" / "npm"
    if not folder.parent.is_dir():
        folder = tmp_path_factory.mktemp("npm")
    package = folder / "node_modules" / "asciinema-player"
    if not package.is_dir():
        folder.mkdir(exist_ok=True)
        subprocess.run(
            ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--silent", PLAYER],
            check=True,
            timeout=120,
        )
    return package


def test_the_real_player_plays_it(player: Path, tmp_path: Path) -> None:
    recording = tmp_path / "session.cast"
    events = asciicast.Events()
    frames = [
        out(100_000, b"$ echo gr\xc3"),
        out(200_000, b"\xbc\xc3\x9fe\r\n"),
        out(300_000, b"130x40", Kind.RESIZE),
        out(400_000, b"warning \xff\r\n", Kind.STDERR),
        out(450_000, b"ls -l", Kind.MARKER),
        out(500_000, b"q", Kind.INPUT),
        out(1_250_000, b"exit 0", Kind.MARKER),
    ]
    head = asciicast.header(WindowSize(cols=100, rows=30), started_at_s=1700000000, title="alice", term="xterm")
    lines = [head, *(line for frame in frames for line in events.lines(frame)), *events.end()]
    recording.write_text("".join(f"{line}\n" for line in lines))

    result = subprocess.run(["node", PLAY, player, recording], check=True, timeout=60, capture_output=True, text=True)
    played = json.loads(result.stdout)

    assert played == {
        "duration": 1.25,
        "size": [100, 30],
        "markers": [[0.45, "ls -l"], [1.25, "exit 0"]],
        "output": "$ echo grüße\r\nwarning \ufffd\r\n",
        "input": "q",
        "resizes": [[130, 40]],
        "ended": True,
    }
