"""The proxy that causes the failures of the other tests: it must fail as it says, or they prove nothing."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING

import pytest

from support.faultproxy import FaultProxy, Way, fault_proxy
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT_S = 0.3
"""How long a test waits for what must not come."""


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """A proxy before a server that says what it is told."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with fault_proxy(("127.0.0.1", server.server_address[1])) as running:
                yield running
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A connection that has been used."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as connection:
        assert echoed(connection, b"hello")
        yield connection


def echoed(connection: socket.socket, data: bytes) -> bool:
    connection.sendall(data)
    return received(connection, len(data)) == data


def received(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer if the connection ends."""
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data


def silent(connection: socket.socket) -> bool:
    """Whether nothing comes, not even an end."""
    connection.settimeout(SHORT_S)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(30)
    return False


def test_who_is_refused_is_told_at_once_and_who_is_connected_stays(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.refuse()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    assert echoed(client, b"still here")

    proxy.resume()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as another:
        assert echoed(another, b"back")


def test_a_cut_is_a_reset_or_an_orderly_end(proxy: FaultProxy, client: socket.socket) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as another:
        assert echoed(another, b"hello")
        proxy.cut()
        for connection in (client, another):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as another:
        assert echoed(another, b"hello")
        proxy.cut(with_fin=True)
        assert another.recv(1) == b""
    wait_until(lambda: proxy.connections == 0)


def test_what_is_held_comes_later_and_nothing_is_missing(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.hold()
    client.sendall(b"late")
    assert silent(client)

    proxy.resume()

    assert received(client, 4) == b"late"


@pytest.mark.parametrize("ways", [(Way.UP,), (Way.DOWN,), (Way.UP, Way.DOWN)], ids=["up", "down", "both"])
def test_what_is_swallowed_is_lost_for_good_and_who_connects_is_lost_too(
    proxy: FaultProxy, client: socket.socket, ways: tuple[Way, ...]
) -> None:
    proxy.swallow(*ways)
    client.sendall(b"lost")
    assert silent(client)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as another:
        another.sendall(b"lost")
        assert silent(another)

    proxy.resume()

    client.sendall(b"lost")
    assert silent(client)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as another:
        assert echoed(another, b"back")


def test_a_slow_way_lets_bytes_through_one_after_the_other(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.slow(2_000_000)
    data = bytes(400_000)
    began = time.monotonic()
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()

    assert received(client, len(data)) == data

    assert time.monotonic() - began > 0.1
    sender.join()


def test_an_end_passes_as_an_end(proxy: FaultProxy, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)

    assert client.recv(1) == b""
    wait_until(lambda: proxy.connections == 0)
