"""Label selectors as people type them, to a test of labels (pure); used by console.arguments.

The grammar is that of Kubernetes (k8s.io/apimachinery, labels.Parse): requirements with commas between them, all of
which must hold. `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a` and `!a`. What has no such label is not
equal to anything, so `!=` and `notin` hold for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"\s*(==|!=|[=!,()]|[^\s=!,()]+)\s*")
_PREFIX = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_MAX_PREFIX = 253
_SYMBOLS = {"", "=", "==", "!=", "!", ",", "(", ")"}


class Operator(StrEnum):
    """What a requirement asks of a label."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One part of a selector; `values` are those of IN and NOT_IN."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.ABSENT:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold; none select everything."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether all of them hold."""
        return all(requirement.holds(labels) for requirement in self.requirements)


def parse(text: str) -> Selector:
    """Read a selector; an empty one selects everything. Raises BastionError (INVALID), saying what was expected."""
    reader = _Reader(text)
    return Selector(tuple(reader.requirements()))


class _Reader:
    """Takes the words of a selector one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = _TOKEN.findall(text)
        self._at = 0

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while self._next:
            if found:
                self._expect(",")
            found.append(self._requirement())
        return found

    def _requirement(self) -> Requirement:
        if self._next == "!":
            self._take()
            return Requirement(key=self._key(), operator=Operator.ABSENT)
        key = self._key()
        match self._next:
            case "" | ",":
                return Requirement(key=key, operator=Operator.EXISTS)
            case "=" | "==":
                self._take()
                return Requirement(key=key, operator=Operator.IN, values=frozenset({self._value()}))
            case "!=":
                self._take()
                return Requirement(key=key, operator=Operator.NOT_IN, values=frozenset({self._value()}))
            case "in" | "notin":
                operator = Operator(self._take())
                return Requirement(key=key, operator=operator, values=self._values())
            case word:
                raise self._invalid(f"{word!r} after {key!r}; expected =, ==, !=, in or notin")

    def _values(self) -> frozenset[str]:
        self._expect("(")
        values = {self._value()}
        while self._next == ",":
            self._take()
            values.add(self._value())
        self._expect(")")
        return frozenset(values)

    def _key(self) -> str:
        key = self._take()
        prefix, slash, name = key.rpartition("/")
        if key in _SYMBOLS:
            raise self._invalid(f"{key!r} where the name of a label is expected" if key else "it ends too early")
        if not _NAME.fullmatch(name) or (slash and not (len(prefix) <= _MAX_PREFIX and _PREFIX.fullmatch(prefix))):
            raise self._invalid(f"{key!r} cannot be the name of a label")
        return key

    def _value(self) -> str:
        """A value, which may be empty."""
        if self._next in {"", ",", ")"}:
            return ""
        value = self._take()
        if not _NAME.fullmatch(value):
            raise self._invalid(f"{value!r} cannot be the value of a label")
        return value

    @property
    def _next(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _take(self) -> str:
        word = self._next
        self._at += 1
        return word

    def _expect(self, symbol: str) -> None:
        word = self._take()
        if word != symbol:
            raise self._invalid(
                f"{word!r} where {symbol!r} is expected" if word else f"{symbol!r} is missing at its end"
            )

    def _invalid(self, problem: str) -> BastionError:
        return BastionError(Code.INVALID, f"{self._text!r} is not a label selector: {problem}")
