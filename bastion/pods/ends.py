"""How an exec's stream ended, by its status and by what a runtime said (pure); used by pods.stream and its siblings.

That a program could not be started is said in the status by containerd (recorded: exec-distroless-sh). With CRI-O it is
runc or crun who says so, on the program's stderr, with cri-dockerd it is Docker, on its stdout; and the status is then
that of a process, 1 or 126 or 127 or 255.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.events import Exited
from bastion.model import Outcome

if TYPE_CHECKING:
    from bastion.wire.remotecommand import ExitStatus

LONGEST_COMPLAINT = 4096
"""Bytes of a first line that may still become a complaint."""

_CANNOT_START = re.compile(r"unable to start container process|failed to start exec|exec failed")
_NO_SHELL = re.compile(r'exec: \\*"sh\\*": |executable file `sh` not found')

# What stands before the words: Docker's, runc's to a file and to a terminal (logrus), crun's as JSON and as text.
_HEADS = (
    b"OCI runtime exec failed: ",
    b'time="',
    b"ERRO[",
    b"FATA[",
    b'{"msg":',
    b"exec failed: ",
    b"executable file `",
)
_COMPLAINT = re.compile(
    r"^(?:OCI runtime exec failed: "
    r'|time="[^"]*" level=(?:error|fatal) msg="'
    r"|(?:ERRO|FATA)\[[0-9]{1,9}\] "
    r'|\{"msg": ?"'
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]{1,30} )?"
    r"(?:exec failed: |executable file `).+",
    re.MULTILINE,
)
_COLOURS = re.compile(rb"\x1b(?:\[[0-9;]{0,9}(?:m|$)|$)")


def broken(reason: str) -> Exited:
    """The end of a stream that ended without a status."""
    return Exited(255, Outcome.BROKEN, reason)


def ended(status: ExitStatus) -> Exited:
    """The end of a stream that ended with a status frame."""
    if status.code is not None:
        return Exited(status.code, Outcome.EXITED)
    if _CANNOT_START.search(status.message):
        return Exited(126, Outcome.NOT_STARTED, _in_short(status.message))
    return broken(status.message or "the container runtime ended the stream without saying why")


def begun(end: Exited, *said: bytes) -> Exited:
    """The end of a program of which nothing of its own was heard, as it is to be understood.

    said: what came on each of its streams. A complaint of the runtime there is why it never began.
    """
    if end.outcome is Outcome.EXITED and end.status:
        for one in said:
            match = _COMPLAINT.search(_text(one))
            if match is not None:
                return Exited(126, Outcome.NOT_STARTED, _in_short(_words(match[0])))
    return end


def may_complain(said: bytes) -> bool:
    """Whether what came first on stdout is, or may become, a runtime's complaint: it is not to be taken for output."""
    text = _COLOURS.sub(b"", said[:LONGEST_COMPLAINT])
    first, line_end, _ = text.partition(b"\n")
    if line_end:
        return _COMPLAINT.match(_text(first)) is not None
    return len(said) < LONGEST_COMPLAINT and any(text.startswith(head) or head.startswith(text) for head in _HEADS)


def never_started(end: Exited) -> BastionError:
    """The error for a stream that ended before its process ran."""
    if end.outcome is Outcome.NOT_STARTED and _NO_SHELL.search(end.message):
        return BastionError(Code.NO_SHELL, "this container has no shell", detail=end.message)
    if end.outcome is Outcome.BROKEN:
        return BastionError(Code.STREAM_BROKEN, end.message)
    return BastionError(Code.NOT_STARTED, end.message or f"it ended at once with status {end.status}")


def _text(said: bytes) -> str:
    return _COLOURS.sub(b"", said).decode(errors="replace").replace("\r\n", "\n")


def _words(complaint: str) -> str:
    """What is said in a line of a log, without what its format adds."""
    try:
        return str(json.loads(complaint)["msg"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return complaint.replace('\\"', '"').removesuffix('"')


def _in_short(message: str) -> str:
    """What a container runtime says, without the layers that pass it on."""
    return f"the container could not start this: {message.rsplit(': unable to start container process: ', 1)[-1]}"
