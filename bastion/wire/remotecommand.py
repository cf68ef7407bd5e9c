"""Frames of a Kubernetes exec over WebSocket, v5 and v4; used by pods.stream (client) and localcluster (server).

One binary message is one frame: a channel byte, then data. Facts from a
recorded Kubernetes 1.36 (tests/data/kube-wire) and KEP-4006.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum

from bastion.model import WindowSize

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"

MAX_SERVER_FRAME = 32_769
"""The largest message a kubelet sends, channel byte included (recorded)."""

CONNECTED = b"\x01"
"""The server's first frame: an empty one on stdout."""

CLOSE_STDIN = b"\xff\x00"
"""v5 only: the client's end of file on channel 0. v4 has no way to say it."""


class Channel(IntEnum):
    """The first byte of every frame."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4
    CLOSE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """What a status frame says.

    code: the process's exit code; None if no process was started or the frame cannot be understood.
    message: the server's words, "" on success.
    """

    code: int | None
    message: str = ""


def resize(size: WindowSize) -> bytes:
    """The frame that sets the terminal's size."""
    return b"\x04" + json.dumps({"Width": size.cols, "Height": size.rows}, separators=(",", ":")).encode()


def parse_resize(data: bytes) -> WindowSize | None:
    """A resize frame's data (without its channel byte); None if it is not one."""
    try:
        value = json.loads(data)
        cols, rows = int(value["Width"]), int(value["Height"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not (0 <= cols < 1 << 16 and 0 <= rows < 1 << 16):
        return None
    return WindowSize(cols=cols, rows=rows)


def exit_status(code: int) -> bytes:
    """The status frame of a process that ended with `code` (the server's side)."""
    if code == 0:
        return _status({"metadata": {}, "status": "Success"})
    said = f"command terminated with exit code {code}"
    return _status(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: {said}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )


def failure_status(message: str) -> bytes:
    """The status frame of a process that could not be started (the server's side)."""
    return _status(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"Internal error occurred: {message}",
            "reason": "InternalError",
            "details": {"causes": [{"message": message}]},
            "code": 500,
        }
    )


def parse_status(data: bytes) -> ExitStatus:
    """What a status frame's data (without its channel byte) says; tolerates any bytes.

    Legacy subprotocols send plain text there, so text that is not JSON is a failure message.
    """
    text = data.decode(errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ExitStatus(code=None, message=text)
    if not isinstance(value, dict):
        return ExitStatus(code=None, message=text)
    if value.get("status") == "Success":
        return ExitStatus(code=0)
    message = str(value.get("message") or text)
    if value.get("reason") == "NonZeroExitCode":
        return ExitStatus(code=_exit_code(value), message=message)
    return ExitStatus(code=None, message=message)


_CODE = re.compile(r"[0-9]{1,3}", re.ASCII)


def _exit_code(value: dict[str, object]) -> int | None:
    details = value.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else []:
        if isinstance(cause, dict) and cause.get("reason") == "ExitCode":
            code = str(cause.get("message"))
            if _CODE.fullmatch(code) and int(code) <= 255:  # noqa: PLR2004 - a process status is one byte
                return int(code)
    return None


def _status(value: dict[str, object]) -> bytes:
    return b"\x03" + json.dumps(value, separators=(",", ":")).encode()
