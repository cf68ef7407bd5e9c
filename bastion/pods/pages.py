"""A whole list from the API, page by page; used by pods.lookup and pods.looking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """The JSON of all objects at a path that a query selects. Raises what `Api.get` raises."""
    found: list[Mapping[str, Any]] = []
    more = ""
    while True:
        page = [*query, ("limit", str(PAGE)), *([("continue", more)] if more else [])]
        answer = await api.get(*path, query=page, identity=identity, tell=tell)
        found += answer.get("items") or ()
        more = answer["metadata"].get("continue") or ""
        if not more:
            return found
