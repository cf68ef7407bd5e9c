"""Watches: the changes of a kind as they happen, one JSON line each; used by objects.

Behaviour as recorded (tests/data/kube-wire, pods-watch-*): from version 0 everything is told first, then a bookmark if
asked for, and from then on one at intervals; a version whose changes are forgotten gives one ERROR event with a 410
inside a 200.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds, listing, statuses, store, tables
from bastion.localcluster.http import JSON, Response
from bastion.localcluster.store import TooOldError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from bastion.localcluster.http import Request
    from bastion.localcluster.places import Place
    from bastion.localcluster.store import Change, Object, Store

LONGEST_S = 3600.0
"""A watch that names no timeout ends after this."""

_INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


def watch(objects: Store, place: Place, request: Request, bookmarks_every_s: float) -> Response:
    """The stream of events. Raises ApiError: 400 for a query that makes no sense."""
    version = request.param("resourceVersion") or "0"
    timeout = request.param("timeoutSeconds") or "0"
    for value in (version, timeout):
        if not (value.isascii() and value.isdigit()):
            raise statuses.bad_request(f'strconv.ParseUint: parsing "{value}": invalid syntax')
    watcher = _Watcher(objects, place, request, bookmarks_every_s)
    stream = watcher.events(int(version), float(timeout) or LONGEST_S)
    return Response(status=HTTPStatus.OK, content_type=JSON, headers=statuses.NO_CACHE, stream=stream)


class _Watcher:
    """One watch."""

    def __init__(self, objects: Store, place: Place, request: Request, bookmarks_every_s: float) -> None:
        self._bookmarks_every_s = bookmarks_every_s
        self._objects = objects
        self._place = place
        self._selected: Callable[[Object], bool] = listing.matcher(place.kind, request)
        self._initial = request.flag("sendInitialEvents")
        self._bookmarks = request.flag("allowWatchBookmarks")
        self._as_table = tables.wanted(request)

    async def events(self, version: int, seconds: float) -> AsyncGenerator[bytes, None]:
        """Lines of JSON until that many seconds are over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if version == 0 or self._initial:
            version = self._objects.version
            for value in self._objects.list(self._place.kind, self._place.namespace):
                if self._matches(value):
                    yield self._line("ADDED", value)
            if self._bookmarks:
                yield self._bookmark(version, _INITIAL_EVENTS_END)
        else:
            yield b""  # so that the head goes out
        next_bookmark = loop.time() + self._bookmarks_every_s
        while loop.time() < deadline:
            try:
                changes = self._objects.changes(version)
            except TooOldError as error:
                yield _too_old(version, error.oldest)
                return
            for change in changes:
                version = change.version
                if line := self._told(change):
                    yield line
            if self._bookmarks and loop.time() >= next_bookmark:
                next_bookmark = loop.time() + self._bookmarks_every_s
                yield self._bookmark(version, {})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, next_bookmark) if self._bookmarks else deadline):
                    await self._objects.wait_changed(version)

    def _told(self, change: Change) -> bytes:
        """One change as this watch sees it: an object that is selected no more was deleted."""
        if change.kind is not self._place.kind:
            return b""
        was = change.old is not None and self._matches(change.old)
        match was, change.new:
            case True, None:
                assert change.old is not None
                return self._line("DELETED", change.old)
            case True, new if new is not None and self._matches(new):
                return self._line("MODIFIED", new)
            case True, _:
                assert change.old is not None
                version = {"resourceVersion": str(change.version)}
                return self._line("DELETED", {**change.old, "metadata": {**change.old["metadata"], **version}})
            case False, new if new is not None and self._matches(new):
                return self._line("ADDED", new)
            case _:
                return b""

    def _matches(self, value: Object) -> bool:
        namespace, _ = store.key_of(value)
        return self._place.namespace in ("", namespace) and self._selected(value)

    def _line(self, kind: str, value: Object) -> bytes:
        if self._as_table:
            value = tables.table(self._place.kind, value, self._objects.time())
        return _event(kind, value)

    def _bookmark(self, version: int, annotations: dict[str, str]) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if annotations:
            metadata["annotations"] = annotations
        value: dict[str, Any] = {
            "kind": self._place.kind.name,
            "apiVersion": self._place.kind.api_version,
            "metadata": metadata,
        }
        if self._place.kind is kinds.POD:
            value |= {"spec": {"containers": None}, "status": {}}
        return _event("BOOKMARK", value)


def _event(kind: str, value: Object) -> bytes:
    return statuses.to_json({"type": kind, "object": value}) + b"\n"


def _too_old(version: int, oldest: int) -> bytes:
    return _event("ERROR", statuses.expired(f"too old resource version: {version} ({oldest})"))
