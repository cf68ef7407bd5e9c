"""The exec frames, against recordings of a real Kubernetes 1.36 and against anything at all."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model import WindowSize
from bastion.wire import remotecommand
from bastion.wire.remotecommand import ExitStatus

WIRE = Path(__file__).parent.parent / "data" / "kube-wire"


def frames(name: str, sender: str) -> list[bytes]:
    recorded = json.loads((WIRE / f"{name}.json").read_text())["frames"]
    return [base64.b64decode(frame["binary"]) for frame in recorded if frame["from"] == sender]


@pytest.mark.parametrize(
    ("recording", "code"),
    [
        ("exec-v5-exit0", 0),
        ("exec-v4-exit0", 0),
        ("exec-v5-streams-exit3", 3),
        ("exec-v5-killed", 137),
        ("exec-v5-tty-shell", 7),
        ("exec-distroless-sh", None),
        ("exec-v5-no-such-command", None),
        ("exec-v4-no-such-command", None),
    ],
)
def test_a_recorded_status_says_how_the_process_ended(recording: str, code: int | None) -> None:
    last = frames(recording, "server")[-1]

    assert last[0] == remotecommand.Channel.STATUS
    assert remotecommand.parse_status(last[1:]).code == code


@pytest.mark.parametrize(
    ("recording", "code"), [("exec-v5-exit0", 0), ("exec-v5-streams-exit3", 3), ("exec-v5-killed", 137)]
)
def test_our_status_frames_are_the_recorded_ones_byte_for_byte(recording: str, code: int) -> None:
    assert remotecommand.exit_status(code) == frames(recording, "server")[-1]


@pytest.mark.parametrize("recording", ["exec-v5-no-such-command", "exec-v4-no-such-command", "exec-distroless-sh"])
def test_our_failure_frames_are_the_recorded_ones_byte_for_byte(recording: str) -> None:
    recorded = frames(recording, "server")[-1]
    message = json.loads(recorded[1:])["details"]["causes"][0]["message"]

    assert remotecommand.failure_status(message) == recorded


def test_the_first_frame_and_the_end_of_input_are_the_recorded_ones() -> None:
    assert frames("exec-v5-exit0", "server")[0] == remotecommand.CONNECTED
    assert frames("exec-v5-stdin-eof", "client")[-1] == remotecommand.CLOSE_STDIN


def test_a_resize_is_the_recorded_one_width_first() -> None:
    assert remotecommand.resize(WindowSize(cols=80, rows=24)) in frames("exec-v5-tty-shell", "client")


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_a_resize_comes_back(cols: int, rows: int) -> None:
    size = WindowSize(cols=cols, rows=rows)

    assert remotecommand.parse_resize(remotecommand.resize(size)[1:]) == size


@given(st.integers(0, 255))
def test_a_status_comes_back(code: int) -> None:
    assert remotecommand.parse_status(remotecommand.exit_status(code)[1:]).code == code


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["status", "reason", "details", "causes"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_have_a_status_and_never_success_by_accident(data: bytes) -> None:
    status = remotecommand.parse_status(data)

    assert isinstance(status, ExitStatus)
    assert status.code != 0 or json.loads(data)["status"] == "Success"


SIZES = st.dictionaries(
    st.sampled_from(["Width", "Height", "width", ""]),
    st.integers() | st.floats() | st.booleans() | st.text(max_size=5) | st.none() | st.lists(st.integers(), max_size=2),
).map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=200) | SIZES)
def test_any_bytes_are_a_size_or_none(data: bytes) -> None:
    size = remotecommand.parse_resize(data)

    assert size is None or 0 <= size.cols <= 65535 >= size.rows >= 0


@pytest.mark.parametrize(
    "causes", [[], [{"reason": "ExitCode", "message": "256"}], [{"reason": "ExitCode", "message": "-1"}], "x", [3]]
)
def test_a_failure_without_a_code_of_a_process_has_no_code(causes: object) -> None:
    said = {"status": "Failure", "reason": "NonZeroExitCode", "message": "m", "details": {"causes": causes}}

    assert remotecommand.parse_status(json.dumps(said).encode()) == ExitStatus(code=None, message="m")
