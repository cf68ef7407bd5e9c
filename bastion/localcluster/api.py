"""The API: who asks, which part answers, and in which form; used by server for every request."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from bastion.localcluster import authentication, discovery, places, rbac, reviews, statuses
from bastion.localcluster.auditlog import Asked
from bastion.localcluster.http import TEXT, Response
from bastion.localcluster.rbac import Attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.localcluster.accounttokens import AccountTokens
    from bastion.localcluster.auditlog import AuditLog
    from bastion.localcluster.connection import Connection
    from bastion.localcluster.faults import Faults
    from bastion.localcluster.http import Request
    from bastion.localcluster.objects import Objects
    from bastion.localcluster.podmetrics import PodMetrics
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
    """Answers requests.

    tokens: who each static bearer token is. pod_metrics: None is a cluster without a metrics server.
    """

    def __init__(  # noqa: PLR0913 - the parts of which it is the front
        self,
        *,
        store: Store,
        tokens: Mapping[str, User],
        account_tokens: AccountTokens,
        objects: Objects,
        subresources: Subresources,
        pod_metrics: PodMetrics | None,
        faults: Faults,
        audit: AuditLog,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._account_tokens = account_tokens
        self._objects = objects
        self._subresources = subresources
        self._pod_metrics = pod_metrics
        self._faults = faults
        self._audit = audit

    async def handle(self, request: Request, connection: Connection) -> Response | None:
        """The answer; None if the request took the connection over and finished it. Raises ApiError."""
        self._faults.check(request)
        user = authentication.authenticate(
            request, self._tokens, self._account_tokens, self._store, self._faults.revoked
        )
        path = "/" + "/".join(request.path)
        self._audit.note(Asked(method=request.method, path=path, user=user.name, groups=user.groups, extra=user.extra))
        review = reviews.find(request.path)
        if review is not None:
            return reviews.answer(review, request, user, self._store, self._account_tokens)
        if self._pod_metrics is not None and (measured := places.parse_metrics(request.path)) is not None:
            return await self._pod_metrics.handle(request, measured, user)
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
        found = discovery.page(request.path, metrics=self._pod_metrics is not None)
        if found is None:
            raise statuses.no_such_path()
        return statuses.answer(found)
