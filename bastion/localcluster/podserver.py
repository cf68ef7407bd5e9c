"""What the pod `web` serves: HTTP, an echo, zeros, a sink and a banner; run as a container's main process (images).

It imports little, because it starts with every cluster. The variable LISTEN names its sockets: `8080:5 7000:6` is the
pod's port 8080 on descriptor 5.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from time import gmtime, strftime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = bytes(256 * 1024)


def main() -> None:
    """Serve until killed."""
    sockets = [entry.split(":") for entry in os.environ["LISTEN"].split()]
    threads = [
        threading.Thread(target=_accept, args=(socket.socket(fileno=int(descriptor)), SERVICES[int(port)]))
        for port, descriptor in sockets
    ]
    for thread in threads:
        thread.start()


def _accept(listener: socket.socket, service: Callable[[socket.socket], None]) -> None:
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=_serve, args=(peer, service), daemon=True).start()


def _serve(peer: socket.socket, service: Callable[[socket.socket], None]) -> None:
    with peer, contextlib.suppress(OSError):  # a peer may leave as it likes
        service(peer)


def _http(peer: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        data = peer.recv(4096)
        if not data:
            return
        head += data
    name = os.environ["HOSTNAME"]
    body = f"hello from {name}\n"
    date = strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime())
    lines = ["HTTP/1.0 200 OK", f"Date: {date}", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: text/plain; charset=utf-8", "", body]
    peer.sendall("\r\n".join(lines).encode())


def _echo(peer: socket.socket) -> None:
    while data := peer.recv(len(_BLOCK)):
        peer.sendall(data)


def _zeros(peer: socket.socket) -> None:
    while True:
        peer.sendall(_BLOCK)


def _sink(peer: socket.socket) -> None:
    while peer.recv(len(_BLOCK)):
        pass


def _banner(peer: socket.socket) -> None:
    peer.sendall(b"hello\n")


SERVICES = {8080: _http, 7000: _echo, 7001: _zeros, 7002: _sink, 7003: _banner}
"""What is served on which port of the pod."""


if __name__ == "__main__":
    main()
