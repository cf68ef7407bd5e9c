"""A raw WebSocket client as a program: its standard streams are those of a process in the pod; started by the measures.

python -m bench.websocket KUBECONFIG NAMESPACE POD CONTAINER COMMAND [tty]
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cluster import STATUS, STDERR, STDIN, STDOUT, Pod, opened

if TYPE_CHECKING:
    import aiohttp

PIECE = 32 * 1024
"""As large as the frames that kubectl sends."""


async def _give(ws: aiohttp.ClientWebSocketResponse) -> None:
    while data := await asyncio.to_thread(os.read, 0, PIECE):
        await ws.send_bytes(b"\x00" + data)
    await ws.send_bytes(bytes((255, STDIN)))


async def _run(pod: Pod, command: str, *, tty: bool) -> int:
    async with opened(pod, command, tty=tty) as ws:
        giving = asyncio.create_task(_give(ws))
        async for message in ws:
            frame: bytes = message.data
            if frame[0] in {STDOUT, STDERR}:
                _write(frame)
            elif frame[0] == STATUS:
                giving.cancel()
                return 0 if b'"Success"' in frame else 1
    return 1


def _write(frame: bytes) -> None:
    """The channels of output have the numbers that the descriptors have."""
    view = memoryview(frame)[1:]
    while view:
        view = view[os.write(frame[0], view) :]


if __name__ == "__main__":
    kubeconfig, namespace, name, container, wanted, *terminal = sys.argv[1:]
    file = Path(kubeconfig)
    where = Pod(kubeconfig=file, bastion_kubeconfig=file, group="", namespace=namespace, name=name, container=container)
    sys.exit(asyncio.run(_run(where, wanted, tty=bool(terminal))))
