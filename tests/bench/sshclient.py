"""One ssh client for everybody who is measured with one: connections and counted output; used by the measures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import asyncssh

from bench.processes import StepFailedError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


class Shown(asyncssh.SSHClientSession[bytes]):
    """What a session printed, counted."""

    def __init__(self) -> None:
        self._count = 0
        self._more = asyncio.Event()
        self._ended = False

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002 - asyncssh's signature
        self._count += len(data)
        self._more.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        self._ended = True
        self._more.set()

    async def reached(self, count: int) -> None:
        """Return when so many bytes came since the beginning. Raises StepFailedError if they cannot come any more."""
        while self._count < count:
            if self._ended:
                raise StepFailedError("the session ended")
            self._more.clear()
            await self._more.wait()


def connected(
    port: int, user: str, key: Path | asyncssh.SSHKey, source: str = "127.0.0.1"
) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    """Log in, from one of the addresses of loopback; the connection closes with the block."""
    return asyncssh.connect(
        "127.0.0.1",
        port,
        local_addr=(source, 0),
        username=user,
        client_keys=[key],
        known_hosts=None,
        config=None,
        agent_path=None,
        compression_algs=None,
    )


async def begun(
    connection: asyncssh.SSHClientConnection, command: str, **options: Any
) -> tuple[asyncssh.SSHClientChannel[bytes], Shown]:
    """Begin a session; options: as create_session has them."""
    channel, session = await connection.create_session(Shown, command, encoding=None, **options)
    return channel, cast("Shown", session)
