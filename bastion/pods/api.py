"""The way to the API server: configuration, credentials, requests that cannot go astray; used by kube and resolve.

Configuration and authentication are kubernetes_asyncio's (kubeconfig, exec
plugins, the ServiceAccount's token re-read as it rotates). Requests are ours: the
library's streams are limited to 100, speak v4 only and lose the server's reason when
it refuses, and its typed calls take more time than all else that opens a session.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import ssl
from asyncio.sslproto import SSLProtocol
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes_asyncio import client, config
from multidict import CIMultiDict
from yarl import URL

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiohttp.client_middlewares import ClientHandlerType

    from bastion.model import KubeIdentity

CONNECT_TIMEOUT_S = 15.0
"""How long an upgrade may take before the API server counts as unavailable."""

REQUEST_TIMEOUT_S = 15.0
"""The same for a request with its answer."""

SSLProtocol.max_size = 24 * 1024  # asyncio's own is 256 KiB
# Each TLS connection holds a buffer of this size for as long as it lives, and idle sessions are many; nor should
# one busy pod keep everybody else waiting for as long as it takes to decrypt and pass on a quarter of a megabyte.

URL_LIMIT = 1_000_000
"""A longer request line is refused with 431 before the upgrade (recorded)."""


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    """The server answered an upgrade with something else than 101, or a request with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body

    @property
    def message(self) -> str:
        """The message of the server's Status object, or its plain text."""
        return status_message(self.body.decode(errors="replace"))


class Api:
    """One API server and our credentials for it."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._configuration = configuration
        self._proxy = configuration.proxy or _proxy_of_environment(configuration.host or "")
        tls = _tls(configuration)
        self._requests = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )
        # A stream has a connection of its own, always a new one: a request that may have begun is not sent twice.
        self._streams = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls), middlewares=[_keep_refusal]
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._streams.close()
        await self._requests.close()

    async def get(self, *path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """Ask for what is at a path, as the bastion itself; returns the JSON.

        Raises Refused if there is no such thing (404), and BastionError: CLUSTER_DENIED, CLUSTER_UNAVAILABLE, INVALID.
        """
        return await self._request("GET", path, query, None)

    async def post(self, *path: str, body: Mapping[str, Any]) -> Any:
        """Have something made, as the bastion itself; returns the JSON. Raises as `get`."""
        return await self._request("POST", path, (), body)

    async def _request(
        self, method: str, path: Sequence[str], query: Sequence[tuple[str, str]], body: Mapping[str, Any] | None
    ) -> Any:
        url = self._url(path, query)
        try:
            async with self._requests.request(
                method,
                url,
                json=body,
                headers=await self._credentials(),
                server_hostname=self._configuration.tls_server_name or None,
                proxy=self._proxy,
            ) as response:
                said = await response.read()
        except TimeoutError as error:
            raise unavailable(f"no answer within {REQUEST_TIMEOUT_S:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise unavailable(f"{type(error).__name__} {error}") from error
        return _answered(response.status, said)

    async def open_stream(
        self, path: Sequence[str], query: Sequence[tuple[str, str]], protocol: str, identity: KubeIdentity
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket on an API path as a person.

        Raises Refused if the server answers otherwise than with 101, and BastionError: INVALID if the
        request is longer than a server takes, CLUSTER_UNAVAILABLE if there is no answer.
        """
        url = self._url(path, query)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._streams.ws_connect(
                    url,
                    protocols=(protocol,),
                    headers=await self._headers(identity),
                    server_hostname=self._configuration.tls_server_name or None,
                    proxy=self._proxy,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    autoping=False,  # we answer and count them ourselves: a stalled reader must not look dead
                    max_msg_size=0,
                    compress=0,
                )
        except TimeoutError as error:
            raise unavailable(f"no answer within {CONNECT_TIMEOUT_S:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise unavailable(str(error)) from error

    async def _headers(self, identity: KubeIdentity) -> CIMultiDict[str]:
        headers = await self._credentials()
        headers["Impersonate-User"] = identity.user
        for group in identity.groups:
            headers.add("Impersonate-Group", group)
        return headers

    async def _credentials(self) -> CIMultiDict[str]:
        settings = (await self._configuration.auth_settings()).values()
        return CIMultiDict((setting["key"], setting["value"]) for setting in settings)

    def _url(self, path: Sequence[str], query: Sequence[tuple[str, str]]) -> URL:
        """The URL of a path; refuses one that would arrive as another (yarl and aiohttp remove dot segments)."""
        wanted = "/" + "/".join(quote(part, safe="") for part in path)
        asked = f"?{urlencode(query, quote_via=quote, safe='')}" if query else ""
        url = URL(f"{(self._configuration.host or '').rstrip('/')}{wanted}{asked}", encoded=True)
        if not url.raw_path.endswith(wanted) or any(part in {"", ".", ".."} for part in path):
            raise BastionError(Code.INVALID, "this name cannot be asked for", detail=wanted)
        if len(url.raw_path_qs) > URL_LIMIT:
            raise BastionError(
                Code.INVALID, "the command is too long for an API request; send it through standard input instead"
            )
        return url


@asynccontextmanager
async def connect(kubeconfig: str | None, context: str | None) -> AsyncIterator[Api]:
    """The API server that a kubeconfig file names, or the one this pod runs under.

    Raises BastionError(INVALID) if the configuration cannot be used.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig:
            _check_is_there(kubeconfig)
            await config.load_kube_config(
                config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
            )
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # the library left it untyped
        api = Api(configuration)
    except Exception as error:
        # Whatever it is: a file with other contents makes the library fail in any place, with any error.
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "the in-cluster configuration"
        raise BastionError(
            Code.INVALID, f"{where} cannot be used: {_cause(error)} (set BASTION_KUBERNETES_KUBECONFIG)"
        ) from error
    try:
        yield api
    finally:
        await api.aclose()


def _check_is_there(kubeconfig: str) -> None:
    """Raises FileNotFoundError if none of the files is there: several stand in one text, as in KUBECONFIG."""
    if not any(path and Path(path).expanduser().exists() for path in kubeconfig.split(os.pathsep)):
        raise FileNotFoundError(errno.ENOENT, "no such file")


def _cause(error: Exception) -> str:
    """Why a configuration cannot be used, on one line."""
    match error:
        case OSError(strerror=str(cause)):
            return f"{error.filename}: {cause}" if error.filename else cause
        case config.ConfigException():
            return str(error).partition("{")[0]  # an entry of the file may follow, with its token
        case _:
            return f"it is not understood as a kubeconfig ({type(error).__name__})"


def unavailable(detail: str, *, status: int | None = None) -> BastionError:
    """The error for an API server that does not answer, or (with the HTTP status) not as it should."""
    fault = "cannot be reached" if status is None else f"cannot answer now (HTTP {status})"
    return BastionError(
        Code.CLUSTER_UNAVAILABLE, f"the cluster's API server {fault}; try again in a moment", detail=detail
    )


def status_message(body: str) -> str:
    """The message of a Status object's JSON; any other text as it is."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip()


def _answered(status: int, body: bytes) -> Any:
    """The JSON of an answer. Raises Refused, BastionError (CLUSTER_DENIED, CLUSTER_UNAVAILABLE)."""
    if 200 <= status <= 299:  # noqa: PLR2004 - success
        try:
            return json.loads(body)
        except ValueError as error:
            raise unavailable(f"its answer is not JSON: {body[:200]!r}") from error
    refused = Refused(status, body)
    if status == 404:  # noqa: PLR2004 - Not Found
        raise refused
    if status == 403:  # noqa: PLR2004 - Forbidden
        raise BastionError(
            Code.CLUSTER_DENIED,
            "the bastion itself may not look that up in the cluster; tell its operators",
            detail=refused.message,
        )
    raise unavailable(f"HTTP {status} {refused.message}", status=status)


def _proxy_of_environment(server: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for a server (a kubeconfig's own comes before it)."""
    url = URL(server)
    if not url.host or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


async def _keep_refusal(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Read the body of a refused upgrade, which aiohttp would drop: it holds the reason."""
    response = await handler(request)
    if response.status != 101:  # noqa: PLR2004 - Switching Protocols
        body = await response.read()
        response.close()
        raise Refused(response.status, body)
    return response


def _tls(configuration: client.Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cast("Any", configuration).ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
