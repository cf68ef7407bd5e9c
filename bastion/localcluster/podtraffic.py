"""TCP connections to a pod's ports; used by portforward and spdyforward."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.store import Object

_PIECE = 32 * 1024

_REFUSED = (
    "error forwarding port {port} to pod {sandbox}, uid : failed to execute portforward in network namespace"
    ' "{network}": failed to connect to localhost:{port} inside namespace "{sandbox}", IPv4: dial tcp4'
    " 127.0.0.1:{port}: connect: connection refused IPv6 dial tcp6: address localhost: no suitable address found "
)


class Traffic:
    """Connects to the ports of one pod, which lie on other ports of this machine."""

    def __init__(self, pod: Object, kubelet: Kubelet) -> None:
        self._pod = pod
        self._kubelet = kubelet

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of the pod.

        Raises:
            ConnectionRefusedError: nobody listens there; str() is what the kubelet says (portforward-v4-closed-port).
        """
        local = self._kubelet.local_port(self._pod, port)
        with contextlib.suppress(OSError):
            if local is not None:
                return await asyncio.open_connection("127.0.0.1", local)
        uid = self._pod["metadata"]["uid"]
        sandbox = hashlib.sha256(uid.encode()).hexdigest()
        raise ConnectionRefusedError(_REFUSED.format(port=port, sandbox=sandbox, network=f"/var/run/netns/cni-{uid}"))

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """What the pod says; b"" at the end, however it ends."""
        with contextlib.suppress(ConnectionError):
            return await reader.read(_PIECE)
        return b""

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Say something to the pod, as fast as it reads; what it does not want is dropped."""
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
