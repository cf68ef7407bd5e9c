"""Opens exec streams: which subprotocol, which refusal means what; used by pods.kube."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from bastion.errors import BastionError, Code
from bastion.events import Exited
from bastion.model import Outcome, Stream
from bastion.pods import boot, ends, fate, kinds
from bastion.pods.answers import (
    NoAnswerError,
    Refused,
    is_by_admission,
    is_node_away,
    not_accepted,
    not_admitted,
    unavailable,
)
from bastion.pods.requests import Request
from bastion.pods.stream import Around, WebSocketExec
from bastion.wire import remotecommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.model import KubeIdentity, Target
    from bastion.pods.api import Api
    from bastion.pods.boot import Boot
    from bastion.ports import Clock, Tell

MOST_SAID = 64 * 1024
"""Bytes that a program of ours may say, on both streams."""


V4_FOR_S = 60.0
"""For how long v4 is tried first once v5 was refused, so that most starts cost one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An exec: where, as whom, and with which streams; output always is wanted.

    tell: shows it to a person who waits while the API server is asked again.
    patiently: an API server that is busy is waited for.
    """

    target: Target
    identity: KubeIdentity
    stdin: bool = False
    tty: bool = False
    tell: Tell | None = None
    patiently: bool = True


class Execs:
    """Exec streams of one cluster."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._v4_until = clock.monotonic()

    async def open(self, call: Call, plan_of: Callable[[str], Boot], around: Around | None = None) -> WebSocketExec:
        """Open a stream in v5, or in v4 where v5 is refused before anything runs.

        plan_of: what is started, by the subprotocol that is spoken.
        What worked instead is tried first for a while and not for good: every API server speaks v4, so nothing would
        ever lead back to v5 once a proxy has refused it for a reason of its own, or the API server is upgraded.
        Raises BastionError (CLUSTER_*, TARGET_*, INVALID).
        """
        first, second = remotecommand.V5, remotecommand.V4
        if self._clock.monotonic() < self._v4_until:
            first, second = second, first
        try:
            return await self._open_in(first, call, plan_of(first), around)
        except _OtherProtocolError as error:
            try:
                stream = await self._open_in(second, call, plan_of(second), around)
            except _OtherProtocolError:
                _raise_refusal(error.refused, call.target)
            self._v4_until = self._clock.monotonic() + (V4_FOR_S if second == remotecommand.V4 else 0.0)
            return stream

    async def run(self, call: Call, argv: tuple[str, ...]) -> tuple[bytes, Exited]:
        """Run a program of ours to its end, without input; what it said on stdout, and how it ended.

        It says little; a container that has another program of that name is not listened to for longer.
        Raises BastionError (CLUSTER_*, TARGET_*).
        """
        target = call.target
        stream = await self.open(call, lambda _: boot.Boot(argv=argv, ready=b"", framed_input=False))
        said = {Stream.STDOUT: b"", Stream.STDERR: b""}
        try:
            while not isinstance(event := await stream.next_event(), Exited):
                said[event.stream] += event.data
                if sum(map(len, said.values())) > MOST_SAID:
                    raise BastionError(
                        Code.STREAM_BROKEN,
                        f"container {target.container} of pod {target.pod} says what our program never does",
                    )
        finally:
            await stream.close()
        if event.outcome is Outcome.BROKEN:
            check(event.message, target)
        return said[Stream.STDOUT], ends.begun(event, *said.values())

    async def _open_in(self, protocol: str, call: Call, plan: Boot, around: Around | None) -> WebSocketExec:
        target = call.target
        query = [
            *(("command", argument) for argument in plan.argv),
            ("stdin", str(call.stdin).lower()),
            ("stdout", "true"),
            ("stderr", str(not call.tty).lower()),
            ("tty", str(call.tty).lower()),
            ("container", target.container),
        ]
        request = Request(
            path=(*kinds.path(kinds.POD, target.namespace, target.pod), "exec"),
            query=query,
            identity=call.identity,
            tell=call.tell,
            patiently=call.patiently,
        )
        try:
            ws = await self._api.open_stream(request, protocol)
        except NoAnswerError as error:
            raise silent(error, target) from error
        except Refused as refused:
            if refused.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN} and not refused.body:
                raise _OtherProtocolError(refused) from refused
            _raise_refusal(refused, target)
        return WebSocketExec(ws, boot=plan, tty=call.tty, around=around or Around())


class _OtherProtocolError(Exception):
    """Refused before anything ran, perhaps for the subprotocol: an unknown one is an empty 403 (recorded)."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


def _raise_refusal(refused: Refused, target: Target) -> NoReturn:
    message = refused.message
    match refused.status:
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR and is_by_admission(message):
            raise not_admitted(message, f"a session in pod {target.pod} in namespace {target.namespace}")
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


def silent(error: NoAnswerError, target: Target) -> BastionError:
    """The error for a request about a pod that nothing came of: the API server itself had answered just before."""
    return BastionError(error.code, fate.node_silent(target), detail=error.detail)


_NOT_RUNNING = re.compile(r"container not found|container \S+ is not running|cannot exec in a (?:stopped|deleted)")


def check(message: str, target: Target) -> None:
    """Raise what an error means of the target itself: BastionError (CLUSTER_UNAVAILABLE, TARGET_NOT_RUNNING)."""
    if is_node_away(message):
        raise BastionError(Code.CLUSTER_UNAVAILABLE, fate.node_away(target), detail=message)
    if _NOT_RUNNING.search(message):
        raise BastionError(
            Code.TARGET_NOT_RUNNING, f"container {target.container} of pod {target.pod} is not running", detail=message
        )
