"""The way to the API server: configuration, credentials, requests that cannot go astray; used by kube and resolve.

Configuration and authentication are kubernetes_asyncio's (kubeconfig, exec
plugins, the ServiceAccount's token re-read as it rotates), and so are typed
calls made as the bastion itself. Streams are ours: its own are limited to 100,
speak v4 only and lose the server's reason when it refuses.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes_asyncio import client, config
from multidict import CIMultiDict
from yarl import URL

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiohttp.client_middlewares import ClientHandlerType

    from bastion.model import KubeIdentity

CONNECT_TIMEOUT_S = 15.0
"""How long an upgrade may take before the API server counts as unavailable."""

URL_LIMIT = 1_000_000
"""A longer request line is refused with 431 before the upgrade (recorded)."""


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    """The server answered an upgrade with something else than 101."""

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
        self.typed = client.ApiClient(configuration)
        self._streams = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=_tls(configuration)),
            middlewares=[_keep_refusal],
            trust_env=True,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._streams.close()
        await self.typed.close()

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
                    proxy=self._configuration.proxy or None,
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
        headers: CIMultiDict[str] = CIMultiDict()
        for setting in (await self._configuration.auth_settings()).values():
            headers[setting["key"]] = setting["value"]
        headers["Impersonate-User"] = identity.user
        for group in identity.groups:
            headers.add("Impersonate-Group", group)
        return headers

    def _url(self, path: Sequence[str], query: Sequence[tuple[str, str]]) -> URL:
        """The URL of a path; refuses one that would arrive as another (yarl and aiohttp remove dot segments)."""
        wanted = "/" + "/".join(quote(part, safe="") for part in path)
        url = URL(
            f"{(self._configuration.host or '').rstrip('/')}{wanted}?{urlencode(query, quote_via=quote, safe='')}",
            encoded=True,
        )
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


def unavailable(detail: str) -> BastionError:
    """The error for an API server that does not answer as it should."""
    return BastionError(
        Code.CLUSTER_UNAVAILABLE, "the cluster's API server cannot be reached; try again in a moment", detail=detail
    )


def status_message(body: str) -> str:
    """The message of a Status object's JSON; any other text as it is."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip()


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
