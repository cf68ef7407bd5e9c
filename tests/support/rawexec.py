"""A TLS server that upgrades to a WebSocket and then does exactly what a test scripts, frame by frame, FIN included."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import ipaddress
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
LOOK = "GET /api/v1/namespaces/shop/pods/web HTTP"


@dataclass
class Peer:
    """The server's side of one upgraded connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: str

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        """Queue one unmasked frame."""
        size = len(payload)
        if size < 126:
            head = bytes([0x80 | opcode, size])
        elif size < 65536:
            head = bytes([0x80 | opcode, 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([0x80 | opcode, 127]) + size.to_bytes(8, "big")
        self.writer.write(head + payload)

    async def receive(self) -> tuple[int, bytes]:
        """The next frame of the client: opcode and unmasked payload. Raises IncompleteReadError at its end."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(size)
        return first & 15, bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))

    async def receive_data(self) -> bytes:
        """The next binary frame, pings and their answers left out."""
        while True:
            opcode, data = await self.receive()
            if opcode == BINARY:
                return data


@dataclass
class RawExec:
    """A running server: where it is, and what was asked of it.

    pods: its pod at each look; the last one stays. looks: how often it was looked up.
    """

    url: str
    ca: Path
    pods: Sequence[Mapping[str, object]]
    looks: int = 0
    requests: list[str] = field(default_factory=list)

    def look(self) -> bytes:
        """The pod as it is now."""
        pod = self.pods[min(self.looks, len(self.pods) - 1)]
        self.looks += 1
        return response("200 OK", json.dumps(pod).encode())


def pod(uid: str = "uid-1", labels: Mapping[str, str] | None = None, **spec: object) -> dict[str, object]:
    """The pod that is served, as the API has it."""
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": uid, "labels": dict(labels or {})},
        "spec": {"containers": [{"name": "app", "image": "app:1"}], **spec},
        "status": {"phase": "Running"},
    }


@asynccontextmanager
async def raw_exec(
    folder: Path,
    script: Callable[[Peer], Awaitable[None]],
    answer: Callable[[str], bytes | None] = lambda _request: None,
    pods: Sequence[Mapping[str, object]] = (),
) -> AsyncIterator[RawExec]:
    """Serve: `answer` may give a whole HTTP response instead of the upgrade; after the script the connection closes."""
    ca, context = certificate(folder)
    running = RawExec(url="", ca=ca, pods=pods or (pod(),))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            if request.startswith(LOOK):
                writer.write(running.look())
                await writer.drain()
                return
            running.requests.append(request)
            refused = answer(request)
            if refused is None and "sec-websocket-key" not in request.lower():
                refused = response("503 Service Unavailable")
            if refused is not None:
                writer.write(refused)
                await writer.drain()
                return
            writer.write(_upgrade(request))
            await script(Peer(reader, writer, request))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    running.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.close()


def response(status: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """A whole HTTP response that closes its connection."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for 127.0.0.1: its file, and a server context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "raw.crt", folder / "raw.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_file, key_file)
    return certificate_file, context


def _upgrade(request: str) -> bytes:
    headers = dict(line.split(": ", 1) for line in request.split("\r\n")[1:] if ": " in line)
    key = next(value for name, value in headers.items() if name.lower() == "sec-websocket-key")
    protocol = next(value for name, value in headers.items() if name.lower() == "sec-websocket-protocol")
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())  # noqa: S324 - RFC 6455 says so
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + f"\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
    )
