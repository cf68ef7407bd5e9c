"""`ssh bastion describe`, `logs`, `events` and `top`: each a session in one target; used by console.commands.

They run as sessions do (session.Trips.look): decided, written down, and what they show recorded before it is shown.
Of a pod only the containers that the person's roles allow are spoken of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bastion import policy
from bastion.console import answers, describing, description, happenings, reach, tables, usage
from bastion.console.answers import Answer
from bastion.errors import BastionError, Code
from bastion.model import Action, Deny
from bastion.podfacts import pod_facts
from bastion.ports import LogOptions
from bastion.work import Look

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from bastion.console.reach import Reached
    from bastion.console.visit import Visit
    from bastion.model import KubeIdentity, Target, TargetLogin
    from bastion.podfacts import PodFacts
    from bastion.ports import ExecStream, Tell

    Open = Callable[[Target, KubeIdentity], AbstractAsyncContextManager[ExecStream]]

_NO_METRICS = "this cluster has no metrics API, so nobody can say what its pods use"
_NO_METRICS_STATUS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What is looked at, by whom: a target that was allowed, and what is asked of it."""

    visit: Visit
    options: Namespace
    action: Action
    target: Target
    identity: KubeIdentity

    @property
    def tell(self) -> Tell:
        """Shows what is waited for."""
        return self.visit.client.waiting

    @property
    def container(self) -> str:
        """The container that is asked about, "" if none was named."""
        where: TargetLogin = self.options.target
        return where.container

    def seen(self, pod: PodFacts, action: Action) -> Reached:
        """The pod as the person may know of it by an action.

        Raises TARGET_MISSING if nothing is left of it: it has changed since that was allowed.
        """
        seen = reach.seen_by(pod, self.visit.visitor.person, {action}, self.visit.rooms.policy)
        if not seen.names(self.container):
            where = f"pod {self.target.pod} in namespace {self.target.namespace}"
            raise BastionError(Code.TARGET_MISSING, f"{where} was changed meanwhile; ask again")
        return seen

    async def pod(self) -> PodFacts:
        """What the bastion knows of the pod: the person may see its events, say, without any right to the pod itself.

        Raises BastionError (TARGET_MISSING, CLUSTER_*).
        """
        looking = self.visit.rooms.looking
        known = next((pod for pod in await looking.pods(self.tell) if pod.uid == self.target.pod_uid), None)
        return known or pod_facts(await looking.pod(self.target, self.identity, self.tell))


async def describe(visit: Visit, options: Namespace) -> int:
    """Show what is known of a pod."""
    return await _answer(visit, options, Action.DESCRIBE, _described)


async def events(visit: Visit, options: Namespace) -> int:
    """Show what happened to a pod."""
    return await _answer(visit, options, Action.EVENTS, _happened)


async def top(visit: Visit, options: Namespace) -> int:
    """Show what a pod uses."""
    return await _answer(visit, options, Action.TOP, _used)


async def logs(visit: Visit, options: Namespace) -> int:
    """Show a container's log."""
    wanted = LogOptions(
        follow=options.follow,
        previous=options.previous,
        tail=options.tail,
        since_s=options.since,
        timestamps=options.timestamps,
    )

    def opened(target: Target, identity: KubeIdentity) -> AbstractAsyncContextManager[ExecStream]:
        source = visit.rooms.looking.logs(target, wanted, identity, visit.client.waiting)
        return answers.followed(source, terminal=visit.asked.pty is not None)

    return await _look(visit, options, Action.LOGS, opened)


async def _answer(
    visit: Visit, options: Namespace, action: Action, answer: Callable[[_Place], Awaitable[Answer]]
) -> int:
    def opened(target: Target, identity: KubeIdentity) -> AbstractAsyncContextManager[ExecStream]:
        place = _Place(visit=visit, options=options, action=action, target=target, identity=identity)
        return answers.answering(lambda: answer(place))

    return await _look(visit, options, action, opened)


async def _look(visit: Visit, options: Namespace, action: Action, opened: Open) -> int:
    look = Look(where=options.target, action=action, command=visit.line, pty=visit.asked.pty, open=opened)
    return await visit.rooms.trips.look(visit.visitor, look, visit.client)


async def _described(place: _Place) -> Answer:
    looking, paper = place.visit.rooms.looking, place.visit.paper
    pod = await looking.pod(place.target, place.identity, place.tell)
    facts = pod_facts(pod)
    about = description.describe(pod, place.seen(facts, place.action), place.container)
    found, withheld = await _events_beside(place, facts)
    if place.options.json:
        events = None if withheld else happenings.objects(found)
        return Answer(out=tables.json_lines([{**about, "events": events}], paper))
    beneath = describing.indented(paper)
    told = happenings.table(found, place.visit.rooms.clock.now(), beneath) if found else [withheld or "<none>"]
    return Answer(out=tables.text(describing.page(about, told), paper))


async def _events_beside(place: _Place, pod: PodFacts) -> tuple[list[Mapping[str, Any]], str]:
    """The events for a description; without a right to them none, and why."""
    visit = place.visit
    decision = policy.decide(visit.visitor.person, place.target, Action.EVENTS, visit.rooms.policy)
    if isinstance(decision, Deny):
        return [], "not shown: none of your roles allows events here"
    identity = replace(place.identity, groups=decision.kubernetes_groups)
    try:
        found = await visit.rooms.looking.events(place.target, identity, place.tell)
    except BastionError as error:
        if error.code is not Code.CLUSTER_DENIED:
            raise
        return [], f"not shown: {error.user_message}"
    return happenings.shown(found, place.seen(pod, Action.EVENTS), place.container), ""


async def _happened(place: _Place) -> Answer:
    found = await place.visit.rooms.looking.events(place.target, place.identity, place.tell)
    shown = happenings.shown(found, place.seen(await place.pod(), place.action), place.container)
    paper = place.visit.paper
    if place.options.json:
        return Answer(out=tables.json_lines(happenings.objects(shown), paper))
    if not shown:
        none = f"nothing is known to have happened to pod {place.target.pod}; the cluster forgets after an hour or so"
        return Answer(err=_notice(place, none))
    return Answer(out=tables.text(happenings.table(shown, place.visit.rooms.clock.now(), paper), paper))


async def _used(place: _Place) -> Answer:
    measured = await place.visit.rooms.looking.usage(place.target, place.identity, place.tell)
    if measured is None:
        return Answer(err=_notice(place, _NO_METRICS), status=_NO_METRICS_STATUS)
    shown = place.seen(await place.pod(), place.action).names(place.container)
    return Answer(out=(usage.json_lines if place.options.json else usage.table)(measured, shown, place.visit.paper))


def _notice(place: _Place, text: str) -> bytes:
    """A line of ours on stderr, as part of what is recorded."""
    return tables.text([f"bastion: {text}"], place.visit.paper)
