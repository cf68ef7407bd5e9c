"""Which pod and container a login leads to, and whether they can be entered now (pure); used by pods.resolve, catalog.

A verdict is one of three: enter, wait because it will be better soon, or refused with the reason that kubectl shows.
It says nothing of a container that the person may do nothing in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion.errors import Code
from bastion.podfacts import OVER, ContainerKind, target_of, without_naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bastion.podfacts import ContainerFacts, PodFacts, Terminated, WorkloadFacts
    from bastion.ports import Asks

_PASSING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""What a container waits for when all goes well. Any other reason is a failure that a minute rarely mends."""

_REPLACED = frozenset({"deploy", "sts", "ds"})
"""Workloads whose pods are followed by others when they are deleted."""

_LONGEST = 300
"""Characters of a message of the cluster's that are repeated; an image pull can fail with pages of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeker:
    """Who is to be led to a pod of a workload.

    person: their subject. sees: whether they may do anything at all in a container.
    kept: the uid of the pod of that workload that they were led to before, "" if none is known.
    """

    person: str
    sees: Asks
    kept: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enter:
    """This container can be entered.

    chosen_from: the workload ("deploy/api") if several pods of it could have been taken.
    note: what is to be told, "" if nothing is.
    """

    pod: PodFacts
    container: str
    chosen_from: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """It will run before long: `what` is waited for ("pod web"), because of `reason` ("ContainerCreating")."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """It cannot be entered; `why` is for the person, `detail` for the record."""

    code: Code
    why: str
    detail: str = ""


Verdict = Enter | Wait | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A workload and its pods; those of a Deployment by ReplicaSet, the newest first."""

    workload: WorkloadFacts
    generations: tuple[tuple[PodFacts, ...], ...]

    @property
    def label(self) -> str:
        """What kubectl calls it: "deploy/api"."""
        return f"{self.workload.kind}/{self.workload.name}"

    def having(self, container: str, sees: Asks) -> Family:
        """Without the pods in which a person sees no container of that name; "" keeps them all."""
        if not container:
            return self
        kept = (tuple(pod for pod in pods if _meant(pod, container, sees)) for pods in self.generations)
        return replace(self, generations=tuple(kept))

    def pods(self) -> Iterator[PodFacts]:
        """All of them, the newest generation first, by name."""
        for generation in self.generations:
            yield from sorted(generation, key=lambda pod: pod.name)


def newest_first(sets: Iterable[WorkloadFacts]) -> list[WorkloadFacts]:
    """ReplicaSets of one Deployment, the one that it rolls out (or back) to first."""
    return sorted(sets, key=lambda one: (one.revision, one.created, one.name), reverse=True)


def seen(pod: PodFacts, sees: Asks) -> Iterator[ContainerFacts]:
    """The containers of a pod that a person may know of."""
    return (one for one in pod.containers if sees(target_of(pod, one.name)))


def enter(pod: PodFacts, container: str, sees: Asks) -> Verdict:
    """Whether a container of a pod can be entered; "" is the default one."""
    chosen = pick_container(pod, container, sees)
    if isinstance(chosen, Refuse):
        return chosen
    if pod.deleting:
        return _not_running(f"pod {pod.name} is Terminating: it is being deleted")
    if pod.phase in OVER:
        return _not_running(f"pod {pod.name}: {_completed(pod, sees)}")
    if chosen.running:
        return Enter(pod=pod, container=chosen.name)
    return _later(pod, chosen, sees)


def _later(pod: PodFacts, container: ContainerFacts, sees: Asks) -> Wait | Refuse:
    """Whether a container that does not run will do so before long."""
    if container.ended is not None:
        ended = _ended(container.ended, container)
        return _not_running(f"{container.kind} {container.name} of pod {pod.name} has ended: {ended}")
    for one in (container, *_initial(pod)):
        if one.waiting in _PASSING:
            continue
        if not sees(target_of(pod, one.name)):
            return _not_running(f"pod {pod.name} does not start, because of a container that your roles do not reach")
        return _not_running(f"{one.kind} {one.name} of pod {pod.name} {_stuck(one)}")
    reason = (
        _said(pod, pod.unscheduled, sees)
        or _initializing(pod, container, sees)
        or container.waiting
        or pod.phase
        or "Pending"
    )
    return Wait(what=f"pod {pod.name}", reason=_clipped(reason))


def _initializing(pod: PodFacts, container: ContainerFacts, sees: Asks) -> str:
    """Which init container holds it up, if one runs that the person sees."""
    if container.waiting != "PodInitializing":
        return ""
    running = (one.name for one in _initial(pod) if one.running and not one.sidecar)
    name = next((name for name in running if sees(target_of(pod, name))), "")
    return f"PodInitializing, init container {name} is running" if name else ""


def pick_container(pod: PodFacts, container: str, sees: Asks) -> ContainerFacts | Refuse:
    """The container that is meant, or a refusal that names those that the person sees."""
    found = _meant(pod, container, sees)
    if found is not None:
        return found
    names = ", ".join(one.name for one in seen(pod, sees))
    return Refuse(
        code=Code.TARGET_MISSING,
        why=f"{pod.name} has no container {container}, or your roles do not reach it; it has {names or 'none'}",
        detail=presence(is_there=pod.container(container) is not None),
    )


def presence(*, is_there: bool) -> str:
    """What the record says of something that a person was told the same of, whether it was there or not."""
    return "it is there, but no role of this person's reaches it" if is_there else "it is not there"


def _meant(pod: PodFacts, container: str, sees: Asks) -> ContainerFacts | None:
    """The named container, else the one that the annotation names, else the first: the rule is a client's to apply.

    The API server refuses an exec into one of several without a name (recorded: exec-container-required). What the
    person does not see is passed over.
    """
    known = {one.name: one for one in seen(pod, sees)}
    if container:
        return known.get(container)
    first = min(known.values(), key=lambda one: one.kind is not ContainerKind.REGULAR, default=None)
    return known.get(pod.default_container, first)


def choose(family: Family, container: str, seeker: Seeker) -> Verdict:
    """Which pod of a workload somebody enters.

    The one that they were led to before, while it can be entered: also if it is no longer ready, or of the newest
    generation. Else a ready one of the newest generation that has any; else one that runs; else one that is only
    starting is waited for. Different people get different ones of several.
    """
    able = family.having(container, seeker.sees)
    pods = list(able.pods())
    if not pods:
        return _without_pods(family, container, seeker.sees)
    verdicts = {pod.uid: enter(pod, container, seeker.sees) for pod in pods}
    running = _first(able, lambda pod: isinstance(verdicts[pod.uid], Enter))
    ready = _first(able, lambda pod: pod.ready and isinstance(verdicts[pod.uid], Enter))
    if running:
        taken = _taken(able, running, ready or running, container, seeker)
        if not ready:
            return replace(taken, note=f"no pod of {family.label} is ready; taking {taken.pod.name}")
        again = "" if taken.pod.ready else f"{taken.pod.name} of {family.label}, where you were before, is not ready"
        return replace(taken, note=again)
    for verdict in verdicts.values():
        if isinstance(verdict, Wait):
            return Wait(what=f"a pod of {family.label}", reason=verdict.reason)
    if family.workload.kind in _REPLACED and any(pod.deleting for pod in pods):
        return Wait(what=f"a pod of {family.label}", reason=f"{pods[0].name} is Terminating")
    refused = verdicts[pods[0].uid]
    assert isinstance(refused, Refuse)
    return _not_running(f"no pod of {family.label} can be entered (it has {len(pods)}): {refused.why}")


def find(family: Family, container: str, seeker: Seeker) -> Enter | Refuse:
    """Which pod of a workload somebody looks at: the one they would enter, else any, whether it runs or not."""
    entered = choose(family, container, seeker)
    if isinstance(entered, Enter):
        return entered
    able = family.having(container, seeker.sees)
    candidates = _first(able, lambda pod: not pod.deleting) or _first(able, lambda _: True)
    if candidates:
        return _taken(able, candidates, candidates, container, seeker)
    return entered if isinstance(entered, Refuse) else _not_running(f"{family.label} has no pod yet")


def mine(pods: Iterable[PodFacts], person: str) -> PodFacts:
    """The pod that is a person's of several (rendezvous hashing): another one coming or going rarely changes it."""
    return max(pods, key=lambda pod: hashlib.sha256(f"{person}\0{pod.uid}".encode()).digest())


def _first(family: Family, fits: Callable[[PodFacts], bool]) -> Sequence[Sequence[PodFacts]]:
    """The generations of those that fit, without the empty ones."""
    return [those for pods in family.generations if (those := [pod for pod in pods if fits(pod)])]


def _taken(
    family: Family,
    possible: Sequence[Sequence[PodFacts]],
    preferred: Sequence[Sequence[PodFacts]],
    container: str,
    seeker: Seeker,
) -> Enter:
    """The pod that was kept if it is possible, else the person's own of the first of the preferred generations."""
    kept = next((pod for pods in possible for pod in pods if pod.uid == seeker.kept), None)
    pod = kept or mine(preferred[0], seeker.person)
    chosen = _meant(pod, container, seeker.sees)
    assert chosen is not None, "those without it were left out"
    of_several = sum(map(len, possible if kept else preferred)) > 1
    return Enter(pod=pod, container=chosen.name, chosen_from=family.label if of_several else "")


def _without_pods(family: Family, container: str, sees: Asks) -> Verdict:
    """There is none, or none with that container."""
    workload = family.workload
    for pod in family.pods():
        refused = pick_container(pod, container, sees)
        assert isinstance(refused, Refuse)
        return refused
    if workload.replicas:
        return Wait(what=f"a pod of {family.label}", reason="it has none yet")
    why = " (it is scaled to 0)" if workload.replicas == 0 else ""
    return _not_running(f"{family.label} in namespace {workload.namespace} has no pod{why}")


def _initial(pod: PodFacts) -> Iterator[ContainerFacts]:
    """What runs before the regular containers: it may be what holds them up."""
    return (one for one in pod.containers if one.kind is ContainerKind.INIT)


def _completed(pod: PodFacts, sees: Asks) -> str:
    """Why a pod that is over cannot be entered, as kubectl exec says it, and how it ended."""
    said = _reason(pod.reason, _said(pod, pod.message, sees))
    why = f" ({said})" if said else ""
    ends = [f"; container {one.name}: {_ended(one.ended, one)}" for one in seen(pod, sees) if one.ended is not None]
    return f"cannot exec into a container in a completed pod; current phase is {pod.phase}{why}{''.join(ends)}"


def _said(pod: PodFacts, text: str, sees: Asks) -> str:
    """What the cluster says of a pod as a whole, but for what names a container that the person does not see."""
    return without_naming(text, [one.name for one in pod.containers if not sees(target_of(pod, one.name))])


def _stuck(container: ContainerFacts) -> str:
    """What keeps a container from running, and how it ended last."""
    message = f": {_clipped(container.waiting_message)}" if container.waiting_message else ""
    ended = container.last_ended
    if ended is not None and ended.message == container.waiting_message:
        ended = replace(ended, message="")  # a program that could not be started: it was said just before
    last = f"; it last ended: {_ended(ended, container)}" if ended is not None else ""
    return f"is in {container.waiting}{message}{last}"


def _ended(ended: Terminated, container: ContainerFacts) -> str:
    restarts = f", restarted {container.restarts} times" if container.restarts > 1 else ""
    once = ", restarted once" if container.restarts == 1 else ""
    return f"{_reason(ended.reason, ended.message) or 'it ended'}, exit code {ended.exit_code}{restarts}{once}"


def _reason(reason: str, message: str) -> str:
    """A reason with its message ("Evicted: The node was low on resource: memory."), or the one that there is."""
    return _clipped(": ".join(part for part in (reason, message) if part))


def _clipped(text: str) -> str:
    """One line of it, and no more than is read."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _not_running(why: str) -> Refuse:
    return Refuse(code=Code.TARGET_NOT_RUNNING, why=why)
