"""A Unix socket by which tests cause the faults of a real cluster; served by __main__, used by tests alone.

JSON lines, one answer for each request: `{"ok": true, …}` or `{"ok": false, "error": …}`.

Of a pod or a container:

    {"do": "cut", "pod": "default/web"}                       abort the TCP connection of every stream of the pod
    {"do": "hold", "pod": "default/web", "seconds": 2}        let nothing pass on them for a while
    {"do": "crash", "pod": "default/web", "container": "web"} kill the container's main process
    {"do": "oom", "pod": "default/web", "container": "web"}   the same for want of memory
    {"do": "evict", "pod": "default/web"}                     the node takes the pod's place away

Of the node, `hang`: its streams fall silent instead of breaking, though the API server answers pings, and new ones are
not refused but have no answer; `grace`: seconds until its pods are not ready (40):

    {"do": "node", "up": false, "hang": true, "grace": 1}
    {"do": "node", "up": true}

Of the API server, `user`: as reviews name it; `match`: a part of path and query; `status`: 429, 500 or 503:

    {"do": "revoke", "user": "kubernetes-admin"}              the tokens of a user are a 401 from now on
    {"do": "restore", "user": "kubernetes-admin"}             and good again
    {"do": "fail", "times": 3, "status": 503, "retry_after": 1, "match": "/pods"}
    {"do": "forget"}                                          whoever watches from an earlier version gets a 410
    {"do": "reset", "seconds": 2}                             abort every connection, and refuse new ones for a while

Questions:

    {"do": "ps"}                                              every process that a stream started
    {"do": "execs"}                                           how each command began that was ever started
    {"do": "asked"}                                           the last requests, and as whom each was made
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from bastion.localcluster.faults import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from bastion.localcluster.auditlog import AuditLog
    from bastion.localcluster.connection import Connection
    from bastion.localcluster.execs import Execs
    from bastion.localcluster.faults import Faults
    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.runtime import Runtime
    from bastion.localcluster.server import Server
    from bastion.localcluster.store import Store

NAME = "control.sock"

NODE_GRACE_S = 40.0
"""Until the pods of a node that was not heard of are not ready (node-monitor-grace-period)."""

_FOR_EVER_S = 86_400.0


class Control:
    """Answers control requests."""

    def __init__(  # noqa: PLR0913 - whatever can fail
        self,
        *,
        execs: Execs,
        kubelet: Kubelet,
        runtime: Runtime,
        store: Store,
        server: Server,
        faults: Faults,
        audit: AuditLog,
    ) -> None:
        self._execs = execs
        self._kubelet = kubelet
        self._runtime = runtime
        self._store = store
        self._server = server
        self._faults = faults
        self._audit = audit
        self._pause: asyncio.Task[None] | None = None
        self._commands: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "cut": self._cut,
            "hold": self._hold,
            "crash": self._crash,
            "oom": self._oom,
            "evict": self._evict,
            "node": self._node,
            "revoke": self._revoke,
            "restore": self._restore,
            "fail": self._fail,
            "forget": self._forget,
            "reset": self._reset,
            "ps": self._ps,
            "execs": self._begun,
            "asked": self._asked,
        }

    async def listen(self, directory: Path) -> asyncio.Server:
        """Serve the socket in a directory that only its owner can enter."""
        path = directory / NAME
        path.unlink(missing_ok=True)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:  # through the descriptor, because a socket's path is limited to 107 bytes
            server = await asyncio.start_unix_server(self._serve, f"/proc/self/fd/{descriptor}/{NAME}")
        finally:
            os.close(descriptor)
        path.chmod(0o600)
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the test left, or sent a line without end
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"ok": True, **await self._commands[request["do"]](request)}
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "error": repr(error)}

    async def _cut(self, request: dict[str, Any]) -> dict[str, Any]:
        streams = list(self._streams(request))
        for stream in streams:
            stream.abort()
        return {"streams": len(streams)}

    async def _hold(self, request: dict[str, Any]) -> dict[str, Any]:
        streams = list(self._streams(request))
        for stream in streams:
            stream.hold(float(request["seconds"]))
        return {"streams": len(streams)}

    async def _crash(self, request: dict[str, Any]) -> dict[str, Any]:
        namespace, name = _pod(request)
        await self._kubelet.crash(namespace, name, str(request["container"]))
        return {}

    async def _oom(self, request: dict[str, Any]) -> dict[str, Any]:
        namespace, name = _pod(request)
        await self._kubelet.crash(namespace, name, str(request["container"]), "OOMKilled")
        return {}

    async def _evict(self, request: dict[str, Any]) -> dict[str, Any]:
        await self._kubelet.evict(*_pod(request))
        return {}

    async def _node(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["up"]:
            self._kubelet.resume()
            return {"streams": 0}
        hangs = bool(request.get("hang"))
        self._kubelet.stop(float(request.get("grace", NODE_GRACE_S)), hangs=hangs)
        streams = self._execs.all_streams()
        for stream in streams:
            if hangs:
                stream.hold(_FOR_EVER_S, answering=True)
            else:
                stream.abort()
        return {"streams": len(streams)}

    async def _revoke(self, request: dict[str, Any]) -> dict[str, Any]:
        self._faults.revoked.add(str(request["user"]))
        return {}

    async def _restore(self, request: dict[str, Any]) -> dict[str, Any]:
        self._faults.revoked.discard(str(request["user"]))
        return {}

    async def _fail(self, request: dict[str, Any]) -> dict[str, Any]:
        retry_after = request.get("retry_after")
        failure = Failure(
            times=int(request["times"]),
            status=int(request["status"]),
            match=str(request.get("match", "")),
            retry_after_s=None if retry_after is None else int(retry_after),
        )
        self._faults.fail(failure)
        return {}

    async def _forget(self, request: dict[str, Any]) -> dict[str, Any]:
        del request
        self._store.forget_changes()
        return {}

    async def _reset(self, request: dict[str, Any]) -> dict[str, Any]:
        seconds = float(request.get("seconds", 0))
        if seconds:
            self._pause = asyncio.ensure_future(self._server.pause(seconds))
            await asyncio.sleep(0)  # so that it listens no more
        return {"connections": self._server.reset()}

    async def _ps(self, request: dict[str, Any]) -> dict[str, Any]:
        del request
        return {
            "processes": [
                {
                    "pod": f"{one.name.namespace}/{one.name.pod}",
                    "container": one.name.container,
                    "pid": one.pid,
                    "argv": one.argv,
                    "orphan": one.orphan,
                }
                for one in self._runtime.processes()
            ]
        }

    async def _begun(self, request: dict[str, Any]) -> dict[str, Any]:
        del request
        return {"execs": [{"pod": f"{name.namespace}/{name.pod}", "argv": argv} for name, argv in self._execs.begun]}

    async def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        del request
        return {"requests": [dataclasses.asdict(one) for one in self._audit.entries]}

    def _streams(self, request: dict[str, Any]) -> Iterable[Connection]:
        return self._execs.streams(*_pod(request))


def _pod(request: dict[str, Any]) -> tuple[str, str]:
    namespace, _, name = str(request["pod"]).partition("/")
    return namespace, name
