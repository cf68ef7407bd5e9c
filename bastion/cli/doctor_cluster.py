"""The checks of `bastion doctor` that ask the cluster; used by cli.doctor."""

from __future__ import annotations

import asyncio
import os
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from bastion.cli.doctor_check import broken, failed, ok, warning
from bastion.errors import BastionError, Code
from bastion.metrics import Metrics
from bastion.model import KubeIdentity
from bastion.pods import answers, api, probe, rights
from bastion.pods.configuration import Surroundings, configured
from bastion.pods.retry import Retries
from bastion.settings import names_in
from bastion.system import SystemClock
from bastion.wire import remotecommand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bastion.cli.doctor_check import Check
    from bastion.pods.api import Api
    from bastion.pods.configuration import ClusterConfiguration
    from bastion.pods.probe import Greeting
    from bastion.pods.rights import Grant, Question
    from bastion.ports import Clock
    from bastion.settings import KubernetesSettings

OLDEST, NEWEST = 28, 36
"""The minor versions of Kubernetes 1 that the bastion is made for."""

MOST_AHEAD_S = 5.0
_AT_ONCE = 8
_GET_IN = "see to the kubeconfig (--kubeconfig, --context) or to the pod's ServiceAccount"
_PROXY = "see to the proxy: proxy-url of the cluster in the kubeconfig, or HTTPS_PROXY and NO_PROXY of the environment"
_VERSION = re.compile(r"v1\.([0-9]{1,3})(?![0-9])", re.ASCII)


async def cluster_checks(
    settings: KubernetesSettings, needed: Sequence[Grant] | None, pod: tuple[str, str] | None
) -> AsyncIterator[Check]:
    """Getting in, the server, our rights, and exec.

    needed: what has to be granted; None if the policy, from which it follows, could not be read.
    pod: a namespace and a pod in which an exec may be tried.
    """
    clock, log = SystemClock(), structlog.get_logger("bastion")
    surroundings = Surroundings(environ=os.environ, home=Path(os.environ.get("HOME", "/")), clock=clock, log=log)
    try:
        configuration = await configured(settings.kubeconfig, settings.context, surroundings)
    except BastionError as error:
        yield broken("configuration", error, "")
        for name in ("tls", "api-server", "clock", "rights", "exec"):
            yield _not_made(name)
        return
    for check in _configuration(configuration):
        yield check
    try:
        greeting = await probe.greet(configuration, clock)
    except BastionError as error:
        reach = f"{configuration.server} has to be reachable from here; {_GET_IN}"
        yield broken("api-server", error, _PROXY if isinstance(error, answers.ProxyError) else reach)
        for name in ("clock", "rights", "exec"):
            yield _not_made(name)
        return
    yield _server(greeting)
    yield _clock(greeting)
    retries = Retries(patience_s=0, clock=clock, chance=lambda: 0.0, log=log, metrics=Metrics())
    async with api.connect(configuration, retries, impersonating=settings.mode == rights.IMPERSONATE) as cluster:
        async for check in _rights(cluster, settings, needed):
            yield check
        yield await _exec(cluster, clock, pod)


def _not_made(name: str) -> Check:
    return failed(name, "not checked", "mend what failed above first")


def _configuration(configuration: ClusterConfiguration) -> Iterator[Check]:
    yield ok("configuration", f"{configuration.source}, {configuration.server}")
    for key, where in configuration.origins:
        yield ok("configuration", f"{key} is from {where}")
    if configuration.proxy:
        yield ok("configuration", "the server is reached through a proxy")
    if configuration.is_verified:
        yield ok("tls", "the server has to prove who it is")
    else:
        advice = "use https:// and give the cluster's certificate-authority in place of insecure-skip-tls-verify"
        yield warning("tls", "the server is not asked to prove who it is, so anybody can be in its place", advice)


def _server(greeting: Greeting) -> Check:
    match = _VERSION.match(greeting.version)
    if greeting.status == HTTPStatus.UNAUTHORIZED:
        return failed("api-server", "it does not know who we are (HTTP 401)", _GET_IN)
    if match is None:
        advice = "the role system:public-info-viewer lets everybody ask for it"
        return warning("api-server", f"it answers, but does not say its version (HTTP {greeting.status})", advice)
    if not OLDEST <= int(match[1]) <= NEWEST:
        return warning("api-server", f"Kubernetes {greeting.version}", f"it is made for 1.{OLDEST} to 1.{NEWEST}")
    return ok("api-server", f"Kubernetes {greeting.version}")


def _clock(greeting: Greeting) -> Check:
    if greeting.ahead_s is None:
        return warning("clock", "not checked, because the server did not say its time", "compare the clocks yourself")
    message = f"the server's clock is {abs(greeting.ahead_s):.1f} s {'ahead' if greeting.ahead_s > 0 else 'behind'}"
    if abs(greeting.ahead_s) > MOST_AHEAD_S:
        return warning("clock", message, "let both follow the same time (NTP), or the record will mislead")
    return ok("clock", message)


async def _rights(cluster: Api, settings: KubernetesSettings, needed: Sequence[Grant] | None) -> AsyncIterator[Check]:
    """What we, the reaper and people's groups have to be allowed, and what we must not be."""
    if needed is None:
        yield _not_made("rights")
    for grant in needed or ():
        for question, answer in await _asked(cluster, rights.questions(grant), _whom(grant)):
            yield _granted(grant, question, answer)
    anybody = rights.is_anybody(needed or ())
    if anybody:
        message = "may impersonate users of every name, such as system:kube-controller-manager, to act as people"
        advice = "guard its token like an admin's, or have the policy bind people (person:NAME) and no groups"
        yield warning("rights", message, advice)
    unasked = anybody or needed is None
    avoided = rights.forbidden(settings.mode, names_in(settings.namespaces), anybody=unasked)
    for question, answer in await _asked(cluster, avoided, None):
        if isinstance(answer, BastionError):
            yield broken("rights", answer, f"whether we may {question} is not known")
        elif answer:
            yield failed("rights", f"may {question}, which is a way around the policy", "take it away")
        else:
            yield ok("rights", f"may not {question}, and should not")


def _whom(grant: Grant) -> KubeIdentity | None:
    """Whom to ask for; None is ourselves."""
    match grant.kind:
        case "User":
            return KubeIdentity(user=grant.subject)
        case "Group":
            return KubeIdentity(user="", groups=(grant.subject,))
        case _:
            return None


def _granted(grant: Grant, question: Question, answer: bool | BastionError) -> Check:  # noqa: FBT001 - an answer
    """Without its rights the bastion or its reaper fails; people may have theirs by another group or binding."""
    who = "" if grant.kind == "ServiceAccount" else f"{grant.subject} "
    if isinstance(answer, BastionError):
        return broken("rights", answer, f"whether {who or 'we '}may {question} is not known")
    if answer:
        return ok("rights", f"{who}may {question}")
    message, advice = f"{who}may not {question}", "grant what `bastion doctor --rbac` prints"
    if who and question.place == rights.EVERYWHERE:
        advice += "; if it is meant for some namespaces only, name them with --namespace or in the settings"
    match grant.kind:
        case "Group":
            return warning("rights", message, f"its people are refused what the policy allows; {advice}")
        case "User":
            return failed("rights", message, f"what sessions leave behind would run on in their pods; {advice}")
        case _:
            return failed("rights", message, advice)


async def _asked(
    cluster: Api, questions: Sequence[Question], whom: KubeIdentity | None
) -> list[tuple[Question, bool | BastionError]]:
    """Each question with its answer, or with why there is none."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask(question: Question) -> tuple[Question, bool | BastionError]:
        async with places:
            try:
                return question, await probe.may(cluster, question, whom)
            except BastionError as error:
                return question, error

    return await asyncio.gather(*map(ask, questions))


async def _exec(cluster: Api, clock: Clock, pod: tuple[str, str] | None) -> Check:
    if pod is None:
        advice = "name a running pod with --pod NAMESPACE/NAME; nothing is started in it"
        return warning("exec", "which subprotocol works is not checked", advice)
    try:
        protocol = await probe.exec_protocol(cluster, clock, *pod)
    except BastionError as error:
        return broken("exec", error, _exec_advice(error))
    if protocol == remotecommand.V5:
        return ok("exec", f"{protocol} works")
    advice = "it cannot say that input ended; see whether the API server is older than 1.30, or a proxy is in the way"
    return warning("exec", f"only {protocol} works", advice)


def _exec_advice(error: BastionError) -> str:
    """What to do about an exec that failed; "" where its message says it all: not each fault is one of rights."""
    match error.code:
        case Code.CLUSTER_DENIED:
            return f"{rights.REAPER} needs pods/exec there: see `bastion doctor --rbac`"
        case Code.TARGET_MISSING | Code.TARGET_NOT_RUNNING:
            return "name a pod that runs"
        case Code.CLUSTER_UNAVAILABLE if probe.is_of_node(error):
            return "see to that pod's node, or name a pod on another node"
        case _:
            return ""
