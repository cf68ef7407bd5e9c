"""From a login to one container of one running pod; used by pods.kube.

A pod's name wins; else it is the one workload of that name. What the catalogue knows is taken where it is fresh; what
it does not have, or cannot be relied on for, is asked of the API server. What the person may do nothing with is as
what is not there, in words and in time. The rules of choosing are in choice.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from bastion.errors import BastionError, Code
from bastion.model import Resolved, TargetLogin
from bastion.podfacts import PodFacts, target_of
from bastion.pods import choice, kinds
from bastion.pods.choice import Enter, Family, Refuse, Seeker, Wait
from bastion.pods.lookup import Direct, Lookup, NotKnownError, Remembered, Seen

if TYPE_CHECKING:
    from bastion.pods.api import Api
    from bastion.pods.catalog import Catalog
    from bastion.ports import Asks, Tell

PATIENCE_S = 60.0
"""How long a pod that is only starting is waited for."""

POLL_S = 2.0
"""How often it is looked up where the catalogue cannot tell of a change."""

STAYS = 10_000
"""How many times it is remembered to which pod of a workload somebody was led; those of the longest ago are dropped."""

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


class _Stays:
    """Which pod of a workload each person was led to last: whose own pod it is changes as a workload is scaled up."""

    def __init__(self) -> None:
        self._pods = OrderedDict[tuple[str, str], str]()  # by person and the workload's uid: the pod's uid

    def seeker(self, person: str, sees: Asks, meant: _Meant) -> Seeker:
        """A person, with the pod of what they mean that they were led to before."""
        kept = self._pods.get((person, meant.workload.uid), "") if isinstance(meant, Family) else ""
        return Seeker(person=person, sees=sees, kept=kept)

    def led(self, seeker: Seeker, meant: _Meant, entered: Enter, container: str) -> None:
        """Remember where somebody was led, unless only because their own pod has no container of that name."""
        if not isinstance(meant, Family):
            return
        key = (seeker.person, meant.workload.uid)
        is_aside = any(pod.uid == seeker.kept and not pod.container(container) for pod in meant.pods())
        if not (container and is_aside):
            self._pods[key] = entered.pod.uid
        self._pods.move_to_end(key)
        if len(self._pods) > STAYS:
            self._pods.popitem(last=False)


class _Waited:
    """How long somebody has waited for a pod that is starting, and what they were told of it."""

    def __init__(self, login: TargetLogin, *, patience_s: float, tell: Tell) -> None:
        self._login = login
        self._patience_s = patience_s
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._told = ""

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def until(self, wait: Wait) -> float:
        """Tell what is waited for, if it is news; returns until when. Raises TARGET_NOT_RUNNING once that is over."""
        self._deadline = self._deadline or self.now() + self._patience_s
        if self.now() >= self._deadline:
            late = f"{wait.what} did not start within {self._patience_s:.0f} s: {wait.reason}"
            hint = f"`events {self._login}`, on the bastion's console, may say why"
            raise BastionError(Code.TARGET_NOT_RUNNING, f"{late}; {hint}")
        if wait.reason != self._told:
            self._tell(f"waiting for {wait.what}: {wait.reason}")
            self._told = wait.reason
        return self._deadline


class Resolver:
    """Looks names up, as the bastion itself."""

    def __init__(self, api: Api, catalog: Catalog, *, patience_s: float = PATIENCE_S) -> None:
        self._api = api
        self._catalog = catalog
        self._patience_s = patience_s
        self._stays = _Stays()

    async def resolve(
        self, login: TargetLogin, *, person: str, sees: Asks, enters: Asks | None, tell: Tell
    ) -> Resolved:
        """Find the container a login means, and wait a while for one that is only starting.

        person: their subject; one person is led to the same pod of several while it lives.
        sees: whether they may know of a container. Of a pod in none of whose containers they may, nothing is told.
        enters: whether they may go into it. One where they may not is returned whatever its state, for them to be
        refused. None: they only look; what does not run is returned, and nothing is waited for.
        tell: shows a passing line to a person who waits. Raises BastionError (TARGET_*, CLUSTER_*).
        """
        waited = _Waited(login, patience_s=self._patience_s, tell=tell)
        while True:
            answer = await self._meant(login, sees, tell)
            seeker = self._stays.seeker(person, sees, answer.meant)
            verdict = _verdict(answer.meant, login.container, seeker, enters)
            match verdict:
                case Enter(note=note):
                    if note:
                        tell(note)
                    self._stays.led(seeker, answer.meant, verdict, login.container)
                    return _resolved(verdict, stale=answer.stale)
                case Refuse(code=code, why=why, detail=detail):
                    raise BastionError(code, why, detail=detail)
                case Wait():
                    until = waited.until(verdict)
                    # What the catalogue does not have, or not yet, may change without a word from it.
                    await self._change(min(until, waited.now() + POLL_S) if answer.direct else until)

    async def _change(self, at_last: float) -> None:
        """Wait until the catalogue changes, no longer than to that time of the loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(at_last):
                await self._catalog.wait_changed()

    async def _meant(self, login: TargetLogin, sees: Asks, tell: Tell) -> _Answer:
        """The pod or workload that a login names. Raises BastionError (TARGET_MISSING, TARGET_AMBIGUOUS, CLUSTER_*)."""
        if not self._catalog.covers(login.namespace):
            raise BastionError(
                Code.TARGET_MISSING, f"namespace {login.namespace} is not one of those that this bastion looks after"
            )
        stale = False
        remembered = Seen(Remembered(self._catalog), sees)
        try:
            known = await _meaning(login, remembered)
        except NotKnownError as error:
            known, stale = None, error.is_behind
        if known is not None:
            return _Answer(meant=known, direct=False, stale=False)
        # What the catalogue withheld is asked for like what it does not have, and costs not one request more.
        direct = Direct(self._api, tell)
        shown = Seen(direct, sees, remembered.withheld)
        found = await _meaning(login, shown)
        if found is None:
            await _missing(login, direct, is_there=bool(shown.withheld))
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


async def _missing(login: TargetLogin, direct: Direct, *, is_there: bool) -> NoReturn:
    """Say that there is nothing of that name, in the same words whether there is not or it is withheld.

    Raises CLUSTER_DENIED instead if the bastion could not look everywhere.
    """
    if direct.denied is not None:
        raise direct.denied
    if not await direct.has_namespace(login.namespace):
        raise BastionError(
            Code.TARGET_MISSING,
            f"there is no namespace {login.namespace}; a login is POD.NAMESPACE"
            " (without one, ssh sends your local user name)",
        )
    what = f"{login.kind}/{login.name}" if login.kind else f"pod or workload {login.name}"
    raise BastionError(
        Code.TARGET_MISSING,
        f"there is no {what} in namespace {login.namespace}, or your roles do not reach it",
        detail=choice.presence(is_there=is_there),
    )


def _verdict(meant: _Meant, container: str, seeker: Seeker, enters: Asks | None) -> choice.Verdict:
    """What becomes of them. What they may not enter, or only look at, is taken as it is, and no word said of it."""
    verdict = _entered(meant, container, seeker)
    found = verdict if isinstance(verdict, Enter) else _found(meant, container, seeker)
    if isinstance(found, Enter) and (enters is None or not enters(target_of(found.pod, found.container))):
        return replace(found, note="")
    return found if enters is None else verdict


def _entered(meant: _Meant, container: str, seeker: Seeker) -> choice.Verdict:
    if isinstance(meant, Family):
        return choice.choose(meant, container, seeker)
    return choice.enter(meant, container, seeker.sees)


def _found(meant: _Meant, container: str, seeker: Seeker) -> Enter | Refuse:
    if isinstance(meant, Family):
        return choice.find(meant, container, seeker)
    chosen = choice.pick_container(meant, container, seeker.sees)
    return chosen if isinstance(chosen, Refuse) else Enter(pod=meant, container=chosen.name)


def _resolved(entered: Enter, *, stale: bool) -> Resolved:
    target = target_of(entered.pod, entered.container)
    return Resolved(target=target, chosen_from=entered.chosen_from, stale=stale)
