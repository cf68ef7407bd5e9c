"""The pod that everything is measured against, and a raw WebSocket to it; used by bench.stage and the measures."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import aiohttp
from kubernetes_asyncio import client, config

from bench.processes import StepFailedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
"""Channels of v5.channel.k8s.io; 255 closes the one that is named after it (KEP-4006)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of one cluster, and the rights with which it is reached.

    kubeconfig: an admin's, for the raw WebSocket and kubectl. bastion_kubeconfig: the bastion's.
    group: the Kubernetes group that the bastion impersonates its people with.
    """

    kubeconfig: Path
    bastion_kubeconfig: Path
    group: str
    namespace: str
    name: str
    container: str
    """"" is the only one."""

    @property
    def login(self) -> str:
        """The ssh user name that leads there."""
        return f"{self.name}.{self.namespace}" + (f"+{self.container}" if self.container else "")


@asynccontextmanager
async def opened(pod: Pod, command: str, *, tty: bool = False) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A process in the pod behind a plain WebSocket: what an exec costs without ssh and without a bastion."""
    configuration = client.Configuration()
    await config.load_kube_config(str(pod.kubeconfig), client_configuration=configuration)
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    headers = {setting["key"]: setting["value"] for setting in (await configuration.auth_settings()).values()}
    query = [("command", word) for word in ("sh", "-c", command)] + [("stdin", "true"), ("stdout", "true")]
    query.append(("tty", "true") if tty else ("stderr", "true"))
    if pod.container:
        query.append(("container", pod.container))
    url = f"{configuration.host}/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/exec?{urlencode(query)}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, force_close=True)) as session,
        session.ws_connect(
            url, headers=headers, protocols=("v5.channel.k8s.io",), max_msg_size=0, compress=0, autoclose=False
        ) as ws,
    ):
        yield ws


async def run(pod: Pod, command: str, data: bytes = b"") -> bytes:
    """Run a command to its end; its output. Raises StepFailedError if it fails, and what aiohttp raises."""
    async with asyncio.timeout(60), opened(pod, command) as ws:
        with contextlib.suppress(ConnectionResetError):  # a command that reads nothing may have ended
            for at in range(0, len(data), 32768):
                await ws.send_bytes(b"\x00" + data[at : at + 32768])
            await ws.send_bytes(bytes((255, STDIN)))
        out = bytearray()
        async for message in ws:
            frame: bytes = message.data
            if frame[0] in {STDOUT, STDERR}:
                out += frame[1:]
            if frame[0] == STATUS:
                if b'"Success"' not in frame:
                    raise StepFailedError(f"{command}: {(frame[1:] + out).decode(errors='replace')}")
                return bytes(out)
    raise StepFailedError(f"{command}: the connection to the pod was lost")


async def next_frame(ws: aiohttp.ClientWebSocketResponse) -> bytes:
    """Wait for a frame. Raises StepFailedError when there will be none."""
    message = await ws.receive()
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise StepFailedError("the connection to the pod was lost")
    return bytes(message.data)
