"""Fills ports.Looking with a real Kubernetes API: pods, events, usage and logs; built by app."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp

from bastion.errors import BastionError, Code
from bastion.events import Exited, Output
from bastion.model import Outcome, Stream
from bastion.podfacts import pod_facts
from bastion.pods import fate, kinds
from bastion.pods.answers import NoAnswerError, Refused, understood
from bastion.pods.catalog import EVERYWHERE
from bastion.pods.ends import broken
from bastion.pods.execs import check, silent
from bastion.pods.following import CUT, Followed
from bastion.pods.listwatch import Freshness
from bastion.pods.lookup import Direct
from bastion.pods.pages import everything
from bastion.ports import LogOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from bastion.events import ClientEvent, PodEvent
    from bastion.model import KubeIdentity, Target
    from bastion.podfacts import PodFacts
    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog
    from bastion.ports import Tell

PIECE = 32 * 1024
"""The most bytes of one Output event."""

_AGAIN = "ask again"
_METRICS = ("apis", "metrics.k8s.io", "v1beta1")


class KubeLooking:
    """One cluster, looked at."""

    def __init__(self, api: Api, catalog: Catalog, namespaces: tuple[str, ...]) -> None:
        """`namespaces`: those that the bastion looks after; () is the whole cluster."""
        self._api = api
        self._catalog = catalog
        self._scopes = namespaces or (EVERYWHERE,)

    async def pods(self, tell: Tell) -> Sequence[PodFacts]:
        """Every pod that the bastion sees, by namespace and name. Raises BastionError (CLUSTER_*)."""
        if all(self._catalog.freshness(kinds.POD, scope) is Freshness.FRESH for scope in self._scopes):
            found = self._catalog.pods()
        else:
            tell("the list of pods is out of date; asking the API server")
            paths = [kinds.path(kinds.POD, scope) for scope in self._scopes]
            items = [item for path in paths for item in await self._all(path, tell=tell)]
            found = [understood(pod_facts, item, kinds.POD) for item in items]
        return sorted(found, key=lambda pod: (pod.namespace, pod.name))

    async def pod(self, target: Target, identity: KubeIdentity, tell: Tell) -> Mapping[str, Any]:
        """The pod's JSON. Raises BastionError (TARGET_MISSING, CLUSTER_*)."""
        try:
            pod: Mapping[str, Any] = await self._api.get(*_path(target), identity=identity, tell=tell)
        except Refused as refused:
            raise _gone(target) from refused
        except BastionError as error:
            _denied(error, target, "get pods")
        fate.unchanged(target, understood(pod_facts, pod, kinds.POD), then=_AGAIN)
        return pod

    async def events(self, target: Target, identity: KubeIdentity, tell: Tell) -> Sequence[Mapping[str, Any]]:
        """The events about the pod, but not about an earlier one of its name. Raises BastionError (CLUSTER_*)."""
        about = f"involvedObject.name={target.pod},involvedObject.uid={target.pod_uid}"
        path = ("api", "v1", "namespaces", target.namespace, "events")
        try:
            return await self._all(path, ("fieldSelector", about), identity=identity, tell=tell)
        except BastionError as error:
            _denied(error, target, "list events")

    async def usage(self, target: Target, identity: KubeIdentity, tell: Tell) -> Mapping[str, Any] | None:
        """The PodMetrics of the pod (metrics.k8s.io/v1beta1), or None without a metrics API.

        Raises BastionError (TARGET_NOT_RUNNING if nothing was measured yet, CLUSTER_*).
        """
        try:  # as the bastion: the person may lack the right, and would be told so of what is not even there
            await self._api.get(*_METRICS, tell=tell)
        except Refused:
            return None
        path = (*_METRICS, "namespaces", target.namespace, "pods", target.pod)
        try:
            usage: Mapping[str, Any] = await self._api.get(*path, identity=identity, tell=tell)
        except Refused as refused:
            said = f"nothing is measured yet of pod {target.pod} in namespace {target.namespace}; try again in a minute"
            raise BastionError(Code.TARGET_NOT_RUNNING, said, detail=refused.message) from refused
        except BastionError as error:
            _denied(error, target, "get pods.metrics.k8s.io")
        return usage

    @asynccontextmanager
    async def logs(
        self, target: Target, options: LogOptions, identity: KubeIdentity, tell: Tell
    ) -> AsyncIterator[_Log | Followed]:
        """The container's log; entering returns once it can be read. Raises BastionError (TARGET_*, CLUSTER_*).

        One that is followed says why it ended; that of an earlier run was over before.
        """
        path = (*_path(target), "log")
        opening = self._api.streaming(
            *path, query=_query(target, options), identity=identity, tell=tell, patiently=True
        )
        async with AsyncExitStack() as stack:
            try:
                source = await stack.enter_async_context(opening)
            except (Refused, BastionError) as error:
                _unread(error, target)
            # After it was opened: the pod of that name was this one then too. As the bastion: the person may
            # read logs without any right to the pod itself.
            pod = fate.unchanged(target, await self._now(target, tell), then=_AGAIN)
            log = _Log(source, partial(self._api.stream_lost, path))
            if not options.follow or options.previous:
                yield log
                return
            look, knock = partial(self._now, target), partial(self._knocked, target, identity)
            yield Followed(log, pod, target, look=look, knock=knock)

    async def _knocked(self, target: Target, identity: KubeIdentity) -> None:
        """Return if the container's log could be opened now. Raises as `logs`: the node may be away."""
        query = _query(target, LogOptions(tail=0))
        try:
            async with self._api.streaming(*_path(target), "log", query=query, identity=identity):
                pass
        except (Refused, BastionError) as error:
            _unread(error, target)

    async def _now(self, target: Target, tell: Tell | None = None) -> PodFacts | None:
        """The pod of that name as the API server has it, as the bastion sees it; None if there is none."""
        return await Direct(self._api, tell).pod(target.namespace, target.pod)

    async def _all(
        self,
        path: Sequence[str],
        *query: tuple[str, str],
        identity: KubeIdentity | None = None,
        tell: Tell | None = None,
    ) -> list[Mapping[str, Any]]:
        """A whole list; a namespace that is not there has nothing in it."""
        try:
            return await everything(self._api, path, query, identity=identity, tell=tell)
        except Refused:
            return []


class _Log:
    """A log that is read as it comes; its end is the stream's."""

    protocol = ""

    def __init__(self, source: aiohttp.StreamReader, lost: Callable[[Exception], None]) -> None:
        """`lost` is told how it broke."""
        self._source = source
        self._lost = lost

    async def next_event(self) -> PodEvent:
        """The next piece, or the end."""
        try:
            data = await self._source.read(PIECE)
        except (aiohttp.ClientError, OSError) as error:
            self._lost(error)
            return broken(f"{CUT}: ask again")
        return Output(Stream.STDOUT, data) if data else Exited(0, Outcome.EXITED)

    async def send(self, event: ClientEvent) -> None:
        """A log takes nothing."""


def _path(target: Target) -> tuple[str, ...]:
    return kinds.path(kinds.POD, target.namespace, target.pod)


def _query(target: Target, options: LogOptions) -> list[tuple[str, str]]:
    """The options as the API has them (core/v1 PodLogOptions)."""
    flags = {"follow": options.follow, "previous": options.previous, "timestamps": options.timestamps}
    numbers = {"tailLines": options.tail, "sinceSeconds": options.since_s}
    return [
        ("container", target.container),
        *((name, "true") for name, wanted in flags.items() if wanted),
        *((name, str(number)) for name, number in numbers.items() if number is not None),
    ]


def _gone(target: Target) -> BastionError:
    return BastionError(Code.TARGET_MISSING, fate.changed(target, "deleted", then=_AGAIN))


def _unread(error: Refused | BastionError, target: Target) -> NoReturn:
    """Raise why a log cannot be opened: BastionError (TARGET_*, CLUSTER_*)."""
    if isinstance(error, NoAnswerError):
        raise silent(error, target) from error
    if isinstance(error, BastionError):
        check(error.detail, target)
        _denied(error, target, "get pods/log")
    if error.status == HTTPStatus.BAD_REQUEST:  # it waits to start, or there was no run before this one
        raise BastionError(Code.TARGET_NOT_RUNNING, error.message) from error
    raise _gone(target) from error


def _denied(error: BastionError, target: Target, what: str) -> NoReturn:
    """Raise a refusal by the cluster's RBAC again in words that name the place; anything else as it is."""
    if error.code is not Code.CLUSTER_DENIED:
        raise error
    said = f"the cluster's own RBAC does not let you {what} for pod {target.pod} in namespace {target.namespace}"
    raise BastionError(Code.CLUSTER_DENIED, said, detail=error.detail) from error
