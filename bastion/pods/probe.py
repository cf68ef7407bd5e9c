"""Questions to a cluster whose answers are wanted as they are, good or bad; used by cli.doctor_cluster."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from bastion.errors import BastionError, Code
from bastion.model import KubeIdentity
from bastion.podfacts import pod_facts, target_of
from bastion.pods import kinds, reviews, rights
from bastion.pods.answers import (
    REQUEST_TIMEOUT_S,
    NoAnswerError,
    Refused,
    failure,
    is_node_away,
    unavailable,
    understood,
)
from bastion.pods.boot import Boot
from bastion.pods.execs import Call, Execs

if TYPE_CHECKING:
    from bastion.pods.api import Api
    from bastion.pods.configuration import ClusterConfiguration
    from bastion.pods.rights import Question
    from bastion.ports import Clock

_NOTHING = Boot(argv=("/no/such/program",), ready=b"", framed_input=False)
"""Opens a stream and cannot start anything, so that nobody's process is ever without a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """How an API server answers GET /version.

    version: such as "v1.36.2", "" if it did not say.
    ahead_s: by how many seconds its clock is ahead of ours, None if it did not say.
    """

    status: int
    version: str
    ahead_s: float | None


async def greet(configuration: ClusterConfiguration, clock: Clock) -> Greeting:
    """Ask for the version. Raises BastionError(CLUSTER_UNAVAILABLE), where and why in `detail`; or a ProxyError."""
    headers = await configuration.headers()
    before = clock.now()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)) as session,
            session.get(
                f"{configuration.server}/version",
                headers=headers,
                ssl=configuration.tls(),
                proxy=configuration.proxy,
                allow_redirects=False,
            ) as response,
        ):
            half = (clock.now() - before) / 2
            body = await _json(response)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise failure(error, configuration) from error
    try:
        theirs = parsedate_to_datetime(response.headers["Date"])
        # The header counts whole seconds, so it is half a second behind on average.
        ahead_s = (theirs - before - half).total_seconds() + 0.5
    except (KeyError, ValueError, TypeError):  # there is none, or it is no time with a zone
        ahead_s = None
    return Greeting(status=response.status, version=str(body.get("gitVersion") or ""), ahead_s=ahead_s)


async def _json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        body = await response.json(content_type=None)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


async def may(api: Api, question: Question, whom: KubeIdentity | None = None) -> bool:
    """Whether somebody is allowed something.

    whom: a user ("" is nobody by name) and groups, for whom the right to create SubjectAccessReviews is needed; None
    is the bastion itself.
    Raises BastionError (CLUSTER_*).
    """
    attributes = {
        "verb": question.verb,
        "group": question.group,
        "resource": question.resource,
        "subresource": question.subresource,
        "name": question.name,
        "namespace": question.place,
    }
    status = await reviews.asked(api, {key: value for key, value in attributes.items() if value}, whom)
    if "allowed" not in status:
        raise unavailable("its answer is no review")
    return bool(status["allowed"])


async def exec_protocol(api: Api, clock: Clock, namespace: str, pod: str) -> str:
    """The subprotocol that an exec in a pod comes about with, by one that can start nothing.

    Raises BastionError (TARGET_MISSING, TARGET_NOT_RUNNING, CLUSTER_*).
    """
    try:
        said = await api.get(*kinds.path(kinds.POD, namespace, pod))
    except Refused as refused:
        raise BastionError(Code.TARGET_MISSING, f"there is no pod {pod} in namespace {namespace}") from refused
    facts = understood(pod_facts, said, "pod")
    container = next((one.name for one in facts.containers if one.running), "")
    if not container:
        raise BastionError(Code.TARGET_NOT_RUNNING, f"no container of pod {pod} in namespace {namespace} runs")
    target = target_of(facts, container)
    call = Call(target=target, identity=KubeIdentity(user=rights.REAPER))
    stream = await Execs(api, clock).open(call, lambda _: _NOTHING)
    await stream.close()
    return stream.protocol


def is_of_node(error: BastionError) -> bool:
    """Whether what kept an exec from coming about is the pod's node, away or silent, and not the API server."""
    return is_node_away(error.detail) or isinstance(error.__cause__, NoAnswerError)
