"""What a request brings in its body; used by objects, subresources and reviews."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bastion.localcluster import protobuf, statuses

if TYPE_CHECKING:
    from bastion.localcluster.http import Request
    from bastion.localcluster.store import Object

_DIGITS = 9  # of a number of seconds


def read_object(request: Request) -> Object:
    """The object in a body of JSON. Raises ApiError: 400, or 415 for another format."""
    if request.header("content-type").startswith(protobuf.CONTENT_TYPE):
        raise statuses.unsupported_media_type(["application/json"])
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        raise statuses.bad_request("the body of the request is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        raise statuses.bad_request("the object provided is unrecognized: it has no metadata")
    return value


def read_grace(request: Request) -> int | None:
    """The grace period of a deletion, from its query or its DeleteOptions; None says none. Raises ApiError: 400."""
    text = request.param("gracePeriodSeconds")
    seconds: Any
    if text:
        seconds = int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else -1
    else:
        try:
            options = json.loads(request.body or b"{}")
        except (ValueError, RecursionError):
            raise statuses.bad_request("the body of the request is not JSON") from None
        seconds = options.get("gracePeriodSeconds") if isinstance(options, dict) else None
    if seconds is not None and (type(seconds) is not int or seconds < 0):
        raise statuses.bad_request("gracePeriodSeconds: Invalid value: must be a number of seconds")
    return None if seconds is None else int(seconds)


def read_question(request: Request, kind: str) -> Object:
    """The spec of a review or a token request, in JSON or Protocol Buffers. Raises ApiError: 400."""
    try:
        if request.header("content-type").startswith(protobuf.CONTENT_TYPE):
            body = protobuf.decode(request.body, kind)
        else:
            body = json.loads(request.body)
    except (ValueError, RecursionError):
        raise statuses.bad_request(f"the object provided is unrecognized (must be of type {kind})") from None
    spec = body.get("spec", {}) if isinstance(body, dict) else None
    if not isinstance(spec, dict):
        raise statuses.bad_request(f'{kind} in version "v1" cannot be handled as a {kind}')
    return spec
