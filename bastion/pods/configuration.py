"""How to reach the API server and who we are there, as client-go finds it out; used by app and cli.doctor_cluster.

    --kubeconfig, else $KUBECONFIG, else ~/.kube/config, else the ServiceAccount of the pod this runs in

The merge is in kubeconfig.py. Tokens and certificates in files are read again before they are a minute old. What
client-go has and is refused here, never ignored: `as` (the bastion impersonates by itself) and SOCKS.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bastion.errors import BastionError, Code
from bastion.pods import kubeconfig, kubeconfigfile, tls
from bastion.pods.credentials import credentials_of
from bastion.pods.kubeconfig import Chosen, Cluster, Kubeconfig, Material, User
from bastion.pods.proxies import proxy_for

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from bastion.pods.credentials import Credentials
    from bastion.pods.tls import Pair, Tls
    from bastion.ports import Clock

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's token and the cluster's CA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfiguration:
    """An API server, and what proves who we are.

    server: its URL, with a path if it has one, without a slash at the end.
    proxy: the URL of an HTTP proxy that leads there.
    tls_server_name: the name in its certificate, if it is not the host. `tls` looks for it by itself.
    is_verified: whether the server has to prove who it is; doubtful configurations are logged when they are read.
    source: the context of which kubeconfig, or "in-cluster".
    origins: for each key that several files may have, FILE:LINE of the one that won.
    """

    server: str
    proxy: str | None
    tls_server_name: str | None
    is_verified: bool
    source: str
    origins: tuple[tuple[str, str], ...]
    credentials: Credentials
    trust: Tls

    def tls(self) -> ssl.SSLContext:
        """The context for a new connection; ask for `headers` before, which may bring a client certificate."""
        return self.trust.context(self.credentials.pair)

    async def headers(self) -> list[tuple[str, str]]:
        """The headers that say who we are. A server without TLS gets none, as with client-go.

        Raises:
            BastionError: CLUSTER_UNAVAILABLE, if there are no valid credentials now.
        """
        if not self.server.startswith("https://"):
            return []
        header = await self.credentials.header()
        return [("Authorization", header)] if header else []

    def forget(self) -> None:
        """The server answered 401: what is kept of credentials is read or asked for anew."""
        self.credentials.forget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What this process was given. home: of ~/.kube/config; account: the folder of a pod's token and CA."""

    environ: Mapping[str, str]
    home: Path
    clock: Clock
    log: FilteringBoundLogger
    account: Path = ACCOUNT


async def configured(path: str | None, context: str | None, given: Surroundings) -> ClusterConfiguration:
    """How to reach the API server.

    path: the one kubeconfig to use; None looks for one as client-go does.
    context: the context in it; None is the current context.

    Raises:
        BastionError: INVALID, with the file and the line, and what to do.
    """
    return await asyncio.to_thread(_configured, path, context, given)


def _configured(path: str | None, context: str | None, given: Surroundings) -> ClusterConfiguration:
    merged = read(path, given)
    if not merged.is_empty:
        chosen = kubeconfig.choose(merged, context)
        origins = merged.origins()
        return _built(chosen, f"context {chosen.context}", origins, given)
    if path or context:
        where = path or "KUBECONFIG and ~/.kube/config"
        raise BastionError(Code.INVALID, f"{where}: there is no configuration in it; name another with --kubeconfig")
    return _built(_in_cluster(given), "in-cluster", (), given)


def read(path: str | None, given: Surroundings) -> Kubeconfig:
    """The kubeconfigs that are found, merged.

    Raises:
        BastionError: INVALID, if one cannot be read or understood, or `path` is missing.
    """
    variable = given.environ.get("KUBECONFIG", "")
    if path:
        paths = [path]
    elif variable:
        paths = list(kubeconfig.listed(variable))
    else:
        paths = [str(given.home / ".kube" / "config")]
    found = [(name, data) for name in paths if (data := _contents(name, is_due=bool(path))) is not None]
    if variable and not path and not found:
        given.log.warning("kubernetes.kubeconfig_missing", files=paths)
    return kubeconfig.merge([kubeconfigfile.parse(data, str(Path(name).absolute())) for name, data in found])


def _contents(path: str, *, is_due: bool) -> bytes | None:
    """A file's bytes; None if it may be missing and is."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        if not is_due:
            return None
        raise BastionError(Code.INVALID, f"the kubeconfig {path} is missing (--kubeconfig)") from error
    except OSError as error:
        raise BastionError(Code.INVALID, f"cannot read the kubeconfig {path}: {error.strerror}") from error


def _in_cluster(given: Surroundings) -> Chosen:
    """What Kubernetes gives to every pod."""
    host, port = (given.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    token, authority = given.account / "token", given.account / "ca.crt"
    if not host or not port or not token.exists():
        raise BastionError(
            Code.INVALID,
            "there is no kubeconfig, and this is no pod with a ServiceAccount: name a kubeconfig with --kubeconfig, "
            "BASTION_KUBERNETES_KUBECONFIG or KUBECONFIG",
        )
    where = str(given.account)
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Chosen(
        context="",
        cluster=Cluster(where=where, server=server, authority=Material(file=str(authority))),
        user=User(where=where, token_file=str(token)),
    )


def _built(
    chosen: Chosen, source: str, origins: tuple[tuple[str, str], ...], given: Surroundings
) -> ClusterConfiguration:
    cluster, user = chosen.cluster, chosen.user
    try:
        trust = _tls(chosen, given)
        credentials = credentials_of(chosen, environ=given.environ, clock=given.clock, log=given.log)
    except OSError as error:
        raise BastionError(Code.INVALID, f"{source}: cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        places = dict.fromkeys((cluster.where, user.where))
        raise BastionError(Code.INVALID, f"{source}: {error} ({', '.join(places)})") from error
    is_verified = cluster.server.startswith("https://") and not cluster.insecure
    if not is_verified:
        given.log.warning("kubernetes.insecure", server=cluster.server, configured_in=cluster.where)
    return ClusterConfiguration(
        server=cluster.server.rstrip("/"),
        proxy=cluster.proxy or proxy_for(cluster.server, given.environ) or None,
        tls_server_name=cluster.tls_server_name or None,
        is_verified=is_verified,
        source=source,
        origins=origins,
        credentials=credentials,
        trust=trust,
    )


def _tls(chosen: Chosen, given: Surroundings) -> Tls:
    cluster, user = chosen.cluster, chosen.user

    def files() -> tuple[bytes, Pair]:
        return tls.bytes_of(cluster.authority), (tls.bytes_of(user.certificate), tls.bytes_of(user.key))

    host = urlsplit(cluster.server).hostname or ""
    make = partial(tls.context_of, verify=not cluster.insecure, host=host, name=cluster.tls_server_name)
    return tls.Tls(files, make, clock=given.clock, log=given.log)
