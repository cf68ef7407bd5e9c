"""A running embedded cluster for a test; used by every test that needs pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

START_LIMIT = 10.0
STOP_LIMIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where it is. `pid` is the process's own."""

    url: str
    dir: Path
    pid: int

    @property
    def kubeconfig(self) -> Path:
        """The admin's (group system:masters)."""
        return self.dir / "kubeconfig"

    @property
    def bastion_kubeconfig(self) -> Path:
        """The one of ServiceAccount bastion/bastion."""
        return self.dir / "bastion.kubeconfig"

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.dir / "ca.crt"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    def token(self, user: str = "kubernetes-admin") -> str:
        """The bearer token of a user."""
        tokens: dict[str, str] = json.loads((self.dir / "tokens.json").read_bytes())
        return tokens[user]

    async def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the control socket (bastion/localcluster/control.py); fails if it refuses."""
        directory = os.open(self.dir, os.O_PATH | os.O_DIRECTORY)  # a socket's own path may be too long
        try:
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/control.sock", limit=1 << 22
            )
        finally:
            os.close(directory)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await reader.readline())
        finally:
            writer.close()
            await writer.wait_closed()
        assert answer["ok"], answer
        return answer

    async def processes(self) -> list[dict[str, Any]]:
        """Every process of every container: pod, container, pid, argv, orphan."""
        listed: list[dict[str, Any]] = (await self.control({"do": "ps"}))["processes"]
        return listed


@contextlib.asynccontextmanager
async def running_cluster(directory: Path, *arguments: str, subprotocols: str = "v5,v4") -> AsyncIterator[Cluster]:
    """Run an embedded cluster that keeps its files in `directory`/cluster; it ends with the block."""
    process = await asyncio.to_thread(_start, directory / "cluster", subprotocols, *arguments)
    try:
        yield await asyncio.to_thread(_ready, process, directory / "cluster")
    finally:
        await asyncio.to_thread(_stop, process)


@contextlib.contextmanager
def running_cluster_sync(directory: Path, *arguments: str, subprotocols: str = "v5,v4") -> Iterator[Cluster]:
    """The same for tests, and fixtures of wider scope, that are not coroutines."""
    process = _start(directory / "cluster", subprotocols, *arguments)
    try:
        yield _ready(process, directory / "cluster")
    finally:
        _stop(process)


def _start(directory: Path, subprotocols: str, *arguments: str) -> subprocess.Popen[str]:
    given = ["--dir", str(directory), "--subprotocols", subprotocols, "--until-eof", *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "bastion.localcluster", *given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ready(process: subprocess.Popen[str], directory: Path) -> Cluster:
    assert process.stdout is not None
    words = process.stdout.readline().split()  # ends with the process, if it cannot start
    assert words[:1] == ["ready"], f"the embedded cluster did not start: status {process.wait(START_LIMIT)}"
    return Cluster(url=words[1], dir=directory.resolve(), pid=process.pid)


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(STOP_LIMIT)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
