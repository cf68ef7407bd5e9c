"""Fills ports.Pods with a real Kubernetes API; built by app, used by session."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.events import Exited, Resized
from bastion.model import KubeIdentity, Outcome
from bastion.pods import boot, fate, reaper, rights, signals
from bastion.pods.debug import Debugging
from bastion.pods.execs import Execs, Streams, check
from bastion.pods.resolve import Resolver
from bastion.pods.reviews import Reviews
from bastion.pods.stream import Around, broken, never_started
from bastion.pods.watchman import Watchman

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bastion.model import Beside, ExecRequest, Reaped, Resolved, Target, TargetLogin
    from bastion.podfacts import PodFacts
    from bastion.pods.api import Api
    from bastion.pods.boot import Boot
    from bastion.pods.catalog import Catalog
    from bastion.pods.stream import WebSocketExec
    from bastion.ports import Sees, Tell

REAPER = KubeIdentity(user=rights.REAPER)
"""Who ends what is left: not the person, whose rights may be what has just ended."""

REAP_WITHIN_S = 30.0
SIGNAL_WITHIN_S = 10.0

WHY_BROKEN_WITHIN_S = 3.0
"""How long a person whose stream broke waits to hear why: an API server that is lost too says nothing."""

WHY_KILLED_WITHIN_S = 5.0
"""The same for a process that was killed, which may have been its own doing; a node takes some seconds to tell."""

KILLED = {128 + 9, 128 + 15}
"""Exit codes that a process gets when its container is taken away."""

UNANSWERED_S = 5.0
"""What was typed and nothing came back for, for so long, is reason to ask after the pod's node."""

GRACE_S = 3.0
"""How long a stream may take to end by itself once its container has ended: what it still says is wanted."""


class KubePods:
    """One cluster."""

    def __init__(self, api: Api, catalog: Catalog) -> None:
        self._resolver = Resolver(api, catalog)
        self._reviews = Reviews(api)
        self._execs = Execs(api)
        self._watchman = Watchman(api, catalog, self._knock)
        self._debugging = Debugging(api)
        self._reaper = reaper.Reaper(self._look_for)

    async def resolve(self, login: TargetLogin, *, person: str, sees: Sees, tell: Tell) -> Resolved:
        """Find the container a login means, and wait for one that starts. Raises BastionError (TARGET_*, CLUSTER_*)."""
        return await self._resolver.resolve(login, person=person, sees=sees, tell=tell)

    async def find(self, login: TargetLogin, *, person: str, sees: Sees, tell: Tell) -> Resolved:
        """Find the container a login means, whether it runs or not. Raises BastionError (TARGET_*, CLUSTER_*)."""
        return await self._resolver.find(login, person=person, sees=sees, tell=tell)

    async def review(self, target: Target, identity: KubeIdentity, tell: Tell) -> str:
        """Ask RBAC whether the identity may exec there; returns its reason. Raises BastionError (CLUSTER_*)."""
        return await self._reviews.exec(target, identity, tell)

    @asynccontextmanager
    async def exec(
        self, target: Target, request: ExecRequest, identity: KubeIdentity, tell: Tell
    ) -> AsyncIterator[WebSocketExec]:
        """Start a process; entering returns once it runs. Leaving closes the stream, the process may live on.

        The pod's UID is compared just before the start, and after it before anything is sent: exec has no precondition.
        A container without a shell runs its own programs by argv.
        Raises BastionError (NO_SHELL, NOT_STARTED, STREAM_BROKEN, TARGET_*, CLUSTER_*, INVALID).
        """
        begun = await self._pinned(target, tell)
        around = Around(
            explain=partial(self._explained, begun, target),
            signal=partial(self._signalled, target, request.marker, identity),
        )
        try:
            stream = await self._start(target, request, identity, boot.with_shell, around, tell)
        except BastionError as error:
            if error.code is not Code.NO_SHELL:
                raise
            stream = await self._start(target, request, identity, boot.without_shell, around, tell)
        ending = asyncio.create_task(self._end_with_pod(stream, begun, target), name="pod-watch")
        try:
            yield stream
        finally:
            ending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ending
            await stream.close()

    async def debug(self, target: Target, image: str, identity: KubeIdentity, tell: Tell) -> Beside:
        """A container with a shell beside a target without. Raises BastionError (NOT_STARTED, TARGET_*, CLUSTER_*)."""
        return await self._debugging.container(target, image, identity, tell)

    async def reap(self, target: Target, marker: str, *, lingering: bool) -> Reaped:
        """End every process in the target, or in a debug container beside it, that carries the marker.

        Raises BastionError when it could not look (no shell, pod gone, API server away).
        """
        try:
            return await self._reaper.reap(target, marker, lingering=lingering)
        except BastionError as error:
            beside = await self._debugging.running(target) if error.code is Code.NO_SHELL else None
            if beside is None:
                raise
            return await self._reaper.reap(beside, marker, lingering=lingering)

    async def _look_for(self, target: Target, markers: tuple[str, ...], lingering: bool) -> list[Reaped]:  # noqa: FBT001 - as Reaper calls it
        async with asyncio.timeout(REAP_WITHIN_S):
            # The API server's audit log can name one session.
            identity = replace(REAPER, session=markers[0]) if len(markers) == 1 else REAPER
            said, end = await self._execs.run(target, reaper.argv(markers, lingering=lingering), identity)
        reaped = reaper.answers(said, markers)
        if reaped is not None:
            return reaped
        if end.outcome is Outcome.NOT_STARTED:
            raise never_started(end)
        raise BastionError(Code.STREAM_BROKEN, "what the session left could not be looked for", detail=end.message)

    async def _signalled(self, target: Target, marker: str, identity: KubeIdentity, name: str) -> str:
        if name in signals.IGNORED:
            return ""
        if name not in signals.NAMES:
            return f"signal {name} is not known here"
        try:
            async with asyncio.timeout(SIGNAL_WITHIN_S):
                said, _ = await self._execs.run(target, signals.argv(marker, name), identity)
        except (BastionError, TimeoutError):
            said = b""
        return signals.complaint(name, said)

    async def _pinned(self, target: Target, tell: Tell | None = None) -> PodFacts:
        """The pod that the target is pinned to. Raises BastionError: TARGET_MISSING if it is another by now."""
        pod = await self._watchman.look(target, tell)
        if pod is None or pod.uid != target.pod_uid:
            became = "replaced by another of that name" if pod is not None else "deleted"
            raise BastionError(
                Code.TARGET_MISSING, f"pod {target.pod} in namespace {target.namespace} was {became}; connect again"
            )
        return pod

    async def _start(  # noqa: PLR0913, PLR0917 - what an exec consists of
        self,
        target: Target,
        request: ExecRequest,
        identity: KubeIdentity,
        plan_of: Callable[[ExecRequest, str], Boot],
        around: Around,
        tell: Tell,
    ) -> WebSocketExec:
        streams = Streams(stdin=True, tty=request.pty is not None)
        stream = await self._execs.open(
            target, lambda protocol: plan_of(request, protocol), identity, streams, around, tell
        )
        again = asyncio.create_task(self._pinned(target), name="pod-uid")
        try:
            await self._started(stream, target)
            await _unsent(again)
            if request.pty is not None and request.pty.size.cols and request.pty.size.rows:
                await stream.send(Resized(request.pty.size))  # for a container without stty
        except BaseException:
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
            await stream.close()
            raise
        return stream

    @staticmethod
    async def _started(stream: WebSocketExec, target: Target) -> None:
        try:
            await stream.started()
        except BastionError as error:
            check(error.user_message, target)
            raise

    async def _end_with_pod(self, stream: WebSocketExec, begun: PodFacts, target: Target) -> None:
        """End a stream that its container did not take along: some freeze (kubernetes#129144)."""
        became = await self._watchman.end_of(begun, target, lambda: stream.unanswered_s > UNANSWERED_S)
        await asyncio.sleep(GRACE_S)
        stream.end(became)

    async def _explained(self, begun: PodFacts, target: Target, end: Exited, idle_s: float) -> Exited:
        """A container that was taken away looks like a kill, or like a lost connection: say which it was."""
        killed = end.outcome is Outcome.EXITED and end.status in KILLED
        if not killed and end.outcome is not Outcome.BROKEN:
            return end
        within_s = WHY_KILLED_WITHIN_S if killed else WHY_BROKEN_WITHIN_S
        try:
            became = await self._watchman.why_ended(begun, target, within_s)
        except BastionError as error:
            return end if killed else broken(f"{end.message}; {error.user_message}")
        if became:
            return broken(became)
        return end if killed else broken(await self._why_broken(target, end, idle_s))

    async def _why_broken(self, target: Target, end: Exited, idle_s: float) -> str:
        """Why a stream broke although its container is well."""
        idle = fate.idle_cut(idle_s)
        if idle:
            return idle
        lost = await self._watchman.node_lost(target)
        if lost:
            return lost
        return f"{end.message}, though pod {target.pod} is well; the API server may have been restarted: connect again"

    async def _knock(self, target: Target) -> None:
        """Have the pod's node start something that ends at once. Raises BastionError (CLUSTER_*, TARGET_*)."""
        await self._execs.run(target, ("sh", "-c", ":"), REAPER, patiently=False)


async def _unsent(again: asyncio.Task[PodFacts]) -> None:
    """Wait for the second look at the pod's UID. Raises BastionError: STREAM_BROKEN if it is another pod."""
    try:
        await again
    except BastionError as error:
        if error.code is not Code.TARGET_MISSING:
            raise
        raise BastionError(Code.STREAM_BROKEN, f"{error.user_message} (nothing was sent to it)") from error
