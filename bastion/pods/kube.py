"""Fills ports.Pods with a real Kubernetes API; built by app, used by session."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from bastion.errors import BastionError, Code
from bastion.events import Exited, Resized
from bastion.model import KubeIdentity, Outcome, Stream
from bastion.pods import boot, reaper
from bastion.pods.api import Refused, unavailable
from bastion.pods.resolve import Resolver, is_gone
from bastion.pods.stream import WebSocketExec, never_started
from bastion.wire import remotecommand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bastion.model import ExecRequest, Reaped, Resolved, Target, TargetLogin
    from bastion.pods.api import Api
    from bastion.pods.boot import Boot

REAPER = KubeIdentity(user="bastion:reaper")
"""Who ends what is left: not the person, whose rights may be what has just ended."""

REAP_WITHIN_S = 30.0

WHY_GONE_WITHIN_S = 3.0
"""How long a person whose stream broke waits to hear why: an API server that is lost too says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Which streams of a process are wanted; output always is."""

    stdin: bool
    tty: bool


class KubePods:
    """One cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._resolver = Resolver(api)
        self._reaper = reaper.Reaper(self._look_for)
        self._protocols = (remotecommand.V5, remotecommand.V4)

    async def resolve(self, login: TargetLogin) -> Resolved:
        """Find the container a login means. Raises BastionError (TARGET_*, CLUSTER_*)."""
        return await self._resolver.resolve(login)

    async def review(self, target: Target, identity: KubeIdentity) -> str:
        """Ask RBAC for both verbs that a WebSocket exec needs (get, and since 1.35 create); returns its reason.

        Raises BastionError (CLUSTER_DENIED, CLUSTER_UNAVAILABLE).
        """
        reasons = await asyncio.gather(*(self._allowed(target, identity, verb) for verb in ("get", "create")))
        return reasons[1]

    async def _allowed(self, target: Target, identity: KubeIdentity, verb: str) -> str:
        attributes = {"namespace": target.namespace, "name": target.pod, "resource": "pods", "subresource": "exec"}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": identity.user,
                "groups": [*identity.groups, "system:authenticated"],
                "resourceAttributes": {**attributes, "verb": verb},
            },
        }
        answer = await self._api.post("apis", "authorization.k8s.io", "v1", "subjectaccessreviews", body=review)
        status = answer["status"]
        if not status.get("allowed"):
            raise BastionError(
                Code.CLUSTER_DENIED,
                f"the cluster's own RBAC does not let you {verb} pods/exec for pod {target.pod}"
                f" in namespace {target.namespace}",
                detail=f"{identity.user}: {status.get('reason') or 'no rule allows it'}",
            )
        return str(status.get("reason") or "")

    @asynccontextmanager
    async def exec(self, target: Target, request: ExecRequest, identity: KubeIdentity) -> AsyncIterator[WebSocketExec]:
        """Start a process; entering returns once it runs. Leaving closes the stream, the process may live on.

        A container without a shell runs its own programs by argv.
        Raises BastionError (NO_SHELL, NOT_STARTED, STREAM_BROKEN, TARGET_*, CLUSTER_*, INVALID).
        """
        try:
            stream = await self._start(target, request, identity, boot.with_shell)
        except BastionError as error:
            if error.code is not Code.NO_SHELL:
                raise
            stream = await self._start(target, request, identity, boot.without_shell)
        try:
            yield stream
        finally:
            await stream.close()

    async def reap(self, target: Target, marker: str) -> Reaped:
        """End every process in the target that carries the marker.

        Raises BastionError when it could not look (no shell, pod gone, API server away).
        """
        return await self._reaper.reap(target, marker)

    async def _look_for(self, target: Target, markers: tuple[str, ...]) -> list[Reaped]:
        plan = boot.Boot(argv=reaper.argv(markers), ready=b"", framed_input=False)
        said = b""
        async with asyncio.timeout(REAP_WITHIN_S):
            stream = await self._open(target, lambda _: plan, REAPER, Streams(stdin=False, tty=False))
            try:
                while not isinstance(event := await stream.next_event(), Exited):
                    said += event.data if event.stream is Stream.STDOUT else b""
            finally:
                await stream.close()
        reaped = reaper.answers(said, markers)
        if reaped is not None:
            return reaped
        if event.outcome is Outcome.NOT_STARTED:
            raise never_started(event)
        raise BastionError(Code.STREAM_BROKEN, "what the session left could not be looked for", detail=event.message)

    async def _start(
        self,
        target: Target,
        request: ExecRequest,
        identity: KubeIdentity,
        plan_of: Callable[[ExecRequest, str], Boot],
    ) -> WebSocketExec:
        streams = Streams(stdin=True, tty=request.pty is not None)
        stream = await self._open(target, lambda protocol: plan_of(request, protocol), identity, streams)
        try:
            await stream.started()
            if request.pty is not None and request.pty.size.cols and request.pty.size.rows:
                await stream.send(Resized(request.pty.size))  # for a container without stty
        except BaseException:
            await stream.close()
            raise
        return stream

    async def _open(
        self, target: Target, plan_of: Callable[[str], Boot], identity: KubeIdentity, streams: Streams
    ) -> WebSocketExec:
        """Open a stream in v5, or in v4 where v5 is refused before anything runs.

        What worked is tried first the next time, so that an upgraded API server, or a proxy that once refused
        for a reason of its own, is spoken to in v5 again.
        """
        first, second = self._protocols
        try:
            return await self._open_in(first, target, plan_of(first), identity, streams)
        except _OtherProtocolError as error:
            try:
                stream = await self._open_in(second, target, plan_of(second), identity, streams)
            except _OtherProtocolError:
                _raise_refusal(error.refused, target)
            self._protocols = (second, first)
            return stream

    async def _open_in(
        self, protocol: str, target: Target, plan: Boot, identity: KubeIdentity, streams: Streams
    ) -> WebSocketExec:
        query = [
            *(("command", argument) for argument in plan.argv),
            ("stdin", str(streams.stdin).lower()),
            ("stdout", "true"),
            ("stderr", str(not streams.tty).lower()),
            ("tty", str(streams.tty).lower()),
            ("container", target.container),
        ]
        path = ("api", "v1", "namespaces", target.namespace, "pods", target.pod, "exec")
        try:
            ws = await self._api.open_stream(path, query, protocol, identity)
        except Refused as refused:
            if refused.status in {400, 403} and not refused.body:
                raise _OtherProtocolError(refused) from refused
            _raise_refusal(refused, target)
        return WebSocketExec(ws, boot=plan, tty=streams.tty, why_gone=lambda: self._why_gone(target))

    async def _why_gone(self, target: Target) -> str:
        try:
            async with asyncio.timeout(WHY_GONE_WITHIN_S):
                pod = await self._resolver.pod(target.namespace, target.pod)
        except (BastionError, TimeoutError):
            return ""
        return f"pod {target.pod} was deleted" if is_gone(pod, target) else ""


class _OtherProtocolError(Exception):
    """Refused before anything ran, perhaps for the subprotocol: an unknown one is an empty 403 (recorded)."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


def _raise_refusal(refused: Refused, target: Target) -> NoReturn:
    message = refused.message
    match refused.status:
        case 403:
            raise BastionError(
                Code.CLUSTER_DENIED,
                f"the cluster's own RBAC does not let you into pod {target.pod} in namespace {target.namespace}",
                detail=message,
            )
        case 404:
            raise BastionError(
                Code.TARGET_MISSING,
                f"there is no pod {target.pod} in namespace {target.namespace} any more",
                detail=message,
            )
        case 400:
            raise BastionError(Code.TARGET_NOT_RUNNING, message)
        case 431:
            raise BastionError(Code.INVALID, "the command is too long for the API server", detail=message)
        case status:
            raise unavailable(f"HTTP {status} {message}", status=status)
