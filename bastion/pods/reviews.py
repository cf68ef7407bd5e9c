"""Asks the cluster's RBAC before an exec, so that a refusal is a sentence, no broken stream; used by kube and probe."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError, Code
from bastion.pods.answers import unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        whom = identity if self._api.impersonating else None
        status = await asked(self._api, {**attributes, "verb": verb}, whom, tell)
        if not status.get("allowed"):
            who = "you" if self._api.impersonating else "the bastion"
            reason = status.get("reason") or status.get("evaluationError") or "no rule allows it"
            raise BastionError(
                Code.CLUSTER_DENIED,
                f"the cluster's own RBAC does not let {who} {verb} pods/exec for pod {target.pod}"
                f" in namespace {target.namespace}",
                detail=f"{identity.user}: {reason}",
            )
        return str(status.get("reason") or "")


async def asked(
    api: Api, attributes: Mapping[str, str], whom: KubeIdentity | None, tell: Tell | None = None
) -> Mapping[str, Any]:
    """The status of a review: whether somebody is allowed something, and why.

    attributes: a ResourceAttributes of authorization.k8s.io/v1. whom: a user ("" is nobody by name) and groups, for
    whom the right to create SubjectAccessReviews is needed; None is the bastion itself.
    Raises BastionError (CLUSTER_*).
    """
    spec: dict[str, Any] = {"resourceAttributes": dict(attributes)}
    kind = "SelfSubjectAccessReview"
    if whom is not None:
        kind = "SubjectAccessReview"
        spec |= {"groups": [*whom.groups, "system:authenticated"]} | ({"user": whom.user} if whom.user else {})
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    answer = await api.post("apis", "authorization.k8s.io", "v1", f"{kind.lower()}s", body=body, tell=tell)
    try:
        return dict(answer["status"])
    except (KeyError, TypeError) as error:
        raise unavailable(f"its answer is no {kind}") from error
