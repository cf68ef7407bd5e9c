"""What a connection to the API server that failed means, in words of our own; used by pods.api and its siblings."""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from bastion.pods.configuration import ClusterConfiguration

REQUEST_TIMEOUT_S = 15.0
"""How long a request may take with its answer before the API server counts as unavailable."""


class ProxyError(BastionError):
    """The API server may be well: the proxy on the way to it is what failed."""

    def __init__(self, detail: str) -> None:
        """detail: the proxy's host and port, and the cause."""
        message = "the proxy on the way to the cluster's API server does not let us through"
        super().__init__(Code.CLUSTER_UNAVAILABLE, message, detail=detail)


def unavailable(detail: str, *, status: int | None = None) -> BastionError:
    """The error for an API server that does not answer, or (with the HTTP status) not as it should."""
    fault = "cannot be reached" if status is None else f"cannot answer now (HTTP {status})"
    return BastionError(
        Code.CLUSTER_UNAVAILABLE, f"the cluster's API server {fault}; try again in a moment", detail=detail
    )


def failure(error: Exception, configuration: ClusterConfiguration) -> BastionError:
    """What a connection that failed means, in words of our own: aiohttp's have objects, and a proxy's password."""
    proxy = URL(configuration.proxy or "")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ProxyError(f"{proxy.host}:{proxy.port}: HTTP {error.status} {error.message}")
    if not isinstance(error, aiohttp.ClientConnectorError):
        server = URL(configuration.server)
        through = f" through the proxy {proxy.host}:{proxy.port}" if configuration.proxy else ""
        return unavailable(f"{server.host}:{server.port}{through}: {_cause(error)}")
    where = f"{error.host}:{error.port}: {_cause(error.os_error)}"
    if configuration.proxy and (error.host, error.port) == (proxy.host, proxy.port):
        return ProxyError(where)
    return unavailable(where)


def _cause(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {REQUEST_TIMEOUT_S:.0f} s"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS: {(error.reason or 'broken off').lower().replace('_', ' ')}"
        case socket.gaierror():
            return str(error.strerror)
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return str(error) or type(error).__name__
