"""Asks the cluster's RBAC before an exec, so that a refusal is a sentence, no broken stream; used by pods.kube."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from bastion.model import KubeIdentity, Target
    from bastion.pods.api import Api
    from bastion.ports import Tell

VERBS = ("get", "create")
"""A WebSocket exec is a GET, and since 1.35 create is checked too (recorded: exec-forbidden-create)."""


class Reviews:
    """Reviews of what somebody may do in a pod."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def exec(self, target: Target, identity: KubeIdentity, tell: Tell) -> str:
        """Ask for both verbs that a WebSocket exec needs; returns the cluster's reason.

        Where nobody is impersonated, what the bastion itself may do decides.
        Raises BastionError (CLUSTER_DENIED, CLUSTER_UNAVAILABLE).
        """
        told = (tell, None)  # one of two that wait says so
        questions = zip(VERBS, told, strict=True)
        reasons = await asyncio.gather(*(self._allowed(target, identity, verb, to) for verb, to in questions))
        return reasons[1]

    async def _allowed(self, target: Target, identity: KubeIdentity, verb: str, tell: Tell | None) -> str:
        attributes = {"namespace": target.namespace, "name": target.pod, "resource": "pods", "subresource": "exec"}
        spec: dict[str, Any] = {"resourceAttributes": {**attributes, "verb": verb}}
        kind = "SelfSubjectAccessReview"
        if self._api.impersonating:
            kind = "SubjectAccessReview"
            spec |= {"user": identity.user, "groups": [*identity.groups, "system:authenticated"]}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        answer = await self._api.post("apis", "authorization.k8s.io", "v1", f"{kind.lower()}s", body=body, tell=tell)
        status = answer["status"]
        if not status.get("allowed"):
            whom = "you" if self._api.impersonating else "the bastion"
            reason = status.get("reason") or status.get("evaluationError") or "no rule allows it"
            raise BastionError(
                Code.CLUSTER_DENIED,
                f"the cluster's own RBAC does not let {whom} {verb} pods/exec for pod {target.pod}"
                f" in namespace {target.namespace}",
                detail=f"{identity.user}: {reason}",
            )
        return str(status.get("reason") or "")
