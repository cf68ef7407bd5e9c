"""Kubeconfigs as values, merged and chosen from as client-go does (pure); used by pods.configuration.

The rules are those of client-go's `clientcmd.ClientConfigLoadingRules`. A file that is named explicitly is used alone.
Else the files of KUBECONFIG are merged, or ~/.kube/config is taken. The first file that has a cluster, a user or a
context of a name wins for that name whole, and the first that sets current-context for that. Relative paths are
relative to the file in which they stand. What a file looks like is in kubeconfigfile.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import urlsplit

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_T = TypeVar("_T")
AUTHENTICATION = "client.authentication.k8s.io"
"""The API group of exec plugins."""

_EXEC_VERSIONS = (f"{AUTHENTICATION}/v1", f"{AUTHENTICATION}/v1beta1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Something in PEM: the data itself, or the absolute path of a file with it. Data wins; with neither, nothing."""

    file: str = ""
    data: bytes = field(default=b"", repr=False)

    def __bool__(self) -> bool:
        return bool(self.file or self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """A program that says who we are. command: absolute, or a name that is looked for in PATH."""

    where: str
    api_version: str
    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    interactive_mode: str = ""
    provide_cluster_info: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthProvider:
    """Somebody who gives tokens to a client (auth-provider). name: which kind; the rest is what `oidc` needs.

    authority: of the identity provider. Its file is relative to the working directory, as for client-go.
    """

    where: str
    name: str = ""
    issuer: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    authority: Material = Material()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """How to reach an API server.

    where: FILE:LINE, as in all of these.
    plugin_config: JSON that is passed on to an exec plugin that asks for it; "" for none.
    """

    where: str
    server: str = ""
    tls_server_name: str = ""
    insecure: bool = False
    authority: Material = Material()
    proxy: str = ""
    plugin_config: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who we are there. unsupported: keys that we do not honour, each with its place."""

    where: str
    certificate: Material = Material()
    key: Material = Material()
    token: str = field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    provider: AuthProvider | None = None
    exec: Exec | None = None
    unsupported: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A cluster and a user, by name."""

    where: str
    cluster: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """What a file says, or several of them merged. current_where: where current-context is set."""

    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    contexts: Mapping[str, Context] = field(default_factory=dict)
    current_context: str = ""
    current_where: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing, so that the pod's own ServiceAccount is what is left."""
        return not (self.clusters or self.users or self.contexts or self.current_context)

    def origins(self) -> tuple[tuple[str, str], ...]:
        """Each key that may stand in several files, and FILE:LINE of the one that won."""
        won = [("current-context", self.current_where)] if self.current_context else []
        won += [(f"contexts.{name}", context.where) for name, context in self.contexts.items()]
        won += [(f"clusters.{name}", cluster.where) for name, cluster in self.clusters.items()]
        won += [(f"users.{name}", user.where) for name, user in self.users.items()]
        return tuple(won)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What one context means."""

    context: str
    cluster: Cluster
    user: User


def listed(variable: str) -> tuple[str, ...]:
    """The files that KUBECONFIG names: divided at colons, each once, empty entries left out."""
    return tuple(path for path in dict.fromkeys(variable.split(":")) if path)


def merge(files: Sequence[Kubeconfig]) -> Kubeconfig:
    """Several files as one; for each name, what the first that has it says."""
    first = next((one for one in files if one.current_context), Kubeconfig())
    return Kubeconfig(
        clusters=_first(one.clusters for one in files),
        users=_first(one.users for one in files),
        contexts=_first(one.contexts for one in files),
        current_context=first.current_context,
        current_where=first.current_where,
    )


def choose(config: Kubeconfig, context: str | None) -> Chosen:
    """What a context means, or without one the current context.

    Raises:
        BastionError: INVALID, if there is no such context, it names no cluster or user that there is, or what they
            say cannot be used.
    """
    name = context or config.current_context
    if not name:
        raise BastionError(
            Code.INVALID, f"no kubeconfig sets current-context; choose one with --context{_known(config.contexts)}"
        )
    found = config.contexts.get(name)
    if found is None:
        where = "--context" if context else config.current_where
        raise BastionError(Code.INVALID, f"{where}: there is no context {name!r}{_known(config.contexts)}")
    cluster = _referred(found, name, "cluster", found.cluster, config.clusters)
    user = _referred(found, name, "user", found.user, config.users)
    _check_cluster(cluster)
    _check_user(user)
    return Chosen(context=name, cluster=cluster, user=user)


def _known(names: Mapping[str, object]) -> str:
    return f"; known are {', '.join(sorted(names))}" if names else "; there are none in the files that were read"


def _first(maps: Iterable[Mapping[str, _T]]) -> dict[str, _T]:
    result: dict[str, _T] = {}
    for one in maps:
        for name, value in one.items():
            result.setdefault(name, value)
    return result


def _referred(context: Context, name: str, kind: str, wanted: str, there_are: Mapping[str, _T]) -> _T:
    if not wanted:
        _wrong(context.where, f"context {name!r} names no {kind}; add `{kind}: NAME` to it")
    if wanted not in there_are:
        _wrong(context.where, f"context {name!r} names the {kind} {wanted!r}, which no file has{_known(there_are)}")
    return there_are[wanted]


def _check_cluster(cluster: Cluster) -> None:
    if not _is_url(cluster.server):
        _wrong(cluster.where, "this cluster needs server: https://HOST:PORT")
    if cluster.proxy and not _is_url(cluster.proxy):
        _wrong(cluster.where, "proxy-url must be http://HOST:PORT or https://HOST:PORT; others are not supported")
    if cluster.insecure and cluster.authority:
        _wrong(cluster.where, "insecure-skip-tls-verify and a certificate-authority exclude each other; remove one")


def _check_user(user: User) -> None:
    for key, where in user.unsupported:
        _wrong(where, f"{key} is not supported; give the user a token, a client certificate or an exec plugin")
    if user.certificate and not user.key:
        _wrong(user.where, "this user has a client-certificate and needs client-key or client-key-data too")
    if (user.token or user.token_file) and (user.username or user.password):
        _wrong(user.where, "this user has a token and a username or password; remove one of them")
    if user.provider is not None:
        _check_provider(user.provider)
    if user.exec is not None:
        _check_exec(user.exec)
    if user.provider is not None and user.exec is not None:
        _wrong(user.where, "this user has an auth-provider and an exec plugin; remove one of them")


def _check_provider(provider: AuthProvider) -> None:
    if provider.name != "oidc":  # gcp and azure are gone from client-go since 1.26
        _wrong(provider.where, f"the auth-provider {provider.name!r} is not supported; use an exec plugin instead")
    if not is_https(provider.issuer):
        _wrong(provider.where, "this auth-provider's config needs idp-issuer-url: https://HOST")
    if not provider.client_id:
        _wrong(provider.where, "this auth-provider's config needs a client-id")
    if not provider.id_token and not provider.refresh_token:
        _wrong(provider.where, "this auth-provider's config needs a refresh-token or an id-token")


def _check_exec(plugin: Exec) -> None:
    if not plugin.command:
        _wrong(plugin.where, "this exec plugin needs a command")
    if plugin.api_version not in _EXEC_VERSIONS:
        _wrong(plugin.where, f"this exec plugin's apiVersion must be {' or '.join(_EXEC_VERSIONS)}")
    if plugin.interactive_mode == "Always":
        _wrong(plugin.where, "this exec plugin wants a person to answer it (interactiveMode: Always); use another")
    if plugin.interactive_mode not in {"Never", "IfAvailable"}:
        _wrong(plugin.where, "this exec plugin's interactiveMode must be Never or IfAvailable")


def is_https(text: str) -> bool:
    """Whether it is a URL to which secrets may go."""
    return text.startswith("https://") and _is_url(text)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False


def _wrong(where: str, problem: str) -> NoReturn:
    raise BastionError(Code.INVALID, f"{where}: {problem}")
