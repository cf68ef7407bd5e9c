"""Label and field selectors of list requests; used by listing. Pure.

The grammar is the API server's (k8s.io/apimachinery, labels): `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

Matcher = Callable[[Mapping[str, str]], bool]

_TOKEN = re.compile(r"\s*(==|!=|[=!,()<>]|[^\s=!,()<>]+)")
_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_SYMBOLS = frozenset(("", "=", "==", "!=", "!", ",", "(", ")", "<", ">"))

_FIELDS = frozenset(("metadata.name", "metadata.namespace"))


class SelectorError(Exception):
    """A selector that cannot be understood; str() is what the API server says."""


def parse_labels(text: str) -> Matcher:
    """Whether labels match a labelSelector; "" matches all. Raises SelectorError."""
    parser = _Parser(_TOKEN.findall(text))
    matchers = parser.requirements()
    return lambda labels: all(matches(labels) for matches in matchers)


def parse_fields(text: str, known: Collection[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an object matches a fieldSelector on its name, its namespace or `known` paths. Raises SelectorError."""
    wanted = [_field(term, known) for term in text.split(",") if term]
    return lambda value: all((_value_at(value, path) == want) == equal for path, want, equal in wanted)


def _field(term: str, known: Collection[str]) -> tuple[str, str, bool]:
    parts = re.fullmatch(r"([^=!]*)(==|=|!=)(.*)", term, re.DOTALL)
    if parts is None:
        raise SelectorError(f"invalid selector: '{term}'; can't understand '{term}'")
    name, operator, value = parts.groups()
    if name not in _FIELDS and name not in known:
        raise SelectorError(f"field label not supported: {name}")
    return name, value, operator != "!="


def _value_at(value: Mapping[str, Any], path: str) -> str:
    found: Any = value
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return "" if found is None else str(found)


class _Parser:
    """A recursive descent over the tokens of a label selector."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def requirements(self) -> list[Matcher]:
        found: list[Matcher] = []
        while self._peek():
            found.append(self._requirement())
            separator = self._next()
            if separator not in ("", ","):
                raise SelectorError(f"found '{separator}', expected: ',' or 'end of string'")
            if separator and not self._peek():
                raise SelectorError("found '', expected: identifier after ','")
        return found

    def _requirement(self) -> Matcher:
        if self._peek() == "!":
            self._next()
            missing = self._key()
            return lambda labels: missing not in labels
        key = self._key()
        if self._peek() in ("", ","):
            return lambda labels: key in labels
        return self._comparison(key, self._next())

    def _comparison(self, key: str, operator: str) -> Matcher:
        match operator:
            case "=" | "==":
                value = self._value()
                return lambda labels: labels.get(key) == value
            case "!=":
                value = self._value()
                return lambda labels: labels.get(key) != value
            case "in":
                values = self._values()
                return lambda labels: labels.get(key) in values
            case "notin":
                values = self._values()
                return lambda labels: labels.get(key) not in values
            case "<" | ">":
                bound = self._bound()
                return lambda labels: _compare(labels.get(key), operator, bound)
            case _:
                expected = "in, notin, =, ==, !=, gt, lt"
                raise _error(f"found '{operator}', expected: {expected}")

    def _values(self) -> frozenset[str]:
        if (opening := self._next()) != "(":
            raise _error(f"found '{opening}' expected: '('")
        values = set()
        while True:
            word = self._next()
            if word in (",", ")"):
                values.add("")
            elif word in _SYMBOLS:
                raise _error(f"found '{word}', expected: ',', ')' or identifier")
            else:
                values.add(_checked(word))
                word = self._next()
            if word == ")":
                return frozenset(values)
            if word != ",":
                raise _error(f"found '{word}', expected: ',' or ')'")

    def _key(self) -> str:
        key = self._next()
        if key in _SYMBOLS:
            raise _error(f"found '{key}', expected: identifier")
        if not _KEY.fullmatch(key):
            raise _error(
                f"key: Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.'"
            )
        return key

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        value = self._next()
        if value in _SYMBOLS:
            raise _error(f"found '{value}', expected: identifier")
        return _checked(value)

    def _bound(self) -> int:
        bound = self._value()
        if not _NUMBER.fullmatch(bound):
            raise _error(
                f"values[0][]: Invalid value: \"{bound}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
        return int(bound)

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token


def _checked(value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise _error(
            f'values[0]: Invalid value: "{value}": a valid label must consist of alphanumeric characters,'
            " '-', '_' or '.'"
        )
    return value


def _compare(label: str | None, operator: str, bound: int) -> bool:
    if label is None or not _NUMBER.fullmatch(label):
        return False
    return int(label) < bound if operator == "<" else int(label) > bound


def _error(said: str) -> SelectorError:
    return SelectorError(f"unable to parse requirement: {said}")
