"""An API server that lists and watches the objects a test gives it, and fails as told; used by tests of discovery.

Plain HTTP on loopback. Shapes as recorded (tests/data/kube-wire: pods-list-limit, pods-watch-*).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Object = dict[str, Any]

END, ABORT = b"end", b"abort"


@dataclass(eq=False)
class Watch:
    """An open watch: what it is about, from which version, and what it is still to be sent."""

    plural: str
    namespace: str
    version: int
    lines: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


@dataclass
class ListServer:
    """What there is, by plural and by (namespace, name), and what was asked for.

    refused: plural to the HTTP status it is answered with, and with retry_after, if that is not "".
    unwatchable: plurals whose watch alone is a 403.
    forgotten: watches from before this version are too old. gone_by_http: which an HTTP 410 says, and no ERROR event.
    listed: called with the plural after each page. asked: every request but those for watches, as path and query.
    """

    url: str = ""
    objects: dict[str, dict[tuple[str, str], Object]] = field(default_factory=dict)
    version: int = 1
    watches: list[Watch] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    watched: list[tuple[str, str]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    retry_after: str = ""
    unwatchable: set[str] = field(default_factory=set)
    ends_at_once: bool = False
    forgotten: int = 0
    gone_by_http: bool = False
    listed: Callable[[str], None] = lambda _plural: None
    asked: list[str] = field(default_factory=list)
    _rest: dict[str, tuple[str, list[Object]]] = field(default_factory=dict)
    _history: list[tuple[int, str, str, bytes]] = field(default_factory=list)

    def put(self, plural: str, item: Object) -> None:
        """Make or change an object, and tell the watches."""
        known = self.objects.setdefault(plural, {})
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        kind = "MODIFIED" if key in known else "ADDED"
        known[key] = self._next(item)
        self._tell(plural, key[0], kind, known[key])

    def remove(self, plural: str, name: str, namespace: str = "shop") -> None:
        """Delete an object, and tell the watches."""
        gone = self._next(self.objects[plural].pop((namespace, name)))
        self._tell(plural, namespace, "DELETED", gone)

    def bookmark(self) -> None:
        """Advance the version, and send a bookmark to every watch."""
        self.version += 1
        value = {"kind": "X", "metadata": {"resourceVersion": str(self.version)}}
        self.send(_event("BOOKMARK", value))

    def send(self, line: bytes, plural: str = "") -> None:
        """Send a line to every watch, or to those of a plural; END and ABORT end them."""
        for watch in self.watches:
            if plural in ("", watch.plural):
                watch.lines.put_nowait(line)

    def forget(self) -> None:
        """Every version until now is too old to watch from."""
        self.version += 1
        self.forgotten = self.version

    def _next(self, item: Object) -> Object:
        self.version += 1
        return {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}

    def _tell(self, plural: str, namespace: str, kind: str, item: Object) -> None:
        line = _event(kind, item)
        self._history.append((self.version, plural, namespace, line))
        for watch in self.watches:
            if watch.plural == plural and watch.namespace in ("", namespace):
                watch.lines.put_nowait(line)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        namespace, plural, name = _place(request.path)
        if request.query.get("watch") != "true":
            self.asked.append(request.path_qs)
        if plural in self.refused:
            refusal = _status(self.refused[plural], f"{plural} refused")
            refusal.headers.update({"Retry-After": self.retry_after} if self.retry_after else {})
            return refusal
        if name:
            found = self.objects.get(plural, {}).get((namespace, name))
            return web.json_response(found) if found is not None else _status(404, f'{plural} "{name}" not found')
        if request.query.get("watch") == "true":
            if plural in self.unwatchable:
                self.watched.append((plural, ""))
                return _status(403, f"{plural} cannot be watched")
            return await self._watch(request, plural, namespace)
        return self._list(request, plural, namespace)

    def _list(self, request: web.Request, plural: str, namespace: str) -> web.Response:
        self.lists.append(request.path)
        more, limit = request.query.get("continue") or "", int(request.query.get("limit") or 0)
        if more:
            version, items = self._rest.pop(more)  # every page is of the moment of the first
        else:
            version = str(self.version)
            items = [item for key, item in self.objects.get(plural, {}).items() if namespace in ("", key[0])]
        metadata = {"resourceVersion": version}
        if limit and len(items) > limit:
            metadata["continue"] = f"{len(self.lists)}"
            self._rest[metadata["continue"]] = version, items[limit:]
            items = items[:limit]
        answer = web.json_response({"kind": "List", "metadata": metadata, "items": items})
        self.listed(plural)
        return answer

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        self.watched.append((plural, request.query["resourceVersion"]))
        too_old = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        if version < self.forgotten and self.gone_by_http:
            return web.json_response(too_old, status=410)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if version < self.forgotten:
            await response.write(_event("ERROR", too_old))
            return response
        if self.ends_at_once:
            return response
        watch = Watch(plural, namespace, version)
        for at, kind, place, line in self._history:
            if at > version and kind == plural and namespace in ("", place):
                watch.lines.put_nowait(line)
        self.watches.append(watch)
        try:
            while (line := await watch.lines.get()) not in (END, ABORT):
                await response.write(line)
        finally:
            if watch in self.watches:
                self.watches.remove(watch)
        if line == ABORT and request.transport is not None:
            request.transport.abort()
        return response


def _place(path: str) -> tuple[str, str, str]:
    """Namespace, plural and name that a path of the API means; "" for what it does not say."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[0] == "namespaces" and len(parts) > 2:
        return parts[1], parts[2], "/".join(parts[3:])
    return "", parts[0], "/".join(parts[1:])


def _event(kind: str, value: Object) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


@asynccontextmanager
async def list_server() -> AsyncIterator[ListServer]:
    """A running one; it ends with the block."""
    server = ListServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        server.send(END)
        await runner.cleanup()
