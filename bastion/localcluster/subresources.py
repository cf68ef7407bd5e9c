"""What hangs below an object: exec, attach, portforward, log, ephemeralcontainers and token; used by api."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds, patches, places, podspec, portforward, rbac, statuses, validation
from bastion.localcluster.bodies import read_object, read_question
from bastion.localcluster.http import Response
from bastion.localcluster.logs import LogOptions
from bastion.localcluster.podspec import Role
from bastion.localcluster.runtime import ContainerName
from bastion.localcluster.store import timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bastion.localcluster.accounttokens import AccountTokens
    from bastion.localcluster.connection import Connection
    from bastion.localcluster.execs import Execs
    from bastion.localcluster.http import Request
    from bastion.localcluster.kubelet import Kubelet
    from bastion.localcluster.objects import Objects
    from bastion.localcluster.places import Place
    from bastion.localcluster.rbac import User
    from bastion.localcluster.store import Object, Store

_TOKEN_LASTS_S = 3600


class Subresources:
    """Answers requests below an object."""

    def __init__(
        self, *, store: Store, objects: Objects, kubelet: Kubelet, execs: Execs, account_tokens: AccountTokens
    ) -> None:
        self._store = store
        self._objects = objects
        self._kubelet = kubelet
        self._execs = execs
        self._account_tokens = account_tokens

    async def handle(self, request: Request, connection: Connection, place: Place, user: User) -> Response | None:
        """The answer; None if the request took the connection over and finished it. Raises ApiError."""
        match request.method, place.kind, place.subresource:
            case (("GET" | "POST"), kinds.POD, ("exec" | "attach" | "portforward")):
                await self._stream(request, connection, place, user)
                return None
            case "GET", kinds.POD, "log":
                self._require(place, user, "get")
                return await self._log(request, connection, place)
            case "GET", kinds.POD, "ephemeralcontainers":
                self._require(place, user, "get")
                return statuses.answer(self._objects.get(place))
            case "PATCH", kinds.POD, "ephemeralcontainers":
                self._require(place, user, "patch")
                return self._add_ephemeral(place, patches.apply(self._objects.get(place), request))
            case "PUT", kinds.POD, "ephemeralcontainers":
                self._require(place, user, "update")
                return self._add_ephemeral(place, read_object(request))
            case "POST", kinds.SERVICE_ACCOUNT, "token":
                self._require(place, user, "create")
                return self._token(request, place)
            case _, kinds.POD, ("exec" | "attach" | "portforward" | "log" | "ephemeralcontainers"):
                raise statuses.method_not_allowed()
            case _:
                raise statuses.no_such_path()

    async def _stream(self, request: Request, connection: Connection, place: Place, user: User) -> None:
        self._require(place, user, "get" if request.method == "GET" else "create")
        create = places.attributes(place, "create")
        if not rbac.authorize(self._store, user, create).allowed:  # since 1.35, also for a GET: a WebSocket is one
            raise rbac.refused(replace(create, subresource=""), "")
        pod = self._objects.get(place)
        await self._reach_node(connection)
        if place.subresource == "portforward":
            name = ContainerName(namespace=place.namespace, pod=place.name, container="")
            await portforward.serve(request, connection, self._execs, self._kubelet, name, pod)
            return
        container = choose_container(pod, request.param("container"))
        name = ContainerName(namespace=place.namespace, pod=place.name, container=container["name"])
        main = self._kubelet.main(pod, container["name"])
        if place.subresource == "attach":
            await self._execs.attach(request, connection, name, main)
        else:
            await self._execs.exec(request, connection, name, container["image"])

    async def _log(self, request: Request, connection: Connection, place: Place) -> Response:
        pod = self._objects.get(place)
        container = choose_container(pod, request.param("container"))
        options = _log_options(request, self._store.time())
        await self._reach_node(connection, f"/containerLogs/{place.namespace}/{place.name}/{container['name']}")
        log = self._kubelet.log(pod, container["name"], previous=request.flag("previous"))
        name = ContainerName(namespace=place.namespace, pod=place.name, container=container["name"])
        stream = self._sent(connection, name, log.read(options))
        return Response(status=HTTPStatus.OK, content_type="text/plain", headers=statuses.NO_CACHE, stream=stream)

    async def _reach_node(self, connection: Connection, asked: str = "") -> None:
        """Return once the node answers. Raises ApiError: 500 if it is away, with the URL that was asked for if any."""
        silence = asyncio.ensure_future(self._kubelet.wait_silence())
        gone = asyncio.ensure_future(connection.wait_gone())
        try:
            await asyncio.wait((silence, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            silence.cancel()
            gone.cancel()
        if gone.done():
            raise ConnectionResetError
        if not self._kubelet.up:
            raise statuses.unreachable(asked)

    async def _sent(
        self, connection: Connection, name: ContainerName, lines: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Lines, on a connection that counts as a stream of the pod meanwhile."""
        with self._execs.open(connection, name):
            async for data in lines:
                await connection.pass_hold()
                yield data

    def _add_ephemeral(self, place: Place, given: Object) -> Response:
        """Only the list of ephemeral containers is taken, and it can only grow (as the API reference says)."""
        pod = self._objects.get(place)
        old = {one["name"]: one for one in pod["spec"].get("ephemeralContainers", ())}
        wanted = (given.get("spec") or {}).get("ephemeralContainers") or []
        regular = {one["name"] for one in pod["spec"]["containers"]}
        taken = {spec["name"] for spec, role in podspec.specs(pod) if role is not Role.EPHEMERAL}
        if not isinstance(wanted, list):
            raise statuses.bad_request("spec.ephemeralContainers: Invalid value: must be a list")
        for index, one in enumerate(wanted):
            validation.check_container(f"spec.ephemeralContainers[{index}]", one)
            if one["name"] in taken:
                raise statuses.bad_request(f'spec.ephemeralContainers: Duplicate value: "{one["name"]}"')
            target = one.get("targetContainerName")
            if target and target not in regular:
                field = f"spec.ephemeralContainers[{index}].targetContainerName"
                raise statuses.invalid(kinds.POD, place.name, field, f'Not found: "{target}"')
            taken.add(one["name"])
        if not set(old) <= taken:
            raise statuses.bad_request("spec.ephemeralContainers: existing ephemeral containers may not be removed")
        listed = [old.get(one["name"]) or podspec.ephemeral_container(one) for one in wanted]
        self._objects.update(place, {**pod, "spec": podspec.with_ephemeral(pod["spec"], listed)})
        self._kubelet.sync()
        return statuses.answer(self._objects.get(place))

    def _token(self, request: Request, place: Place) -> Response:
        account = self._objects.get(place)
        spec = read_question(request, "TokenRequest")
        audiences, seconds = spec.get("audiences") or [], spec.get("expirationSeconds") or _TOKEN_LASTS_S
        if (
            not isinstance(seconds, int)
            or not isinstance(audiences, list)
            or not all(isinstance(one, str) for one in audiences)
        ):
            raise statuses.bad_request("spec: audiences are words, expirationSeconds is a number")
        token, expires = self._account_tokens.issue(account, tuple(audiences), seconds)
        status = {"token": token, "expirationTimestamp": timestamp(datetime.fromtimestamp(expires, UTC))}
        answer: dict[str, Any] = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": place.name, "namespace": place.namespace},
            "spec": {"audiences": audiences, "expirationSeconds": seconds},
            "status": status,
        }
        return statuses.answer(answer, HTTPStatus.CREATED)

    def _require(self, place: Place, user: User, verb: str) -> None:
        rbac.require(self._store, user, places.attributes(place, verb))


def choose_container(pod: Object, wanted: str) -> dict[str, Any]:
    """The container of a pod; the API server knows no default among several (recorded). Raises ApiError: 400."""
    name = pod["metadata"]["name"]
    regular = {one["name"]: one for one in pod["spec"]["containers"]}
    inits = [one["name"] for one in pod["spec"].get("initContainers", ())]
    if not wanted and len(regular) > 1:
        others = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
        choices = f"choose one of: [{' '.join(regular)}]{others}"
        raise statuses.bad_request(f"a container name must be specified for pod {name}, {choices}")
    containers = {spec["name"]: spec for spec, _ in podspec.specs(pod)}
    if wanted and wanted not in containers:
        raise statuses.bad_request(f"container {wanted} is not valid for pod {name}")
    found: dict[str, Any] = containers[wanted or next(iter(regular))]
    return found


def _log_options(request: Request, now: datetime) -> LogOptions:
    seconds = _number(request, "sinceSeconds")
    since = None if seconds is None else now - timedelta(seconds=seconds)
    if time := request.param("sinceTime"):
        try:
            since = datetime.fromisoformat(time)
        except ValueError:
            raise statuses.bad_request(f'parsing time "{time}" as RFC 3339') from None
    return LogOptions(
        follow=request.flag("follow"),
        timestamps=request.flag("timestamps"),
        since=since,
        tail=_number(request, "tailLines"),
        limit=_number(request, "limitBytes"),
    )


def _number(request: Request, name: str) -> int | None:
    value = request.param(name)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 10):  # noqa: PLR2004 - what a timedelta holds
        raise statuses.bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax')
    return int(value)
