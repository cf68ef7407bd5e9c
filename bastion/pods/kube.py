"""Fills ports.Pods with a real Kubernetes API; built by app."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.events import Resized
from bastion.model import KubeIdentity, Outcome
from bastion.podfacts import OVER
from bastion.pods import boot, fate, reaper, rights, signals
from bastion.pods.debug import Debugging
from bastion.pods.ends import never_started
from bastion.pods.execs import Call, Execs, check
from bastion.pods.lookup import Direct
from bastion.pods.resolve import Resolver
from bastion.pods.reviews import Reviews
from bastion.pods.stream import Around
from bastion.pods.watchman import Watchman

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from structlog.typing import FilteringBoundLogger

    from bastion.model import Beside, ExecRequest, Reaped, Resolved, Target, TargetLogin
    from bastion.podfacts import PodFacts
    from bastion.pods.api import Api
    from bastion.pods.boot import Boot
    from bastion.pods.catalog import Catalog
    from bastion.pods.stream import WebSocketExec
    from bastion.ports import Asks, Clock, Tell

REAPER = KubeIdentity(user=rights.REAPER)
"""Who ends what is left: not the person, whose rights may be what has just ended."""

REAP_WITHIN_S = 30.0
SIGNAL_WITHIN_S = 10.0

SHOWS_AFTER_S = (0.5, 1.0, 2.0, 4.0)
"""Pauses before a pod is asked again whether its container runs: a node knows of an end before the pod shows it."""

_NOT_LOOKED_FOR = "what the session left could not be looked for"


class KubePods:
    """One cluster."""

    def __init__(self, api: Api, catalog: Catalog, *, clock: Clock, log: FilteringBoundLogger) -> None:
        self._resolver = Resolver(api, catalog)
        self._reviews = Reviews(api)
        self._api = api
        self._execs = Execs(api, clock)
        self._watchman = Watchman(api, catalog, self._knock, log)
        self._debugging = Debugging(api)
        self._reaper = reaper.Reaper(self._look_for)

    async def resolve(
        self, login: TargetLogin, *, person: str, sees: Asks, enters: Asks | None, tell: Tell
    ) -> Resolved:
        """Find the container a login means, and wait for one that starts. Raises BastionError (TARGET_*, CLUSTER_*)."""
        return await self._resolver.resolve(login, person=person, sees=sees, enters=enters, tell=tell)

    async def review(self, target: Target, identity: KubeIdentity, tell: Tell) -> str:
        """Ask RBAC whether the identity may exec there; returns its reason. Raises BastionError (CLUSTER_*)."""
        return await self._reviews.exec(target, identity, tell)

    @asynccontextmanager
    async def exec(
        self, target: Target, request: ExecRequest, identity: KubeIdentity, tell: Tell
    ) -> AsyncIterator[WebSocketExec]:
        """Start a process; entering returns once it runs. Leaving closes the stream, the process may live on.

        The pod is compared with the target just before the start, and after it before anything is sent: exec has no
        precondition. A container without a shell runs its own programs by argv.
        Raises BastionError (NO_SHELL, NOT_STARTED, STREAM_BROKEN, TARGET_*, CLUSTER_*, INVALID).
        """
        begun = await self._watchman.pinned(target, tell)
        around = Around(
            explain=partial(self._watchman.explained, begun, target),
            signal=partial(self._signalled, target, request.marker, identity),
            is_reachable=partial(self._watchman.is_reachable, target),
        )
        call = Call(target=target, identity=identity, stdin=True, tty=request.pty is not None, tell=tell)
        try:
            stream = await self._start(call, request, boot.with_shell, around)
        except BastionError as error:
            if error.code is not Code.NO_SHELL:
                raise
            stream = await self._start(call, request, boot.without_shell, around)
        ending = asyncio.create_task(self._watchman.end_with_pod(stream, begun, target), name="pod-watch")
        try:
            yield stream
        finally:
            ending.cancel()
            try:
                await asyncio.gather(ending, return_exceptions=True)
            finally:
                await stream.close()

    async def debug(self, target: Target, image: str, user: int | None, identity: KubeIdentity, tell: Tell) -> Beside:
        """A container with a shell beside a target without. Raises BastionError (NOT_STARTED, TARGET_*, CLUSTER_*)."""
        return await self._debugging.container(target, image, user, identity, tell)

    async def reap(self, target: Target, marker: str, *, lingering: bool) -> Reaped:
        """End every process in the target that carries the marker.

        Raises BastionError when it could not look: TARGET_MISSING or TARGET_NOT_RUNNING only where the pod itself shows
        that, NO_SHELL, STREAM_BROKEN, CLUSTER_*.
        """
        return await self._reaper.reap(target, marker, lingering=lingering)

    async def _look_for(self, target: Target, markers: tuple[str, ...], lingering: bool) -> list[Reaped]:  # noqa: FBT001 - as Reaper calls it
        # The API server's audit log can name one session.
        identity = replace(REAPER, session=markers[0]) if len(markers) == 1 else REAPER
        try:
            async with asyncio.timeout(REAP_WITHIN_S):
                await self._same_pod(target)  # exec knows pods by name alone
                try:
                    argv = reaper.argv(markers, lingering=lingering)
                    said, end = await self._execs.run(Call(target=target, identity=identity), argv)
                except BastionError as error:
                    raise await self._believed(error, target) from error
        except TimeoutError as error:
            raise BastionError(
                Code.STREAM_BROKEN, f"{_NOT_LOOKED_FOR}: no answer within {REAP_WITHIN_S:.0f} s"
            ) from error
        reaped = reaper.answers(said, markers)
        if reaped is not None:
            return reaped
        if end.outcome is Outcome.NOT_STARTED:
            raise never_started(end)
        raise BastionError(Code.STREAM_BROKEN, _NOT_LOOKED_FOR, detail=end.message)

    async def _same_pod(self, target: Target) -> PodFacts:
        """The pod of the target's UID, whatever else changed. Raises BastionError (TARGET_MISSING, CLUSTER_*)."""
        return fate.same(target, await Direct(self._api).pod(target.namespace, target.pod), then=_NOT_LOOKED_FOR)

    async def _believed(self, error: BastionError, target: Target) -> BastionError:
        """What an exec was refused with; that there is nothing to look into, only where the pod shows it.

        A proxy has refusals of its own. Raises BastionError (TARGET_MISSING, CLUSTER_*).
        """
        if error.code not in {Code.TARGET_MISSING, Code.TARGET_NOT_RUNNING}:
            return error
        for pause in (0.0, *SHOWS_AFTER_S):
            await asyncio.sleep(pause)
            if not _runs(await self._same_pod(target), target.container):
                return BastionError(Code.TARGET_NOT_RUNNING, error.user_message, detail=error.detail)
        return BastionError(Code.STREAM_BROKEN, f"{_NOT_LOOKED_FOR}: {error.user_message}", detail=error.detail)

    async def _signalled(self, target: Target, marker: str, identity: KubeIdentity, name: str) -> str:
        if name in signals.IGNORED:
            return ""
        if name not in signals.NAMES:
            return f"signal {name} is not known here"
        try:
            async with asyncio.timeout(SIGNAL_WITHIN_S):
                said, _ = await self._execs.run(Call(target=target, identity=identity), signals.argv(marker, name))
        except (BastionError, TimeoutError):
            said = b""
        return signals.complaint(name, said)

    async def _start(
        self, call: Call, request: ExecRequest, plan_of: Callable[[ExecRequest, str], Boot], around: Around
    ) -> WebSocketExec:
        stream = await self._execs.open(call, partial(plan_of, request), around)
        again = asyncio.create_task(self._watchman.pinned(call.target), name="pod-uid")
        try:
            await self._started(stream, call.target)
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

    async def _knock(self, target: Target) -> None:
        """Have the pod's node start something that ends at once. Raises BastionError (CLUSTER_*, TARGET_*)."""
        await self._execs.run(Call(target=target, identity=REAPER, patiently=False), ("sh", "-c", ":"))


def _runs(pod: PodFacts, container: str) -> bool:
    facts = pod.container(container)
    return facts is not None and facts.running and pod.phase not in OVER


async def _unsent(again: asyncio.Task[PodFacts]) -> None:
    """Wait for the second look at the pod. Raises BastionError: STREAM_BROKEN if it is another, or changed."""
    try:
        await again
    except BastionError as error:
        if error.code is not Code.TARGET_MISSING:
            raise
        raise BastionError(Code.STREAM_BROKEN, f"{error.user_message} (nothing was sent to it)") from error
