"""A whole list from the API, page by page; used by pods.lookup and pods.looking."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.pods.answers import Refused
from bastion.pods.listwatch import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bastion.model import KubeIdentity
    from bastion.pods.api import Api
    from bastion.ports import Tell


async def everything(
    api: Api,
    path: Sequence[str],
    query: Sequence[tuple[str, str]] = (),
    *,
    identity: KubeIdentity | None = None,
    tell: Tell | None = None,
) -> list[Mapping[str, Any]]:
    """The JSON of all objects at a path that a query selects. Raises what `Api.get` raises.

    Where the cluster has forgotten the moment of the first page (410, after five minutes), all is asked for at once.
    """
    found: list[Mapping[str, Any]] = []
    more = ""
    while True:
        page = [*query, ("limit", str(PAGE)), *([("continue", more)] if more else [])]
        try:
            answer = await api.get(*path, query=page, identity=identity, tell=tell)
        except Refused as refused:
            if not more or refused.status != HTTPStatus.GONE:
                raise
            whole = await api.get(*path, query=query, identity=identity, tell=tell)
            return list(whole.get("items") or ())
        found += answer.get("items") or ()
        more = answer["metadata"].get("continue") or ""
        if not more:
            return found
