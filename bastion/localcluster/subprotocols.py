"""Which WebSocket subprotocols there are and how each writes its frames; used by execs and portforward.

Facts: tests/data/kube-wire (exec-*), KEP-4006 for v5. The older ones differ in the words of the status frame.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.localcluster.statuses import to_json
from bastion.localcluster.websocket import Opcode, frame
from bastion.wire import remotecommand
from bastion.wire.remotecommand import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Subprotocol:
    """One way to speak exec over a WebSocket.

    name: "" is a client that offered none.
    generation: 1, 4 or 5.
    text: frames are text, a digit for the channel and base64, instead of bytes.
    """

    name: str
    generation: int
    text: bool = False

    @property
    def half_close(self) -> bool:
        """Whether a client can end stdin."""
        return self.generation >= 5  # noqa: PLR2004 - v5 brought it (KEP-4006)

    def message(self, channel: int, data: bytes) -> tuple[Opcode, tuple[bytes, ...]]:
        """One frame of exec as a WebSocket message: its opcode and the parts of its payload."""
        if self.text:
            return Opcode.TEXT, (bytes([ord("0") + channel]), base64.b64encode(data))
        return Opcode.BINARY, (bytes([channel]), data)

    def parse(self, message: bytes) -> bytes:
        """A text message as channel byte and data; an empty one if it cannot be understood."""
        try:
            return bytes([message[0] - ord("0")]) + base64.b64decode(message[1:])
        except (ValueError, IndexError, binascii.Error):
            return b""

    def exited(self, code: int, argv: Sequence[str]) -> bytes:
        """What is written at the end of a process, as whole WebSocket frames."""
        match self.generation:
            case 5:
                return self._framed(remotecommand.exit_status(code)[1:])
            case 4:
                return self._framed(_v4_exit_status(code, argv))
            case _:
                return self._framed(_exit_message(code, argv).encode()) if code else b""

    def failed(self, cause: str) -> bytes:
        """What is written if nothing could be started, as whole WebSocket frames."""
        match self.generation:
            case 5:  # the API server wraps what the kubelet wrapped already (recorded)
                return self._framed(remotecommand.failure_status(f"Internal error occurred: {cause}")[1:])
            case 4:
                return self._framed(remotecommand.failure_status(cause)[1:])
            case _:
                return self._framed(f"Internal error occurred: {cause}".encode())

    def _framed(self, data: bytes) -> bytes:
        opcode, parts = self.message(Channel.STATUS, data)
        return frame(opcode, parts)


V5 = Subprotocol(name=remotecommand.V5, generation=5)
V4 = Subprotocol(name=remotecommand.V4, generation=4)
LEGACY = (
    V4,
    Subprotocol(name="v4.base64.channel.k8s.io", generation=4, text=True),
    Subprotocol(name="channel.k8s.io", generation=1),
    Subprotocol(name="base64.channel.k8s.io", generation=1, text=True),
)
UNNAMED = Subprotocol(name="", generation=1)

PORT_FORWARD = LEGACY[:2]
"""What port-forward speaks (recorded: v5 and the others are refused)."""

NEW_SERVER = (V5, *LEGACY)
OLD_SERVER = LEGACY


def choose(offers: Iterable[str], known: Sequence[Subprotocol]) -> Subprotocol | None:
    """The subprotocol to speak: v5 in whatever order, else the first that is known; None means a refusal."""
    names = tuple(offers)
    if not names:
        return UNNAMED
    if V5 in known and V5.name in names:
        return V5
    return next((one for name in names for one in known if one.name == name), None)


def _exit_message(code: int, argv: Sequence[str]) -> str:
    said = f"error executing command [{' '.join(argv)}], exit code {code}"
    return f"command terminated with non-zero exit code: {said}"


def _v4_exit_status(code: int, argv: Sequence[str]) -> bytes:
    if code == 0:
        return remotecommand.exit_status(0)[1:]
    status = {
        "metadata": {},
        "status": "Failure",
        "message": _exit_message(code, argv),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
    return to_json(status)
