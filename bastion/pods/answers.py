"""What an answer of the API server that is no good means, or that there is none; used by pods.api and its siblings."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import aiohttp
from yarl import URL

from bastion import printable
from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.model import KubeIdentity
    from bastion.pods.configuration import ClusterConfiguration

Read = TypeVar("Read")

REQUEST_TIMEOUT_S = 15.0
"""How long a request may take with its answer before the API server counts as unavailable."""

MOST_WORDS = 500
"""How much of somebody else's words a person is shown."""

LONGEST_RETRY_AFTER = 3
"""Digits of a Retry-After that is believed: it may also be a date, and is not to be for ever."""

_ADMISSION = re.compile(r"violates PodSecurity|denied (?:the )?request")
"""What Pod Security admission, webhooks and ValidatingAdmissionPolicies say, whatever status they choose."""

_NODE_AWAY = re.compile(
    r"error dialing backend|\bdial tcp \S+:10250\b|while dialing|No agent available|Get \"?https://\S+/containerLogs/",
    re.IGNORECASE,
)


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    """The server answered an upgrade with something else than 101, or a request with no good answer."""

    def __init__(self, status: int, body: bytes, retry_after: str = "") -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        is_believed = retry_after.isdigit() and len(retry_after) <= LONGEST_RETRY_AFTER
        self.retry_after_s = float(retry_after) if is_believed else None

    @property
    def message(self) -> str:
        """The message of the server's Status object, or its plain text."""
        return status_message(self.body.decode(errors="replace"))


class NoAnswerError(BastionError):
    """Nothing came in time: the API server itself is silent, or the node that it passed the request on to."""

    def __init__(self, within_s: float) -> None:
        """within_s: for how long was waited."""
        error = unavailable(f"no answer within {within_s:.0f} s")
        super().__init__(error.code, error.user_message, detail=error.detail)


class ProxyError(BastionError):
    """The API server may be well: the proxy on the way to it is what failed."""

    def __init__(self, detail: str) -> None:
        """detail: the proxy's host and port, and the cause."""
        message = "the proxy on the way to the cluster's API server does not let us through"
        super().__init__(Code.CLUSTER_UNAVAILABLE, message, detail=detail)


def is_good(status: int) -> bool:
    """Whether an answer is what was asked for: a redirection is not, and nobody follows it."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def may_pass(refused: Refused) -> bool:
    """Whether another try may do: there were too many requests, or it is an error of the server's own."""
    return refused.status == HTTPStatus.TOO_MANY_REQUESTS or refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def status_message(body: str) -> str:
    """The message of a Status object's JSON; any other text as it is."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body.strip()


def unavailable(detail: str, *, status: int | None = None) -> BastionError:
    """The error for an API server that does not answer, or (with the HTTP status) not as it should."""
    fault = "cannot be reached" if status is None else f"cannot answer now (HTTP {status})"
    return BastionError(
        Code.CLUSTER_UNAVAILABLE, f"the cluster's API server {fault}; try again in a moment", detail=detail
    )


def cannot_answer(refused: Refused) -> BastionError:
    """The error for a server that answers, and not with what was asked for."""
    return unavailable(f"HTTP {refused.status} {refused.message}", status=refused.status)


def not_understood(detail: str) -> BastionError:
    """The error for an answer that came, and is not what was asked for."""
    said = "the cluster's API server answers, but its answer is not understood; tell the bastion's operators"
    return BastionError(Code.CLUSTER_UNAVAILABLE, said, detail=detail)


def understood(read: Callable[[Any], Read], answer: Any, what: str) -> Read:
    """What is read from an answer's JSON. what: what that is, "pod". Raises CLUSTER_UNAVAILABLE if it is none."""
    try:
        return read(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # as JSON raises them that is something else
        raise not_understood(f"its answer is no {what}: {error!r}") from error


def not_accepted(detail: str) -> BastionError:
    """The error for credentials of ours that the API server does not know, or knows no more."""
    return BastionError(
        Code.CLUSTER_UNAVAILABLE,
        "the API server does not accept the bastion's credentials (they may have expired); tell its operators",
        detail=detail,
    )


def is_by_admission(message: str) -> bool:
    """Whether a refusal is the cluster's admission rules' and not its RBAC's: those let the person, and yet not so."""
    return _ADMISSION.search(message) is not None


def not_admitted(message: str, what: str) -> BastionError:
    """The error for that, with the rule's own words: they were written for the person. what: "this debug container"."""
    words = printable.line(" ".join(message.split()))
    words = f"{words[:MOST_WORDS]} …" if len(words) > MOST_WORDS else words
    return BastionError(
        Code.CLUSTER_DENIED, f"the cluster's admission rules do not allow {what}: {words}", detail=message
    )


def raise_for(refused: Refused, identity: KubeIdentity | None) -> NoReturn:
    """Raise what an error that no other try will mend is to whoever asked: as a person or (None) as the bastion."""
    match refused.status:
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR and is_by_admission(refused.message):
            raise not_admitted(refused.message, "that") from refused
        case HTTPStatus.NOT_FOUND | HTTPStatus.CONFLICT | HTTPStatus.GONE | HTTPStatus.UNPROCESSABLE_ENTITY:
            raise refused
        case HTTPStatus.FORBIDDEN if identity is not None:
            raise BastionError(
                Code.CLUSTER_DENIED, "the cluster's own RBAC does not let you do that", detail=refused.message
            ) from refused
        case HTTPStatus.FORBIDDEN:
            raise BastionError(
                Code.CLUSTER_DENIED,
                "the bastion itself may not look that up in the cluster; tell its operators (bastion doctor shows what"
                " is missing)",
                detail=refused.message,
            ) from refused
        case HTTPStatus.UNAUTHORIZED:
            raise not_accepted(refused.message) from refused
        case _:
            raise cannot_answer(refused) from refused


def is_node_away(message: str) -> bool:
    """Whether an API server's error tells that it cannot reach the pod's node.

    It comes instead of the upgrade, or as a status after it, from the translator of WebSockets (KEP-4006).
    """
    return _NODE_AWAY.search(message) is not None


def failure(error: Exception, configuration: ClusterConfiguration) -> BastionError:
    """What a connection that failed means, in words of our own: aiohttp's have objects, and a proxy's password."""
    proxy = URL(configuration.proxy or "")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ProxyError(f"{proxy.host}:{proxy.port}: HTTP {error.status} {error.message}")
    if not isinstance(error, aiohttp.ClientConnectorError):
        server = URL(configuration.server)
        through = f" through the proxy {proxy.host}:{proxy.port}" if configuration.proxy else ""
        return unavailable(f"{server.host}:{server.port}{through}: {_cause(error)}")
    where = f"{error.host}:{error.port}: {_cause(error.os_error)}"
    if configuration.proxy and (error.host, error.port) == (proxy.host, proxy.port):
        return ProxyError(where)
    return unavailable(where)


def _cause(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {REQUEST_TIMEOUT_S:.0f} s"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS: {(error.reason or 'broken off').lower().replace('_', ' ')}"
        case socket.gaierror():
            return str(error.strerror)
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return str(error) or type(error).__name__
