"""Whether a person gets in, and into which container: by the policy, then by the cluster; used by session.

    login -> policy (namespace) -> pods.resolve -> policy (container) -> review

Nothing is started here, and nothing written down: session does that with what comes out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bastion import login, policy
from bastion.errors import BastionError, Code
from bastion.model import DEBUG_CONTAINERS, RESERVED_SUBJECTS, Action, Allow, ConsoleLogin, Deny, KubeIdentity
from bastion.trip import Admitted

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bastion.model import Person, Resolved, Target
    from bastion.policy import Policy
    from bastion.ports import Client, Pods
    from bastion.trip import Visitor

_NO_SHELL = (
    "this container has no shell. Those who keep the bastion's policy can allow the action debug, with an image, and a"
    " shell opens in a container beside it. What you can do is run a program of its image: ssh … PROGRAM [ARGUMENT ...]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Decides; one of these for a whole server."""

    pods: Pods
    policy: Policy

    async def admit(self, visitor: Visitor, action: Action, client: Client, *, looks: bool) -> Admitted | Deny:
        """Decide by namespace first, so that nobody learns what is in one they have no rule for.

        looks: they only look, so what does not run is not waited for; and as they do so as themselves, the cluster is
        not asked beforehand. Raises BastionError (LOGIN_INVALID, TARGET_*, CLUSTER_*, STREAM_BROKEN if they leave).
        """
        if visitor.person.subject in RESERVED_SUBJECTS:
            return Deny(rule="reserved-subject", reason=f"nobody may be called {visitor.person.subject}")
        where = login.parse(visitor.login)
        if isinstance(where, ConsoleLogin):
            raise BastionError(
                Code.LOGIN_INVALID,
                f"{where.name} names no pod; log in as POD.NAMESPACE@…, for example web.shop@…",
            )
        refused = policy.may_enter(visitor.person, where.namespace, action, self.policy)
        if refused is not None:
            return refused

        def enters(target: Target) -> bool:
            return isinstance(self._decide(visitor.person, target, action), Allow)

        seeking = self.pods.resolve(
            where,
            person=visitor.person.subject,
            sees=partial(policy.may_know, visitor.person, policy=self.policy),
            enters=None if looks else enters,
            tell=client.waiting,
        )
        resolved = await _unless_gone(client, seeking)
        decision = self._decide(visitor.person, resolved.target, action)
        if isinstance(decision, Deny):
            return decision
        identity = KubeIdentity(user=f"bastion:{visitor.person.subject}", groups=decision.kubernetes_groups)
        return Admitted(
            resolved=resolved,
            allow=decision,
            identity=identity,
            reviewed="" if looks else await self.pods.review(resolved.target, identity, client.waiting),
            policy_digest=self.policy.digest,
        )

    def debug(self, person: Person, target: Target) -> Allow:
        """What lets a shell in a debug container, of the first of its images, stand in for the one that a target lacks.

        target: the container without a shell, or the debug container once its name is known: it is decided as if the
        person went there by name. Raises NO_SHELL, with who could allow it.
        """
        there = target if target.beside else replace(target, container=DEBUG_CONTAINERS, beside=target.container)
        decision = self._decide(person, replace(there, ephemeral=True), Action.SHELL)
        if isinstance(decision, Deny):
            raise BastionError(Code.NO_SHELL, _NO_SHELL, detail=f"{decision.rule}: {decision.reason}")
        if not decision.debug_images:
            raise BastionError(Code.NO_SHELL, _NO_SHELL, detail=f"{decision.rule}: role {decision.role} names no image")
        return decision

    def _decide(self, person: Person, target: Target, action: Action) -> Allow | Deny:
        return policy.decide(person, target, action, self.policy)


async def _unless_gone(client: Client, work: Coroutine[None, None, Resolved]) -> Resolved:
    """What the work gives, unless the person leaves first. Raises what it raises, and STREAM_BROKEN."""
    doing = asyncio.create_task(work, name="session-resolve")
    gone = asyncio.create_task(client.hung_up(), name="session-gone")
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise BastionError(Code.STREAM_BROKEN, "the person left before anything began")
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)
