"""The API: who asks, which part answers, and in which form; used by server for every request."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from bastion.localcluster import authentication, discovery, places, rbac, reviews, statuses
from bastion.localcluster.http import TEXT, Response
from bastion.localcluster.rbac import Attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.localcluster.accounttokens import AccountTokens
    from bastion.localcluster.connection import Connection
    from bastion.localcluster.http import Request
    from bastion.localcluster.objects import Objects
    from bastion.localcluster.rbac import User
    from bastion.localcluster.store import Store
    from bastion.localcluster.subresources import Subresources

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "local",
    "gitTreeState": "clean",
    "buildDate": "2026-11-23T00:00:00Z",
    "goVersion": "go1.26.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_HEALTH = ("healthz", "livez", "readyz")


class Api:
    """Answers requests. tokens: who each static bearer token is."""

    def __init__(
        self,
        *,
        store: Store,
        tokens: Mapping[str, User],
        account_tokens: AccountTokens,
        objects: Objects,
        subresources: Subresources,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._account_tokens = account_tokens
        self._objects = objects
        self._subresources = subresources

    async def handle(self, request: Request, connection: Connection) -> Response | None:
        """The answer; None if the request took the connection over and finished it. Raises ApiError."""
        user = authentication.authenticate(request, self._tokens, self._account_tokens, self._store)
        review = reviews.find(request.path)
        if review is not None:
            return reviews.answer(review, request, user, self._store, self._account_tokens)
        place = places.parse_place(request.path)
        if place is None:
            return self._page(request, user)
        if place.subresource:
            return await self._subresources.handle(request, connection, place, user)
        return await self._objects.handle(request, place, user)

    def _page(self, request: Request, user: User) -> Response:
        path = "/" + "/".join(request.path)
        rbac.require(self._store, user, Attributes(verb=request.method.lower(), path=path))
        if path == "/version":
            return statuses.answer(VERSION)
        if request.path[0] in _HEALTH:
            return Response(status=HTTPStatus.OK, body=b"ok", content_type=TEXT, headers=statuses.NO_CACHE)
        found = discovery.page(request.path)
        if found is None:
            raise statuses.no_such_path()
        return statuses.answer(found)
