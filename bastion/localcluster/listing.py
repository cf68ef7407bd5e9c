"""Lists of objects: selectors, pages and their tokens; used by objects and watching.

Shapes as recorded (tests/data/kube-wire, pods-list-*).
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from bastion.localcluster import selectors, statuses, store
from bastion.localcluster.selectors import SelectorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.localcluster.http import Request
    from bastion.localcluster.kinds import Kind
    from bastion.localcluster.store import Object, Store

_TOKEN_VERSION = "meta.k8s.io/v1"  # noqa: S105 - the version of a token's format, not a secret


def list_objects(objects: Store, kind: Kind, namespace: str, request: Request) -> Object:
    """A list as a request asks for it. Raises ApiError: 400 for a selector or token that makes no sense."""
    matches = matcher(kind, request)
    limit = _limit(request)
    version, start = _parse_token(request.param("continue"))
    after = [one for one in objects.list(kind, namespace) if _key(one, namespace) >= start and matches(one)]
    page = after[:limit] if limit else after
    metadata: dict[str, Any] = {"resourceVersion": str(version or objects.version)}
    if len(page) < len(after):
        metadata["continue"] = _token(version or objects.version, _key(page[-1], namespace) + "\0")
        if not (request.param("labelSelector") or request.param("fieldSelector")):
            metadata["remainingItemCount"] = len(after) - len(page)
    return {
        "kind": f"{kind.name}List",
        "apiVersion": kind.api_version,
        "metadata": metadata,
        "items": [{key: one[key] for key in one if key not in ("kind", "apiVersion")} for one in page],
    }


def matcher(kind: Kind, request: Request) -> Callable[[Object], bool]:
    """Whether an object is one that a request selects. Raises ApiError: 400 for a selector that makes no sense."""
    try:
        labels = selectors.parse_labels(request.param("labelSelector"))
        fields = selectors.parse_fields(request.param("fieldSelector"), kind.fields)
    except SelectorError as error:
        raise statuses.bad_request(str(error)) from None
    return lambda value: fields(value) and labels(value["metadata"].get("labels", {}))


def _limit(request: Request) -> int:
    limit = request.param("limit") or "0"
    if not (limit.isascii() and limit.isdigit() and len(limit) < 19):  # noqa: PLR2004 - what an int64 holds
        raise statuses.bad_request(f'strconv.ParseInt: parsing "{limit}": invalid syntax')
    return int(limit)


def _key(value: Object, namespace: str) -> str:
    """Where an object stands in a list: below its namespace, or below all."""
    own, name = store.key_of(value)
    return name if namespace or not own else f"/{own}/{name}"


def _token(version: int, start: str) -> str:
    """The continue token: unpadded base64url of JSON (recorded in pods-list-limit)."""
    value = statuses.to_json({"v": _TOKEN_VERSION, "rv": version, "start": start})
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _parse_token(token: str) -> tuple[int, str]:
    """Version and first key; 0 and "" for no token."""
    if not token:
        return 0, ""
    try:
        value = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, start = value["rv"], value["start"]
    except (ValueError, binascii.Error, KeyError, TypeError, RecursionError):
        version, start = None, None
    if not isinstance(version, int) or not isinstance(start, str):
        raise statuses.bad_request("continue key is not valid")
    return version, start
