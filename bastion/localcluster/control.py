"""A Unix socket by which tests cause the faults of a real cluster; served by __main__, used by tests alone.

JSON lines, one answer for each request: `{"ok": true, …}` or `{"ok": false, "error": …}`.

    {"do": "cut", "pod": "default/web"}                       abort the TCP connection of every stream of the pod
    {"do": "hold", "pod": "default/web", "seconds": 2}        let nothing pass on them for a while
    {"do": "crash", "pod": "default/web", "container": "web"} kill the container's main process
    {"do": "ps"}                                              every process that a stream started
    {"do": "execs"}                                           how each command began that was ever started
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from bastion.localcluster.connection import Connection
    from bastion.localcluster.execs import Execs
    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.runtime import Runtime

NAME = "control.sock"


class Control:
    """Answers control requests."""

    def __init__(self, *, execs: Execs, kubelet: Kubelet, runtime: Runtime) -> None:
        self._execs = execs
        self._kubelet = kubelet
        self._runtime = runtime
        self._commands: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "cut": self._cut,
            "hold": self._hold,
            "crash": self._crash,
            "ps": self._ps,
            "execs": self._begun,
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

    def _streams(self, request: dict[str, Any]) -> Iterable[Connection]:
        return self._execs.streams(*_pod(request))


def _pod(request: dict[str, Any]) -> tuple[str, str]:
    namespace, _, name = str(request["pod"]).partition("/")
    return namespace, name
