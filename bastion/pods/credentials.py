"""Who we are to the API server: tokens, passwords, providers and plugins of a kubeconfig; used by pods.configuration.

A token in a file is read again before it is a minute old, and at once when the server refuses it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bastion.pods import tls
from bastion.pods.plugin import Plugin
from bastion.pods.reread import Reread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from bastion.pods.kubeconfig import Chosen, Cluster
    from bastion.pods.tls import Pair
    from bastion.ports import Clock


class Credentials(Protocol):
    """Who we are: a header, a certificate, or both."""

    async def header(self) -> str:
        """The value of Authorization, "" for none. Raises BastionError(CLUSTER_UNAVAILABLE)."""
        ...

    @property
    def pair(self) -> Pair | None:
        """The certificate to show, if the last `header` brought one."""
        ...

    def forget(self) -> None:
        """The server did not take them."""
        ...


def credentials_of(
    chosen: Chosen, *, environ: Mapping[str, str], clock: Clock, log: FilteringBoundLogger
) -> Credentials:
    """What a user of a kubeconfig says, in the order of client-go, where the first to set Authorization wins.

    Token file, token, name and password, auth-provider, and a plugin only where there is nothing else.

    Raises:
        OSError: a file cannot be read.
        ValueError: there is not in it what should be.
    """
    user = chosen.user
    if user.token_file:
        return _TokenFile(user.token_file, user.token, clock=clock, log=log)
    if user.token:
        return _Fixed(f"Bearer {_one_line(user.token)}")
    if user.username or user.password:
        login = f"{user.username}:{user.password}".encode()
        return _Fixed(f"Basic {base64.b64encode(login).decode()}")
    if user.provider is not None:
        from bastion.pods.provider import Provided  # noqa: PLC0415 - brings aiohttp, and few kubeconfigs need it

        return Provided(user.provider, environ=environ, clock=clock, log=log)
    if user.exec is not None and not user.certificate:
        cluster = _told_to_plugins(chosen.cluster)
        return _FromPlugin(Plugin(user.exec, cluster, environ=environ, clock=clock))
    return _Fixed("")


def _told_to_plugins(cluster: Cluster) -> dict[str, Any]:
    """A cluster as ExecCredential's spec.cluster."""
    told = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure,
        "certificate-authority-data": base64.b64encode(tls.bytes_of(cluster.authority)).decode(),
        "proxy-url": cluster.proxy,
        "config": json.loads(cluster.plugin_config or "null"),
    }
    return {key: value for key, value in told.items() if value}


def _one_line(token: str) -> str:
    """A token that a header can carry. The error does not repeat it."""
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise ValueError("the user's token has characters that no token has; is it another file?")
    if not token:
        raise ValueError("the user's token is empty")
    return token


class _Fixed:
    """What stands in the kubeconfig itself."""

    pair = None

    def __init__(self, header: str) -> None:
        self._header = header

    async def header(self) -> str:
        return self._header

    def forget(self) -> None:
        """There is nothing else to be had."""


class _TokenFile:
    """A token in a file that is replaced before it expires. One in the kubeconfig beside it serves until it is read."""

    pair = None

    def __init__(self, path: str, fallback: str, *, clock: Clock, log: FilteringBoundLogger) -> None:
        otherwise = _one_line(fallback) if fallback else None
        self._path = Path(path)
        self._token = Reread(self._read, clock=clock, log=log, otherwise=otherwise)

    async def header(self) -> str:
        return f"Bearer {self._token.get()}"

    def forget(self) -> None:
        self._token.forget()

    def _read(self) -> str:
        return _one_line(self._path.read_text("ascii", "replace"))


class _FromPlugin:
    """What an exec plugin gives."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin

    @property
    def pair(self) -> Pair | None:
        return self._plugin.last.pair

    async def header(self) -> str:
        token = (await self._plugin.credential()).token
        return f"Bearer {token}" if token else ""

    def forget(self) -> None:
        self._plugin.forget()
