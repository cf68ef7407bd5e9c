"""A kubeconfig file: YAML to a `kubeconfig.Kubeconfig` (pure); used by pods.configuration.

Unknown keys are ignored, as client-go does. Errors say the file and the line and
never repeat a value, which may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import posixpath
from typing import TYPE_CHECKING, Any, TypeVar

from bastion import strictyaml
from bastion.pods.kubeconfig import AUTHENTICATION, AuthProvider, Cluster, Context, Exec, Kubeconfig, Material, User

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bastion.strictyaml import Value

_T = TypeVar("_T")
_STR = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"

_UNSUPPORTED = ("as", "as-uid", "as-groups", "as-user-extra")
"""Keys of a user that would change who we are, if they were honoured."""

_PLUGIN_CONFIG = f"{AUTHENTICATION}/exec"
"""The extension of a cluster that is meant for exec plugins."""


def parse(data: bytes, path: str) -> Kubeconfig:
    """What a file says.

    path: the file's absolute path, which relative paths in it are resolved against.

    Raises:
        BastionError: INVALID, with the file and the line.
    """
    if not data.strip():
        return Kubeconfig()
    top = dict(strictyaml.parse(data, path).entries())
    directory = posixpath.dirname(path)
    return Kubeconfig(
        clusters=_named(top, "clusters", "cluster", lambda where, keys: _cluster(where, keys, directory)),
        users=_named(top, "users", "user", lambda where, keys: _user(where, keys, directory)),
        contexts=_named(top, "contexts", "context", _context),
        current_context=_text(top, "current-context"),
        current_where=top["current-context"].where if "current-context" in top else "",
    )


def _cluster(where: str, keys: Mapping[str, Value], directory: str) -> Cluster:
    return Cluster(
        where=where,
        server=_text(keys, "server"),
        tls_server_name=_text(keys, "tls-server-name"),
        insecure=_truth(keys, "insecure-skip-tls-verify"),
        authority=_material(keys, "certificate-authority", directory),
        proxy=_text(keys, "proxy-url"),
        plugin_config=_plugin_config(keys),
    )


def _user(where: str, keys: Mapping[str, Value], directory: str) -> User:
    return User(
        where=where,
        certificate=_material(keys, "client-certificate", directory),
        key=_material(keys, "client-key", directory),
        token=_text(keys, "token"),
        token_file=_resolved(_text(keys, "tokenFile"), directory),
        username=_text(keys, "username"),
        password=_text(keys, "password"),
        provider=_provider(keys["auth-provider"]) if _is_set(keys, "auth-provider") else None,
        exec=_exec(keys["exec"], directory) if _is_set(keys, "exec") else None,
        unsupported=tuple((key, keys[key].where) for key in _UNSUPPORTED if _is_set(keys, key)),
    )


def _provider(value: Value) -> AuthProvider:
    keys = dict(value.entries())
    config = dict(keys["config"].entries()) if _is_set(keys, "config") else {}
    return AuthProvider(
        where=value.where,
        name=_text(keys, "name"),
        issuer=_text(config, "idp-issuer-url"),
        client_id=_text(config, "client-id"),
        client_secret=_text(config, "client-secret"),
        id_token=_text(config, "id-token"),
        refresh_token=_text(config, "refresh-token"),
        authority=_material(config, "idp-certificate-authority", ""),
    )


def _exec(value: Value, directory: str) -> Exec:
    keys = dict(value.entries())
    version, command = _text(keys, "apiVersion"), _text(keys, "command")
    default_mode = "" if version == f"{AUTHENTICATION}/v1" else "IfAvailable"  # v1 has no default: it must be said
    return Exec(
        where=value.where,
        api_version=version,
        command=_resolved(command, directory) if "/" in command else command,
        args=tuple(_plain(arg) for arg in _items(keys, "args")),
        env=tuple(_variable(entry) for entry in _items(keys, "env")),
        interactive_mode=_text(keys, "interactiveMode") or default_mode,
        provide_cluster_info=_truth(keys, "provideClusterInfo"),
    )


def _variable(value: Value) -> tuple[str, str]:
    keys = dict(value.entries())
    name = _text(keys, "name")
    if not name or "=" in name:
        value.wrong(f"{value.name} needs a name, without =")
    return name, _text(keys, "value")


def _plugin_config(keys: Mapping[str, Value]) -> str:
    for entry in _items(keys, "extensions"):
        parts = dict(entry.entries())
        if _text(parts, "name") == _PLUGIN_CONFIG and _is_set(parts, "extension"):
            return json.dumps(_any(parts["extension"]))
    return ""


def _any(value: Value) -> Any:
    """What JSON could say too; anything else is a text."""
    kind = value.node.tag.rpartition(":")[2]
    if kind == "map":
        return {key: _any(one) for key, one in value.entries()}
    if kind == "seq":
        return [_any(one) for one in value.items()] if value.node.value else []
    if kind == "bool":
        return value.truth()
    if kind == "null":
        return None
    if kind in {"int", "float"}:
        with contextlib.suppress(ValueError):  # YAML knows more ways to write a number
            return json.loads(value.node.value)
    return str(value.node.value)


def _context(where: str, keys: Mapping[str, Value]) -> Context:
    return Context(where=where, cluster=_text(keys, "cluster"), user=_text(keys, "user"))


def _named(
    top: Mapping[str, Value], plural: str, kind: str, read: Callable[[str, Mapping[str, Value]], _T]
) -> dict[str, _T]:
    """A list of {name: …, KIND: {…}}, by name. Twice the same name in one file is an error, as for client-go."""
    result: dict[str, _T] = {}
    for entry in _items(top, plural):
        keys = dict(entry.entries())
        name = _text(keys, "name")
        if not name:
            entry.wrong(f"{entry.name} needs a name")
        if name in result:
            entry.wrong(f"{plural} has the name {name!r} a second time; remove one")
        result[name] = read(entry.where, dict(keys[kind].entries()) if _is_set(keys, kind) else {})
    return result


def _material(keys: Mapping[str, Value], key: str, directory: str) -> Material:
    return Material(file=_resolved(_text(keys, key), directory), data=_data(keys, f"{key}-data"))


def _resolved(path: str, directory: str) -> str:
    """An absolute path; none stays none."""
    return posixpath.normpath(posixpath.join(directory, path)) if path else ""


def _is_set(keys: Mapping[str, Value], key: str) -> bool:
    """Whether a key says anything; client-go takes an empty text for none."""
    return key in keys and keys[key].node.tag != _NULL and keys[key].node.value not in ("", [])


def _items(keys: Mapping[str, Value], key: str) -> list[Value]:
    """The values of a list, which may be missing or empty."""
    return keys[key].items() if _is_set(keys, key) else []


def _text(keys: Mapping[str, Value], key: str) -> str:
    return _plain(keys[key]) if _is_set(keys, key) else ""


def _plain(value: Value) -> str:
    """A text, which may be empty. The error does not repeat what stands there, as that of `Value.text` does."""
    if value.node.tag != _STR:
        value.wrong(f"{value.name} must be a text; put quotes around it")
    return str(value.node.value)


def _truth(keys: Mapping[str, Value], key: str) -> bool:
    return _is_set(keys, key) and keys[key].truth()


def _data(keys: Mapping[str, Value], key: str) -> bytes:
    text = _text(keys, key)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        keys[key].wrong(f"{keys[key].name} must be base64")
