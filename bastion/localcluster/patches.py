"""Patches: JSON merge (RFC 7386) and strategic merge, as far as clients use it; used by objects and subresources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bastion.localcluster import statuses

if TYPE_CHECKING:
    from bastion.localcluster.http import Request
    from bastion.localcluster.store import Object

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
_DEEPEST = 100


def apply(value: Object, request: Request) -> Object:
    """An object with a request's patch applied. Raises ApiError: 400, or 415 for another kind of patch."""
    kind = request.header("content-type").partition(";")[0].strip()
    if kind not in (MERGE, STRATEGIC):
        raise statuses.unsupported_media_type([MERGE, STRATEGIC])
    try:
        patch = json.loads(request.body)
    except (ValueError, RecursionError):
        patch = None
    if not isinstance(patch, dict):
        raise statuses.bad_request("the body of the request is not a patch")
    patched = merged(value, patch, strategic=kind == STRATEGIC)
    if not isinstance(patched.get("metadata"), dict):
        raise statuses.bad_request("the patch leaves an object without metadata")
    return patched


def merged(value: Object, patch: Object, *, strategic: bool, depth: int = 0) -> Object:
    """One level of a patch: null takes a key out. Raises ApiError: 400 for a directive that is not known."""
    if depth > _DEEPEST:
        raise statuses.bad_request("the patch is nested too deeply")
    result = dict(value)
    for key, part in patch.items():
        if strategic and key.startswith("$setElementOrder/"):
            continue  # it says again in which order the list stands
        if strategic and key.startswith("$"):
            raise statuses.bad_request(f"the patch directive {key} is not supported")
        if part is None:
            result.pop(key, None)
        elif isinstance(part, dict):
            old = result.get(key)
            result[key] = merged(old if isinstance(old, dict) else {}, part, strategic=strategic, depth=depth + 1)
        elif strategic and _is_named(part):
            old = result.get(key)
            result[key] = _merged_list(old if _is_named(old) else [], part, depth)
        else:
            result[key] = part
    return result


def _merged_list(old: Any, patch: list[Any], depth: int) -> list[Any]:
    """Lists of things with names are merged by name; what is new comes first (recorded in ephemeral-add)."""
    changes = {one["name"]: one for one in patch}
    there = [
        merged(one, changes[one["name"]], strategic=True, depth=depth + 1) if one["name"] in changes else one
        for one in old
    ]
    known = {one["name"] for one in old}
    new = [merged({}, one, strategic=True, depth=depth + 1) for name, one in changes.items() if name not in known]
    return [*new, *there]


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in value)
