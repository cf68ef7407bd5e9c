"""Opens exec streams: which subprotocol, which refusal means what; used by pods.kube."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from bastion.errors import BastionError, Code
from bastion.events import Exited
from bastion.model import Outcome, Stream
from bastion.pods import boot, kinds
from bastion.pods.api import Refused, not_accepted
from bastion.pods.connecting import unavailable
from bastion.pods.stream import Around, WebSocketExec
from bastion.wire import remotecommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.model import KubeIdentity, Target
    from bastion.pods.api import Api
    from bastion.pods.boot import Boot
    from bastion.ports import Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Which streams of a process are wanted; output always is. patiently: an API server that is busy is waited for."""

    stdin: bool
    tty: bool
    patiently: bool = True


MOST_SAID = 64 * 1024
"""Bytes that a program of ours may say, on both streams."""


class Execs:
    """Exec streams of one cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._protocols = (remotecommand.V5, remotecommand.V4)

    async def open(  # noqa: PLR0913, PLR0917 - what an exec consists of
        self,
        target: Target,
        plan_of: Callable[[str], Boot],
        identity: KubeIdentity,
        streams: Streams,
        around: Around | None = None,
        tell: Tell | None = None,
    ) -> WebSocketExec:
        """Open a stream in v5, or in v4 where v5 is refused before anything runs.

        What worked is tried first the next time, so that an upgraded API server, or a proxy that once refused
        for a reason of its own, is spoken to in v5 again.
        """

        async def opened(protocol: str) -> WebSocketExec:
            return await self._open_in(protocol, target, plan_of(protocol), identity, streams, around, tell)

        first, second = self._protocols
        try:
            return await opened(first)
        except _OtherProtocolError as error:
            try:
                stream = await opened(second)
            except _OtherProtocolError:
                _raise_refusal(error.refused, target)
            self._protocols = (second, first)
            return stream

    async def run(
        self, target: Target, argv: tuple[str, ...], identity: KubeIdentity, *, patiently: bool = True
    ) -> tuple[bytes, Exited]:
        """Run a program of ours to its end, without input; what it said on stdout, and how it ended.

        It says little; a container that has another program of that name is not listened to for longer.
        Raises BastionError (CLUSTER_*, TARGET_*).
        """
        plan = boot.Boot(argv=argv, ready=b"", framed_input=False)
        stream = await self.open(target, lambda _: plan, identity, Streams(stdin=False, tty=False, patiently=patiently))
        said, heard = b"", 0
        try:
            while not isinstance(event := await stream.next_event(), Exited):
                heard += len(event.data)
                if heard > MOST_SAID:
                    raise BastionError(
                        Code.STREAM_BROKEN,
                        f"container {target.container} of pod {target.pod} says what our program never does",
                    )
                said += event.data if event.stream is Stream.STDOUT else b""
        finally:
            await stream.close()
        if event.outcome is Outcome.BROKEN:
            check(event.message, target)
        return said, event

    async def _open_in(  # noqa: PLR0913, PLR0917 - as above
        self,
        protocol: str,
        target: Target,
        plan: Boot,
        identity: KubeIdentity,
        streams: Streams,
        around: Around | None,
        tell: Tell | None,
    ) -> WebSocketExec:
        query = [
            *(("command", argument) for argument in plan.argv),
            ("stdin", str(streams.stdin).lower()),
            ("stdout", "true"),
            ("stderr", str(not streams.tty).lower()),
            ("tty", str(streams.tty).lower()),
            ("container", target.container),
        ]
        path = (*kinds.path(kinds.POD, target.namespace, target.pod), "exec")
        try:
            ws = await self._api.open_stream(path, query, protocol, identity, tell, patiently=streams.patiently)
        except Refused as refused:
            if refused.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN} and not refused.body:
                raise _OtherProtocolError(refused) from refused
            _raise_refusal(refused, target)
        return WebSocketExec(ws, boot=plan, tty=streams.tty, around=around or Around())


class _OtherProtocolError(Exception):
    """Refused before anything ran, perhaps for the subprotocol: an unknown one is an empty 403 (recorded)."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


def _raise_refusal(refused: Refused, target: Target) -> NoReturn:
    message = refused.message
    match refused.status:
        case HTTPStatus.FORBIDDEN:
            raise BastionError(
                Code.CLUSTER_DENIED,
                f"the cluster's own RBAC does not let you into pod {target.pod} in namespace {target.namespace}",
                detail=message,
            )
        case HTTPStatus.NOT_FOUND:
            raise BastionError(
                Code.TARGET_MISSING,
                f"there is no pod {target.pod} in namespace {target.namespace} any more",
                detail=message,
            )
        case HTTPStatus.BAD_REQUEST:
            raise BastionError(Code.TARGET_NOT_RUNNING, message)
        case HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            raise BastionError(Code.INVALID, "the command is too long for the API server", detail=message)
        case HTTPStatus.UNAUTHORIZED:
            raise not_accepted(message)
        case status:
            check(message, target)
            raise unavailable(f"HTTP {status} {message}", status=status)


_NODE_AWAY = re.compile(r"error dialing backend|\bdial tcp \S+:10250\b|while dialing|No agent available", re.IGNORECASE)
_NOT_RUNNING = re.compile(r"container not found|container \S+ is not running|cannot exec in a (?:stopped|deleted)")


def is_node_away(message: str) -> bool:
    """Whether an API server's error tells that it cannot reach the pod's node.

    It comes instead of the upgrade, or as a status after it, from the translator of WebSockets (KEP-4006).
    """
    return _NODE_AWAY.search(message) is not None


def check(message: str, target: Target) -> None:
    """Raise what an error means of the target itself: BastionError (CLUSTER_UNAVAILABLE, TARGET_NOT_RUNNING)."""
    if is_node_away(message):
        raise BastionError(Code.CLUSTER_UNAVAILABLE, node_away(target), detail=message)
    if _NOT_RUNNING.search(message):
        raise BastionError(
            Code.TARGET_NOT_RUNNING, f"container {target.container} of pod {target.pod} is not running", detail=message
        )


def node_away(target: Target) -> str:
    """The sentence for that."""
    return (
        f"the node of pod {target.pod}{f' ({target.node})' if target.node else ''} cannot be reached by the API server"
    )
