"""A request to the API server before it is sent: where it goes, with what, as whom (pure); used by pods.api, execs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from yarl import URL

from bastion.errors import BastionError, Code
from bastion.pods.rights import SESSION_EXTRA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bastion.model import KubeIdentity
    from bastion.ports import Tell

URL_LIMIT = 1_000_000
"""A longer request line is refused with 431 before the upgrade (recorded)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of which path, as whom.

    path: its parts, each a name; query: names and values, in their order.
    identity: as whom; None is the bastion itself.
    tell: shows it to a person who waits while it is tried again.
    patiently: whether an API server that is busy is waited for.
    """

    path: Sequence[str]
    query: Sequence[tuple[str, str]] = ()
    method: str = "GET"
    body: bytes | None = None
    content_type: str = "application/json"
    identity: KubeIdentity | None = None
    tell: Tell | None = None
    patiently: bool = True

    def url(self, server: str) -> URL:
        """Where it goes. Refuses a path that would arrive as another: yarl and aiohttp remove dot segments.

        Raises BastionError(INVALID), also for one that is longer than a server takes.
        """
        wanted = "/" + "/".join(quote(part, safe="") for part in self.path)
        asked = f"?{urlencode(self.query, quote_via=quote, safe='')}" if self.query else ""
        url = URL(f"{server.rstrip('/')}{wanted}{asked}", encoded=True)
        if not url.raw_path.endswith(wanted) or any(part in {"", ".", ".."} for part in self.path):
            raise BastionError(Code.INVALID, "this name cannot be asked for", detail=wanted)
        if len(url.raw_path_qs) > URL_LIMIT:
            raise BastionError(
                Code.INVALID, "the command is too long for an API request; send it through standard input instead"
            )
        return url


def impersonation(identity: KubeIdentity) -> list[tuple[str, str]]:
    """The headers by which a call is made as somebody else.

    Raises BastionError(INVALID) for a name that is not the bastion's to give, or that no header can carry.
    """
    headers = [("Impersonate-User", identity.user), *(("Impersonate-Group", group) for group in identity.groups)]
    for _, name in headers:
        if not name.startswith("bastion:") or not name.isascii() or not name.isprintable():
            raise BastionError(Code.INVALID, "this person or group cannot act in the cluster", detail=ascii(name))
    if identity.session:
        headers.append((f"Impersonate-Extra-{SESSION_EXTRA}", identity.session))
    return headers
