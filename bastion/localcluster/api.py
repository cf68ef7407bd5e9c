"""The API: which path means what, who may, and the answer; used by server for every request."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.localcluster import authentication, kinds, listing, rbac, reviews, statuses
from bastion.localcluster.http import TEXT, Response
from bastion.localcluster.rbac import Attributes
from bastion.localcluster.runtime import ContainerName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.localcluster.connection import Connection
    from bastion.localcluster.execs import Execs
    from bastion.localcluster.http import Request
    from bastion.localcluster.kinds import Kind
    from bastion.localcluster.rbac import User
    from bastion.localcluster.runtime import Runtime
    from bastion.localcluster.store import Object, Store

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path names: objects of a kind, one of them, or a subresource of it; "" is what it does not say."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_place(path: tuple[str, ...]) -> Place | None:
    """The place of `/api/v1/…` or `/apis/GROUP/VERSION/…`; None if there is no such thing."""
    match path:
        case ("api", version, *rest):
            group = ""
        case ("apis", group, version, *rest):
            pass
        case _:
            return None
    match rest:
        case ["namespaces", namespace, plural, *tail] if plural not in ("status", "finalize"):
            kind = kinds.find(group, version, plural)
            place = Place(kind=kind, namespace=namespace) if kind and kind.namespaced else None
        case [plural, *tail]:
            kind = kinds.find(group, version, plural)
            place = Place(kind=kind) if kind and not (kind.namespaced and tail) else None
        case _:
            return None
    if place is None or len(tail) > 2:  # noqa: PLR2004 - a name and a subresource
        return None
    name, subresource = (*tail, "", "")[:2]
    return replace(place, name=name, subresource=subresource)


class Api:
    """Answers requests. tokens: who each bearer token is."""

    def __init__(self, *, store: Store, tokens: Mapping[str, User], runtime: Runtime, execs: Execs) -> None:
        self._store = store
        self._tokens = tokens
        self._runtime = runtime
        self._execs = execs

    async def handle(self, request: Request, connection: Connection) -> Response | None:
        """The answer; None if the request took the connection over and finished it. Raises ApiError."""
        user = authentication.authenticate(request, self._tokens, self._store)
        if request.path == ("apis", reviews.GROUP, "v1", reviews.PLURAL):
            return self._review(request, user)
        place = parse_place(request.path)
        if place is None:
            return self._page(request, user)
        if place.subresource:
            await self._subresource(request, connection, place, user)
            return None
        return await self._objects(request, place, user)

    def _review(self, request: Request, user: User) -> Response:
        if request.method != "POST":
            raise statuses.method_not_allowed()
        rbac.require(self._store, user, Attributes(verb="create", group=reviews.GROUP, resource=reviews.PLURAL))
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            raise statuses.bad_request(
                "the object provided is unrecognized (must be of type SubjectAccessReview)"
            ) from None
        return statuses.answer(reviews.subject_access_review(self._store, body), HTTPStatus.CREATED)

    def _page(self, request: Request, user: User) -> Response:
        path = "/" + "/".join(request.path)
        rbac.require(self._store, user, Attributes(verb=request.method.lower(), path=path))
        if path == "/version":
            return statuses.answer(VERSION)
        if request.path[0] in _HEALTH:
            return Response(status=HTTPStatus.OK, body=b"ok", content_type=TEXT, headers=statuses.NO_CACHE)
        raise statuses.no_such_path()

    async def _objects(self, request: Request, place: Place, user: User) -> Response:
        match request.method, bool(place.name):
            case "GET", True:
                self._require(place, user, "get")
                return statuses.answer(self._get(place))
            case "GET", False:
                self._require(place, user, "list")
                return statuses.answer(listing.list_objects(self._store, place.kind, place.namespace, request))
            case "DELETE", True if place.kind is kinds.POD:
                self._require(place, user, "delete")
                return statuses.answer(await self._delete_pod(place))
            case _:
                raise statuses.method_not_allowed()

    async def _subresource(self, request: Request, connection: Connection, place: Place, user: User) -> None:
        if (place.kind, place.subresource) != (kinds.POD, "exec"):
            raise statuses.no_such_path()
        if request.method not in ("GET", "POST"):
            raise statuses.method_not_allowed()
        self._require(place, user, "get" if request.method == "GET" else "create")
        create = _attributes(place, "create")
        if not rbac.authorize(self._store, user, create).allowed:  # since 1.35, also for a GET: a WebSocket is one
            raise rbac.refused(replace(create, subresource=""), "")
        pod = self._get(place)
        container = choose_container(pod, request.param("container"))
        name = ContainerName(namespace=place.namespace, pod=place.name, container=container["name"])
        await self._execs.serve(request, connection, name, container["image"])

    def _require(self, place: Place, user: User, verb: str) -> None:
        rbac.require(self._store, user, _attributes(place, verb))

    def _get(self, place: Place) -> Object:
        found = self._store.get(place.kind, place.namespace, place.name)
        if found is None:
            raise statuses.not_found(place.kind, place.name)
        return found

    async def _delete_pod(self, place: Place) -> Object:
        pod = self._store.delete(place.kind, self._get(place))
        await self._runtime.kill(place.namespace, place.name)
        return pod


def choose_container(pod: Object, wanted: str) -> dict[str, Any]:
    """The container of a pod; the API server knows no default among several (recorded). Raises ApiError: 400."""
    name = pod["metadata"]["name"]
    containers = {one["name"]: one for one in pod["spec"]["containers"]}
    if not wanted and len(containers) > 1:
        choices = " ".join(containers)
        raise statuses.bad_request(f"a container name must be specified for pod {name}, choose one of: [{choices}]")
    if wanted and wanted not in containers:
        raise statuses.bad_request(f"container {wanted} is not valid for pod {name}")
    found: dict[str, Any] = containers[wanted or next(iter(containers))]
    return found


def _attributes(place: Place, verb: str) -> Attributes:
    namespace = place.name if place.kind is kinds.NAMESPACE else place.namespace
    return Attributes(
        verb=verb,
        group=place.kind.group,
        resource=place.kind.plural,
        subresource=place.subresource,
        namespace=namespace,
        name=place.name,
    )
