"""Which proxy leads to a server, by the environment (pure); used by pods.configuration.

The rules are those of Go's `httpproxy`, which client-go follows: HTTPS_PROXY (or HTTP_PROXY for an http:// server) and
NO_PROXY, each also in small letters; loopback never goes through a proxy.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def proxy_for(server: str, environ: Mapping[str, str]) -> str:
    """The proxy's URL, "" for none.

    server: a URL with a port, or with that of its scheme.
    """
    parts = urlsplit(server)
    proxy = _value(environ, f"{parts.scheme}_PROXY")
    host = (parts.hostname or "").rstrip(".")
    port = str(parts.port or (443 if parts.scheme == "https" else 80))
    if not proxy or host == "localhost":
        return ""
    address = _address(host)
    if address is not None and address.is_loopback:
        return ""
    if any(_excludes(entry, host, port) for entry in _value(environ, "NO_PROXY").split(",")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name.lower()) or ""


def _excludes(entry: str, host: str, port: str) -> bool:
    """Whether an entry of NO_PROXY is about a host: `*`, a network, an address, a domain and all below, `.domain`."""
    entry = entry.strip().lower()
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, only_port = _divided(entry)
    if not name or only_port not in {"", port}:
        return False
    if address is not None:
        return address == _address(name)
    domain = name.removeprefix("*")
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")


def _divided(entry: str) -> tuple[str, str]:
    """A host, and its port if one stands behind it. An IPv6 address with a port is in brackets."""
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
