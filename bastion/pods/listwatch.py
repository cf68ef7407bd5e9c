"""Keeps up with the objects of one kind by list and watch; run by pods.catalog, one for each kind and namespace.

The rules are those of the API concepts ("Efficient detection of changes"): what is listed has a resourceVersion, a
watch tells every change since then, bookmarks advance the version where nothing changes, and a version that is too old
(410, which comes as an ERROR event inside a 200: recorded, pods-watch-too-old) is mended by another list.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic

import aiohttp

from bastion.errors import BastionError, Code
from bastion.pods import kinds
from bastion.pods.answers import Refused
from bastion.pods.retry import Passing, pause_s
from bastion.pods.shelf import Kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from bastion.pods.api import Api
    from bastion.pods.shelf import Shelf
    from bastion.ports import Clock

PAGE = 100
"""Objects in a page of a list. client-go asks for 500, which is 3 MB of JSON to be parsed in one go, while sessions
wait; this is 10 to 20 ms."""

TURN = 25
"""Objects that are read before others get their turn."""

WATCH_S = 300.0
"""A watch ends after this and up to twice of it, so that servers behind a balancer share the load again."""

SILENCE_S = 120.0
"""A watch without an event is taken for dead after this: bookmarks come about every minute."""

SHORT_S = 1.0
"""A watch that ends sooner and has told nothing was not had."""

CALM_S = 0.5
"""Changes that were missed come at once when a watch goes on; where none come for so long, there were none."""

RESYNC_S = 1800.0
"""Everything is listed again after this and up to half as much more, in case anything was missed."""

RELIST_AFTER = 3
"""So many failures in a row, and it begins with a list: the version may be what the server cannot take."""

DENIED_S = 60.0
"""Where the cluster says no, it is asked again after this and up to twice of it."""

LONGEST_LINE = 16 * 1024 * 1024
"""An event that is longer is not one: etcd takes objects of 1.5 MiB."""


class Freshness(StrEnum):
    """How far what is known can be relied on."""

    UNKNOWN = "unknown"  # it was never listed, or may not be
    FRESH = "fresh"  # it was listed, and a watch tells every change
    BEHIND = "behind"  # it was listed, and changes since then may be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every ListWatch works with.

    chance: gives a number from 0 to below 1. lists: how many may list at the same time.
    """

    api: Api
    clock: Clock
    chance: Callable[[], float]
    log: FilteringBoundLogger
    lists: asyncio.Semaphore


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects(Generic[Kept]):
    """The objects of one kind: what reads one from its JSON, and where they are kept."""

    kind: str
    read: Callable[[Mapping[str, Any]], Kept]
    shelf: Shelf[Kept]


class _LostError(Exception):
    """The watch broke, or was none; str() says how."""


class _TooOldError(_LostError):
    """The changes since our version are forgotten."""


class ListWatch(Generic[Kept]):
    """One kind of objects in one namespace, or ("") in all."""

    def __init__(self, objects: Objects[Kept], namespace: str, *, means: Means, freshened: Callable[[], None]) -> None:
        """`freshened` is called when `freshness` may be another than before."""
        self._namespace = namespace
        self._path = kinds.path(objects.kind, namespace)
        self._shelf = objects.shelf
        self._read = objects.read
        self._means = means
        self._freshened = freshened
        self._log = means.log.bind(kind=kinds.resource(objects.kind), namespace=namespace or "(all)")
        self._freshness = Freshness.UNKNOWN
        self._denied = False
        self._version = ""
        self._odd: set[tuple[str, str]] = set()  # those that could not be read, by namespace and name
        self._failures = 0
        self._in_touch_at = self._resync_at = means.clock.monotonic()

    @property
    def freshness(self) -> Freshness:
        """How far what is on the shelf can be relied on."""
        return self._freshness

    @property
    def is_settled(self) -> bool:
        """Whether it has been listed, or may not be."""
        return self._denied or self._freshness is not Freshness.UNKNOWN

    @property
    def stale_s(self) -> float:
        """For how many seconds changes may have been missed; 0 while none are, and where the cluster says no."""
        if self._freshness is Freshness.FRESH or self._denied:
            return 0.0
        return self._means.clock.monotonic() - self._in_touch_at

    async def run(self) -> None:
        """Keep up until cancelled."""
        try:
            await self._keep_up()
        finally:
            self._become(Freshness.UNKNOWN)

    async def _keep_up(self) -> None:
        while True:
            try:
                if not self._version or self._failures >= RELIST_AFTER or self._now() >= self._resync_at:
                    async with self._means.lists:
                        await self._list()
                await self._watch()
            except BastionError as error:
                if error.code is Code.CLUSTER_DENIED:
                    await self._wait_for_rights(error)
                else:
                    await self._try_again(error)
            except (_LostError, Refused, aiohttp.ClientError, OSError) as error:
                await self._try_again(error)
            except Exception as error:  # noqa: BLE001 - an answer with a surprise in it must not end what knows of all
                self._version = ""
                await self._try_again(_LostError(f"an answer that is not understood: {error!r}"))

    async def _list(self) -> None:
        """Put everything there is on the shelf, page by page, and forget what is there no more."""
        present: set[tuple[str, str]] = set()
        more = ""
        while True:
            query = [("limit", str(PAGE)), *([("continue", more)] if more else [])]
            page = await self._means.api.get(*self._path, query=query)
            metadata, items = page["metadata"], page.get("items") or ()
            for count, item in enumerate(items):
                present.add(_key(item))
                self._put(item)
                if count % TURN == TURN - 1:
                    await asyncio.sleep(0)
            more = metadata.get("continue") or ""
            if not more:
                break
            del page, items  # not two pages at a time
        self._shelf.keep_only(self._namespace or None, present)
        self._odd &= present
        self._version = str(metadata["resourceVersion"])
        self._resync_at = self._now() + RESYNC_S * (1 + self._means.chance() / 2)
        if not self._denied:  # else it may be the watch that is not granted
            self._in_touch()

    async def _watch(self) -> None:
        """Follow changes until the server ends the watch in order. Raises for every other end."""
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", str(int(WATCH_S * (1 + self._means.chance())))),
        ]
        began, told = self._now(), False
        async with self._means.api.streaming(*self._path, query=query) as body:
            calm = asyncio.get_running_loop().call_later(CALM_S, self._in_touch)
            try:
                async for line in _lines(body):
                    self._take(json.loads(line))
                    self._in_touch()
                    self._failures, told = 0, True
            finally:
                calm.cancel()
        if not told and self._now() - began < SHORT_S:
            raise _LostError("the watch ended at once")
        self._failures = 0

    def _take(self, event: Mapping[str, Any]) -> None:
        """One event of a watch."""
        seen = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._put(seen)
            case "DELETED":
                self._shelf.remove(*_key(seen))
                self._odd.discard(_key(seen))
            case "ERROR":
                gone = seen.get("code") == HTTPStatus.GONE
                raise (_TooOldError if gone else _LostError)(str(seen.get("message") or "an error without a message"))
            case _:  # BOOKMARK, whose version is all it has
                pass
        self._version = str(seen["metadata"]["resourceVersion"])

    def _put(self, item: Mapping[str, Any]) -> None:
        """Keep an object. One that has a surprise in it costs nobody else what is known of the others.

        It is kept off the shelf, so that who wants it asks for it.
        """
        key = _key(item)
        try:
            kept = self._read(item)
        except Exception as error:  # noqa: BLE001 - whatever `read` did not expect
            self._shelf.remove(*key)
            if key not in self._odd:
                self._odd.add(key)
                self._log.warning("catalog.not_understood", object="/".join(key), error=repr(error))
        else:
            self._odd.discard(key)
            self._shelf.put(kept)

    async def _try_again(self, error: Exception) -> None:
        """Say once that something is wrong, and wait before the next try."""
        if isinstance(error, _TooOldError):
            self._version = ""
        self._failures += 1
        if self._freshness is Freshness.FRESH or self._failures == 1:
            self._log.warning("catalog.behind", error=str(error))
        if self._freshness is Freshness.FRESH:
            self._become(Freshness.BEHIND)
        await asyncio.sleep(pause_s(self._failures, self._means.chance(), _wished_s(error)))

    async def _wait_for_rights(self, error: BastionError) -> None:
        if not self._denied:
            self._log.error(
                "catalog.denied",
                error=error.detail,
                todo="grant the bastion list and watch (bastion doctor --rbac prints what it needs), or name the"
                " namespaces it may see in kubernetes.namespaces; meanwhile each target is looked up directly",
            )
        self._denied, self._version = True, ""
        self._become(Freshness.UNKNOWN)
        await asyncio.sleep(DENIED_S * (1 + self._means.chance()))

    def _in_touch(self) -> None:
        self._in_touch_at = self._now()
        if self._freshness is not Freshness.FRESH:
            if self._failures or self._denied:
                self._log.info("catalog.caught_up")
            self._denied = False
            self._become(Freshness.FRESH)

    def _become(self, freshness: Freshness) -> None:
        self._freshness = freshness
        self._freshened()

    def _now(self) -> float:
        return self._means.clock.monotonic()


def _wished_s(error: Exception) -> float | None:
    """For how many seconds a server that is busy wishes to be left alone (Retry-After); None if it does not say."""
    cause = error.__cause__
    return cause.retry_after_s if isinstance(cause, Passing | Refused) else None


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    """Namespace and name of an object, as the shelf has them."""
    metadata = item["metadata"]
    return str(metadata["namespace"]), str(metadata["name"])


async def _lines(body: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a watch, until it ends or nothing comes for too long. Raises _LostError for an endless line.

    (aiohttp's own readline takes no more than 128 KiB, which an object may exceed.)
    """
    held = b""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                piece = await body.readany()
        except TimeoutError:
            return  # the next watch, or that there is none, will tell
        if not piece:
            return
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(held) > LONGEST_LINE:
            raise _LostError("an event without an end")
