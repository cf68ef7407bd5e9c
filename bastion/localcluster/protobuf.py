"""Reviews and token requests as kubectl 1.32 and newer send them, in Protocol Buffers; used by bodies. Pure.

Only requests are read; answers are JSON, which every client takes. Field numbers are those of generated.proto in
k8s.io/api (authentication/v1, authorization/v1) and of runtime.Unknown, the envelope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\0"
_RAW = 2  # the envelope's field with the message
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field's JSON name. parts: those of a message; None is a word or a number. many: it may come again."""

    name: str
    parts: Mapping[int, Field] | None = None
    many: bool = False


def _words(*names: str) -> dict[int, Field]:
    return {number: Field(name=name) for number, name in enumerate(names, 1)}


_RESOURCE = _words("namespace", "verb", "group", "version", "resource", "subresource", "name")
_ACCESS = {
    1: Field(name="resourceAttributes", parts=_RESOURCE),
    2: Field(name="nonResourceAttributes", parts=_words("path", "verb")),
    3: Field(name="user"),
    4: Field(name="groups", many=True),
}
_SPECS: Mapping[str, Mapping[int, Field]] = {
    "SubjectAccessReview": _ACCESS,
    "SelfSubjectAccessReview": {number: _ACCESS[number] for number in (1, 2)},
    "SelfSubjectRulesReview": _words("namespace"),
    "SelfSubjectReview": {},
    "TokenReview": {1: Field(name="token"), 2: Field(name="audiences", many=True)},
    "TokenRequest": {1: Field(name="audiences", many=True), 4: Field(name="expirationSeconds")},
}


def decode(body: bytes, kind: str) -> dict[str, Any]:
    """The object in a request's body: metadata and what is known of its spec.

    Raises:
        ValueError: it is not one, or of a kind that is not known here.
    """
    if not body.startswith(_MAGIC) or kind not in _SPECS:
        raise ValueError(kind)
    envelope = _fields(body[len(_MAGIC) :])
    raw = next((value for number, value in envelope if number == _RAW and isinstance(value, bytes)), b"")
    return {"metadata": {}, "spec": {}, **_message(raw, {2: Field(name="spec", parts=_SPECS[kind])})}


def _message(data: bytes, known: Mapping[int, Field]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, value in _fields(data):
        field = known.get(number)
        if field is None:
            continue
        if field.parts is not None:
            if not isinstance(value, bytes):
                raise ValueError(field.name)
            result[field.name] = _message(value, field.parts)
            continue
        plain = value.decode() if isinstance(value, bytes) else value
        if field.many:
            result.setdefault(field.name, []).append(plain)
        else:
            result[field.name] = plain
    return result


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field, in order."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:  # varint
                value, at = _varint(data, at)
                yield key >> 3, value
            case 2:  # length and bytes
                length, at = _varint(data, at)
                if at + length > len(data):
                    raise ValueError("a field that is cut short")
                yield key >> 3, data[at : at + length]
                at += length
            case 1:  # 64 bits
                at += 8
            case 5:  # 32 bits
                at += 4
            case other:
                raise ValueError(f"wire type {other}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing begins."""
    value = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004 - the bit that says "more"
            return value, at + index + 1
    raise ValueError("a number that does not end")
