"""From a login to one container of one running pod; used by pods.kube.

A pod's name wins; else it is the one workload of that name. What the catalogue knows is taken where it is fresh; what
it does not have, or cannot be relied on for, is asked of the API server. The rules of choosing are in choice.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from bastion.errors import BastionError, Code
from bastion.model import Resolved, TargetLogin
from bastion.podfacts import PodFacts, target_of
from bastion.pods import choice, kinds
from bastion.pods.choice import Enter, Family, Refuse, Wait
from bastion.pods.lookup import Direct, Lookup, NotKnownError, Remembered

if TYPE_CHECKING:
    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog
    from bastion.ports import Tell

PATIENCE_S = 60.0
"""How long a pod that is only starting is waited for."""

POLL_S = 2.0
"""How often it is looked up where the catalogue cannot tell of a change."""

_ORDINAL = re.compile(r"(.+)-(?:0|[1-9][0-9]*)", re.ASCII)
"""A pod of a StatefulSet: its name, and its number from 0."""

_Meant = PodFacts | Family


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a login names.

    direct: the API server was asked. stale: because the catalogue was out of date.
    """

    meant: _Meant
    direct: bool
    stale: bool


class Resolver:
    """Looks names up, as the bastion itself."""

    def __init__(self, api: Api, catalog: Catalog, *, patience_s: float = PATIENCE_S) -> None:
        self._api = api
        self._catalog = catalog
        self._patience_s = patience_s

    async def resolve(self, login: TargetLogin, *, person: str, tell: Tell) -> Resolved:
        """Find the container a login means, and wait a while for one that is only starting.

        person: their subject; one person is led to the same pod of several while it lives.
        tell: shows a passing line to a person who waits. Raises BastionError (TARGET_*, CLUSTER_*).
        """
        loop = asyncio.get_running_loop()
        deadline, told = 0.0, ""
        while True:
            answer = await self._meant(login, tell)
            verdict = _verdict(answer.meant, login.container, person)
            match verdict:
                case Enter(note=note):
                    if note:
                        tell(note)
                    return _resolved(verdict, stale=answer.stale)
                case Refuse(code=code, why=why):
                    raise BastionError(code, why)
                case Wait(what=what, reason=reason):
                    deadline = deadline or loop.time() + self._patience_s
                    if loop.time() >= deadline:
                        late = f"{what} did not start within {self._patience_s:.0f} s: {reason}"
                        raise BastionError(Code.TARGET_NOT_RUNNING, late)
                    if reason != told:
                        tell(f"waiting for {what}: {reason}")
                        told = reason
                    # What the catalogue does not have, or not yet, may change without a word from it.
                    await self._change(min(deadline, loop.time() + POLL_S) if answer.direct else deadline)

    async def find(self, login: TargetLogin, *, person: str, tell: Tell) -> Resolved:
        """Find the container a login means, whether it runs or not. Raises BastionError (TARGET_*, CLUSTER_*)."""
        answer = await self._meant(login, tell)
        match _found(answer.meant, login.container, person):
            case Refuse(code=code, why=why):
                raise BastionError(code, why)
            case found:
                return _resolved(found, stale=answer.stale)

    async def _change(self, at_last: float) -> None:
        """Wait until the catalogue changes, no longer than to that time of the loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(at_last):
                await self._catalog.wait_changed()

    async def _meant(self, login: TargetLogin, tell: Tell) -> _Answer:
        """The pod or workload that a login names. Raises BastionError (TARGET_MISSING, TARGET_AMBIGUOUS, CLUSTER_*)."""
        if not self._catalog.covers(login.namespace):
            raise BastionError(
                Code.TARGET_MISSING, f"namespace {login.namespace} is not one of those that this bastion looks after"
            )
        stale = False
        try:
            known = await _meaning(login, Remembered(self._catalog))
        except NotKnownError as error:
            known, stale = None, error.is_behind
        if known is not None:
            return _Answer(meant=known, direct=False, stale=False)
        direct = Direct(self._api, tell)
        found = await _meaning(login, direct)
        if found is None:
            await _missing(login, direct)
        return _Answer(meant=found, direct=True, stale=stale)


async def _meaning(login: TargetLogin, look: Lookup) -> _Meant | None:
    """What a login names. Raises BastionError(TARGET_AMBIGUOUS), and what looking raises."""
    if not login.kind:
        pod = await look.pod(login.namespace, login.name)
        if pod is not None:
            return pod
    wanted = (login.kind,) if login.kind else kinds.WORKLOADS
    found = await look.workloads(wanted, login.namespace, login.name)
    if len(found) > 1:
        names = ", ".join(f"{one.kind}_{login.name}.{login.namespace}" for one in found)
        raise BastionError(Code.TARGET_AMBIGUOUS, f"{login.name} is the name of several workloads; say {names}")
    if found:
        return Family(workload=found[0], generations=await look.generations(found[0]))
    ordinal = _ORDINAL.fullmatch(login.name)
    if login.kind == "sts" and ordinal is not None:
        return await _numbered(login, ordinal[1], look)
    return None


async def _numbered(login: TargetLogin, name: str, look: Lookup) -> PodFacts | None:
    """A StatefulSet's pod by its number, None if there is no such StatefulSet."""
    found = await look.workloads(("sts",), login.namespace, name)
    if not found:
        return None
    pods = [pod for generation in await look.generations(found[0]) for pod in generation]
    for pod in pods:
        if pod.name == login.name:
            return pod
    names = ", ".join(sorted((pod.name for pod in pods), key=lambda one: (len(one), one))) or "none"
    raise BastionError(Code.TARGET_MISSING, f"sts/{name} has no pod {login.name} now; its pods: {names}")


async def _missing(login: TargetLogin, direct: Direct) -> NoReturn:
    if not await direct.has_namespace(login.namespace):
        raise BastionError(
            Code.TARGET_MISSING,
            f"there is no namespace {login.namespace}; a login is POD.NAMESPACE"
            " (without one, ssh sends your local user name)",
        )
    what = f"{login.kind}/{login.name}" if login.kind else f"pod or workload {login.name}"
    raise BastionError(Code.TARGET_MISSING, f"there is no {what} in namespace {login.namespace}")


def _verdict(meant: _Meant, container: str, person: str) -> choice.Verdict:
    return choice.enter(meant, container) if isinstance(meant, PodFacts) else choice.choose(meant, container, person)


def _found(meant: _Meant, container: str, person: str) -> Enter | Refuse:
    if isinstance(meant, Family):
        return choice.find(meant, container, person)
    chosen = choice.pick_container(meant, container)
    return chosen if isinstance(chosen, Refuse) else Enter(pod=meant, container=chosen.name)


def _resolved(entered: Enter, *, stale: bool) -> Resolved:
    target = target_of(entered.pod, entered.container)
    return Resolved(target=target, chosen_from=entered.chosen_from, stale=stale)
