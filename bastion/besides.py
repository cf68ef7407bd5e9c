"""A shell for a container that has none: in a debug container beside it, where a role allows that; used by session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion import trip
from bastion.errors import BastionError, Code
from bastion.model import Action, Outcome
from bastion.work import A_WHILE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bastion.gate import Gate
    from bastion.model import Allow, KubeIdentity
    from bastion.ports import AuditLog, Clock, Pods
    from bastion.trip import Stamp
    from bastion.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Besides:
    """Leads into debug containers; one of these for a whole server."""

    gate: Gate
    pods: Pods
    audit: AuditLog
    clock: Clock
    stamp: Callable[[], Stamp]

    async def enter(self, work: Work) -> KubeIdentity:
        """Have a debug container stand in for a missing shell, as far as a role allows it; returns as whom to enter.

        It is written down that one will, before it does, and which one it is, before anybody enters it.
        Raises BastionError: NO_SHELL with who could allow it, NOT_STARTED, LOCKED_OUT, CLUSTER_*, RECORD_UNAVAILABLE.
        """
        target, person, began = work.session.target, work.visitor.person, self.clock.monotonic()
        allow = self.gate.debug(person, target)
        image = allow.debug_images[0]
        identity = replace(work.identity, groups=allow.kubernetes_groups)
        reviewed = await self.pods.review(target, identity, work.client.waiting)
        reason = f"image {image}, by role {allow.role}, rule {allow.rule}"
        await self._tell(work, "session.debug", allow, reason, {"reviewed": reviewed} if reviewed else {})
        beside = await self.pods.debug(target, image, allow.debug_user, identity, work.client.waiting)
        if self.clock.monotonic() - began > A_WHILE_S:
            now = await work.let_in()
            if now is None or now.person != person:
                raise BastionError(Code.LOCKED_OUT, "who you are to the bastion has changed meanwhile; connect again")
        allow = self.gate.debug(person, beside.target)  # its name was not known before
        work.terms.enter(beside.target, allow)
        work.recording.keep(allow.record)
        input_too = work.admitted.allow.record.input or allow.record.input
        entered: dict[str, str | bool] = {
            "container": beside.target.container,
            "image": image,
            "record_input": input_too,
        }
        await self._tell(work, "session.debug.entered", allow, f"image {image}", entered)
        work.client.notice(
            f"container {target.container} has no shell: this is a debug container ({image}) beside it,"
            f" where its files are in {beside.files}"
        )
        return identity

    async def _tell(self, work: Work, kind: str, allow: Allow, reason: str, detail: Mapping[str, str | bool]) -> None:
        """Write down what becomes of a debug container. Raises RECORD_UNAVAILABLE: then nothing does."""
        event = trip.told(work.session, kind, Outcome.SUCCESS, reason, self.stamp())
        await self.audit.event(replace(event, action=Action.DEBUG, rule=allow.rule, detail=detail))
