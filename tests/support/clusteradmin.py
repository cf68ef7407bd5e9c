"""The embedded cluster asked as its admin, in JSON; used by the tests of the embedded cluster."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from support.rawclient import bearer, connect
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.cluster import Cluster
    from support.rawclient import Answer, Query, RawClient

PODS = "/api/v1/namespaces/default/pods"
MERGE = ("Content-Type", "application/merge-patch+json")


class Admin:
    """Asks as the admin, in JSON."""

    def __init__(self, client: RawClient, cluster: Cluster) -> None:
        self._client = client
        self._headers = [bearer(cluster)]

    async def ask(
        self, method: str, path: str, body: object = None, *headers: tuple[str, str], query: Query | None = None
    ) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        return await self._client.request(method, path, query or [], [*self._headers, *headers], data)

    async def get(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = await self.ask("GET", path)
        assert answer.status == status
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def version(self, path: str) -> str:
        return str((await self.get(path))["metadata"]["resourceVersion"])

    async def make(self, path: str, body: object) -> dict[str, Any]:
        """Post an object; fails if it is refused."""
        answer = await self.ask("POST", path, body)
        assert answer.status == 201, answer.body
        made: dict[str, Any] = json.loads(answer.body)
        return made

    async def patch(self, path: str, body: object) -> None:
        answer = await self.ask("PATCH", path, body, MERGE)
        assert answer.status == 200, answer.body

    async def delete(self, path: str) -> None:
        assert (await self.ask("DELETE", path)).status == 200

    async def until(self, path: str, holds: Callable[[dict[str, Any]], object], *, within: float = 30.0) -> Any:
        """The object of a path, once something holds of it."""
        found: dict[str, Any] = {}

        async def there() -> bool:
            nonlocal found
            found = await self.get(path)
            return bool(holds(found))

        await eventually(there, within=within)
        return found

    async def until_gone(self, path: str) -> None:
        async def gone() -> bool:
            return (await self.ask("GET", path)).status == 404

        await eventually(gone, within=30)


@asynccontextmanager
async def admin_of(cluster: Cluster) -> AsyncIterator[Admin]:
    """An admin with a connection of its own."""
    async with connect(cluster) as client:
        yield Admin(client, cluster)


def pod(name: str, *command: str, image: str = "local/busybox:1", **spec: object) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": image}
    if command:
        container["command"] = list(command)
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


class Watch:
    """Events of one watch, as they come."""

    def __init__(self, client: RawClient) -> None:
        self._chunks = client.chunks()
        self._held = b""

    async def event(self) -> tuple[str, dict[str, Any]]:
        while b"\n" not in self._held:
            self._held += await anext(self._chunks)
        line, _, self._held = self._held.partition(b"\n")
        value = json.loads(line)
        return value["type"], value["object"]

    async def ended(self) -> bool:
        return [chunk async for chunk in self._chunks] == []


async def watching(client: RawClient, cluster: Cluster, path: str, *query: tuple[str, str]) -> Watch:
    await client.begin("GET", path, [("watch", "1"), *query], [bearer(cluster)])
    return Watch(client)
