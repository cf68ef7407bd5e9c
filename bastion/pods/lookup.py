"""What a login's names stand for: from the catalogue, or asked of the API server now; used by pods.resolve."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bastion.errors import BastionError, Code
from bastion.podfacts import PodFacts, WorkloadFacts, pod_facts, targets_of, workload_facts
from bastion.pods import kinds
from bastion.pods.answers import Refused, understood
from bastion.pods.choice import newest_first, seen
from bastion.pods.listwatch import Freshness
from bastion.pods.pages import everything

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog
    from bastion.ports import Asks, Tell

    Object = Mapping[str, Any]
    """What the API serves, as its JSON."""

Read = TypeVar("Read")


class Lookup(Protocol):
    """Finds what has a name."""

    async def pod(self, namespace: str, name: str) -> PodFacts | None:
        """The pod of that name."""
        ...

    async def workloads(self, wanted: Sequence[str], namespace: str, name: str) -> list[WorkloadFacts]:
        """The workloads of that name, of some kinds."""
        ...

    async def generations(self, workload: WorkloadFacts) -> tuple[tuple[PodFacts, ...], ...]:
        """The pods of a workload that was found here; of a Deployment by ReplicaSet, the newest first."""
        ...


class NotKnownError(Exception):
    """The catalogue cannot answer. is_behind: it could until a moment ago."""

    def __init__(self, *, is_behind: bool) -> None:
        super().__init__("behind" if is_behind else "unknown")
        self.is_behind = is_behind


class Remembered:
    """Looks into the catalogue. Raises NotKnownError for what it does not keep up with; never waits."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def pod(self, namespace: str, name: str) -> PodFacts | None:
        """The pod of that name."""
        self._check(namespace, kinds.POD)
        return self._catalog.pod(namespace, name)

    async def workloads(self, wanted: Sequence[str], namespace: str, name: str) -> list[WorkloadFacts]:
        """The workloads of that name, of some kinds."""
        self._check(namespace, *wanted)
        found = (self._catalog.workload(kind, namespace, name) for kind in wanted)
        return [workload for workload in found if workload is not None]

    async def generations(self, workload: WorkloadFacts) -> tuple[tuple[PodFacts, ...], ...]:
        """The pods of a workload; of a Deployment by ReplicaSet, the newest first."""
        self._check(workload.namespace, kinds.POD, *([kinds.REPLICA_SET] if workload.kind == "deploy" else []))
        return self._catalog.generations(workload)

    def _check(self, namespace: str, *wanted: str) -> None:
        found = {self._catalog.freshness(kind, namespace) for kind in wanted}
        if found != {Freshness.FRESH}:
            raise NotKnownError(is_behind=Freshness.BEHIND in found)


class Direct:
    """Asks the API server, as the bastion itself; made for one question of one person.

    Its methods raise BastionError (CLUSTER_*).
    """

    def __init__(self, api: Api, tell: Tell | None = None) -> None:
        """`tell` shows a person who waits that the API server keeps them waiting."""
        self._api = api
        self._tell = tell
        self._selectors: dict[str, str] = {}  # by the workload's uid
        self.denied: BastionError | None = None
        """Why some kind of workload could not be looked up, if one could not."""

    async def pod(self, namespace: str, name: str) -> PodFacts | None:
        """The pod of that name."""
        return await self._get(kinds.path(kinds.POD, namespace, name), pod_facts, kinds.POD)

    async def workloads(self, wanted: Sequence[str], namespace: str, name: str) -> list[WorkloadFacts]:
        """The workloads of that name, of some kinds; those that the bastion may not look up count as none: `denied`."""
        asked = (self._get(kinds.path(kind, namespace, name), partial(_selecting, kind), kind) for kind in wanted)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found = []
        for answer in answers:
            if isinstance(answer, BastionError) and answer.code is Code.CLUSTER_DENIED:
                self.denied = answer
            elif isinstance(answer, BaseException):
                raise answer
            elif answer is not None:
                workload, selects = answer
                found.append(workload)
                self._selectors[workload.uid] = selects
        return found

    async def generations(self, workload: WorkloadFacts) -> tuple[tuple[PodFacts, ...], ...]:
        """The pods of a workload that `workloads` found; of a Deployment by ReplicaSet, the newest first."""
        owners = [workload]
        if workload.kind == "deploy":
            sets = await self._list(kinds.REPLICA_SET, workload)
            read = partial(workload_facts, kinds.REPLICA_SET)
            facts = (understood(read, one, kinds.REPLICA_SET) for one in sets)
            owners = newest_first(one for one in facts if _owned(one, workload))
        pods = [understood(pod_facts, one, kinds.POD) for one in await self._list(kinds.POD, workload)]
        return tuple(tuple(pod for pod in pods if _owned(pod, owner)) for owner in owners)

    async def has_namespace(self, namespace: str) -> bool:
        """Whether there is such a namespace, as far as the bastion may know."""
        try:
            return await self._get(("api", "v1", "namespaces", namespace), dict, "namespace") is not None
        except BastionError as error:
            if error.code is not Code.CLUSTER_DENIED:
                raise
            return True

    async def _get(self, path: Sequence[str], read: Callable[[Any], Read], what: str) -> Read | None:
        """What is read from the object at a path, None if there is none."""
        try:
            answer = await self._api.get(*path, tell=self._tell)
        except Refused:
            return None
        return understood(read, answer, what)

    async def _list(self, kind: str, workload: WorkloadFacts) -> list[Object]:
        """Everything of a kind that a workload's selector selects."""
        query = [("labelSelector", self._selectors[workload.uid])]
        return await everything(self._api, kinds.path(kind, workload.namespace), query, tell=self._tell)


class Seen:
    """Shows of what another looks up only what a person may know of; made for one question of one person.

    A pod in none of whose containers they may do anything is as one that is not there. So is a workload that has pods,
    but none that they see, and one without pods that would make none that they see. Its methods raise what those of
    the other do.
    """

    def __init__(self, look: Lookup, sees: Asks, withheld: Collection[str] = ()) -> None:
        """`withheld`: the uids of workloads of which it is known already that they are not to be told of.

        The other is asked nothing more about these: nothing is to take longer because they are there.
        """
        self._look = look
        self._sees = sees
        self._generations: dict[str, tuple[tuple[PodFacts, ...], ...]] = {}  # by the workload's uid
        self.withheld = set(withheld)
        """The uids of the pods and workloads that were found and that the person is not told of."""

    async def pod(self, namespace: str, name: str) -> PodFacts | None:
        """The pod of that name."""
        found = await self._look.pod(namespace, name)
        return found if found is not None and self._is_seen(found) else None

    async def workloads(self, wanted: Sequence[str], namespace: str, name: str) -> list[WorkloadFacts]:
        """The workloads of that name, of some kinds."""
        found = await self._look.workloads(wanted, namespace, name)
        return [workload for workload in found if await self._is_known(workload)]

    async def generations(self, workload: WorkloadFacts) -> tuple[tuple[PodFacts, ...], ...]:
        """The pods of a workload that `workloads` found; of a Deployment by ReplicaSet, the newest first."""
        return self._generations[workload.uid]

    async def _is_known(self, workload: WorkloadFacts) -> bool:
        """Whether a pod of a workload is seen, or would be if it had any; keeps what was seen for `generations`."""
        if workload.uid in self.withheld:
            return False
        all_of_it = await self._look.generations(workload)
        shown = tuple(tuple(filter(self._is_seen, pods)) for pods in all_of_it)
        self._generations[workload.uid] = shown
        is_known = any(shown) if any(all_of_it) else any(map(self._sees, targets_of(workload)))
        if not is_known:
            self.withheld.add(workload.uid)
        return is_known

    def _is_seen(self, pod: PodFacts) -> bool:
        is_seen = any(seen(pod, self._sees))
        if not is_seen:
            self.withheld.add(pod.uid)
        return is_seen


def _selecting(kind: str, item: Object) -> tuple[WorkloadFacts, str]:
    """A workload, and what it selects its pods by."""
    return workload_facts(kind, item), selector(item["spec"]["selector"])


def selector(wanted: Object) -> str:
    """A workload's selector as a label selector query (labels and expressions)."""
    parts = [f"{key}={value}" for key, value in (wanted.get("matchLabels") or {}).items()]
    for expression in wanted.get("matchExpressions") or []:
        key, values = expression["key"], f"({','.join(expression.get('values') or [])})"
        match expression["operator"]:
            case "In":
                parts.append(f"{key} in {values}")
            case "NotIn":
                parts.append(f"{key} notin {values}")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)


def _owned(item: PodFacts | WorkloadFacts, owner: WorkloadFacts) -> bool:
    return item.owner is not None and item.owner.uid == owner.uid
