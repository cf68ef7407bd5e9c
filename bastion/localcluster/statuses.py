"""What the API server says when it refuses: Status objects (and, rarely, plain text); raised by every part of the API.

Words and shapes are those of recorded exchanges (tests/data/kube-wire).
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.localcluster.http import JSON, TEXT, Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bastion.localcluster.kinds import Kind

NO_CACHE = (("Cache-Control", "no-cache, private"),)

FAILURES: Mapping[int, tuple[str, str]] = {
    429: ("", "Too many requests, please try again later.\n"),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}
"""What passes by itself: reason ("" is plain text) and message by status."""

_KUBELET = "127.0.0.1:10250"

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_HTML_SAFE = str.maketrans(_HTML)


class ApiError(Exception):
    """A request that is refused; `response` is the whole answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.body.decode(errors='replace')}")
        self.response = response


def to_json(value: Any) -> bytes:
    """JSON as Go writes it: no spaces, UTF-8, and the characters that mean something in HTML escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_HTML_SAFE).encode(errors="replace")


def answer(value: Any, status: int = HTTPStatus.OK) -> Response:
    """An object as an answer."""
    return Response(status=status, body=to_json(value), content_type=JSON, headers=NO_CACHE)


def unauthorized() -> ApiError:
    """401: a token that nobody has."""
    return _failure(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def forbidden(message: str, details: dict[str, Any]) -> ApiError:
    """403 with the authorizer's words."""
    return _failure(HTTPStatus.FORBIDDEN, "Forbidden", message, details)


def not_found(kind: Kind, name: str) -> ApiError:
    """404 for an object of a kind that exists."""
    message = f'{kind.qualified} "{name}" not found'
    return _failure(HTTPStatus.NOT_FOUND, "NotFound", message, kind.details(name))


def already_exists(kind: Kind, name: str) -> ApiError:
    """409 for an object that is there."""
    message = f'{kind.qualified} "{name}" already exists'
    return _failure(HTTPStatus.CONFLICT, "AlreadyExists", message, kind.details(name))


def conflict(kind: Kind, name: str) -> ApiError:
    """409 for a change to a version that is not the last."""
    said = "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {said}'
    return _failure(HTTPStatus.CONFLICT, "Conflict", message, kind.details(name))


def expired(message: str) -> dict[str, Any]:
    """The Status of a 410, which a watch wraps in an event."""
    return _status(HTTPStatus.GONE, "Expired", message)


def unsupported_media_type(known: Sequence[str]) -> ApiError:
    """415 for a patch of another kind."""
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(known)}"
    return _failure(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)


def bad_request(message: str) -> ApiError:
    """400: something in the request makes no sense."""
    return _failure(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def method_not_allowed() -> ApiError:
    """405: there is such a resource, but it cannot do that."""
    message = "the server does not allow this method on the requested resource"
    return _failure(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", message)


def internal_error(cause: str) -> ApiError:
    """500."""
    message = f"Internal error occurred: {cause}"
    return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", message, {"causes": [{"message": cause}]})


def invalid_review(group: str, causes: Sequence[tuple[str, str]]) -> ApiError:
    """422 for an access review; causes are pairs of field and message."""
    listed = ", ".join(f"{field}: {message}" for field, message in causes)
    if len(causes) > 1:
        listed = f"[{listed}]"
    details = {
        "group": group,
        "causes": [{"reason": "FieldValueInvalid", "message": message, "field": field} for field, message in causes],
    }
    return _failure(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", f'.{group} "" is invalid: {listed}', details)


def no_such_path() -> ApiError:
    """404 for a path that means nothing (recorded in metrics-absent)."""
    body = b"404 page not found\n"
    return ApiError(Response(status=HTTPStatus.NOT_FOUND, body=body, content_type=TEXT, headers=NO_CACHE))


def plain(status: int, text: str) -> ApiError:
    """A refusal in the kubelet's own words: text, and no Cache-Control (recorded in exec-no-streams)."""
    return ApiError(Response(status=status, body=text.encode(), content_type=TEXT))


def no_subprotocol() -> ApiError:
    """403 with an empty body: no subprotocol that was offered is spoken. It looks like RBAC, and is not."""
    return ApiError(Response(status=HTTPStatus.FORBIDDEN, close=True))


def unreachable(asked: str = "") -> ApiError:
    """500: the kubelet does not answer; `asked` is the URL for what is a plain GET, "" for a stream."""
    cause = f"dial tcp {_KUBELET}: connect: connection refused"
    message = f'Get "https://{_KUBELET}{asked}": {cause}' if asked else f"error dialing backend: {cause}"
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return ApiError(answer({**status, "code": 500}, HTTPStatus.INTERNAL_SERVER_ERROR))


def failed(code: int, retry_after_s: int | None) -> ApiError:
    """One of FAILURES, as a server that is overloaded or restarting gives it."""
    retry = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
    reason, message = FAILURES[code]
    if reason:
        body, content_type = to_json(_status(HTTPStatus(code), reason, message)), JSON
    else:
        body, content_type = message.encode(), TEXT
    return ApiError(Response(status=code, body=body, content_type=content_type, headers=(*NO_CACHE, *retry)))


def invalid(kind: Kind, name: str, field: str, message: str) -> ApiError:
    """422 for an object with a field that makes no sense."""
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": field}]
    said = f'{kind.name} "{name}" is invalid: {field}: {message}'
    return _failure(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", said, {**kind.details(name), "causes": causes})


def _failure(code: HTTPStatus, reason: str, message: str, details: dict[str, Any] | None = None) -> ApiError:
    return ApiError(answer(_status(code, reason, message, details), code))


def _status(code: HTTPStatus, reason: str, message: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details:
        status["details"] = details
    return {**status, "code": int(code)}
