"""YAML that knows its lines and leaves no doubt what it says; used by policyfile.py and settings.py.

Refused with the file and the line: duplicate keys, aliases, tags, several
documents, more than 1 MiB, more than 20 levels. What a key holds is asked for by type, so that `no`
or `8080` where a text is due is an error and not a surprise.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import yaml

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_STR = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document: where it stands and what it is called, for errors that say so.

    where: FILE:LINE, the line of its key if it has one; name: the path to it, "roles.dev.allow[0]".
    """

    node: yaml.Node
    where: str
    name: str

    def wrong(self, problem: str) -> NoReturn:
        """Refuse this value."""
        raise BastionError(Code.INVALID, f"{self.where}: {problem}")

    def fields(self, known: Iterable[str], *, later: Iterable[str] = ()) -> dict[str, Value]:
        """The keys and values of a mapping whose keys must be among `known`.

        later: names that are not supported yet; they are refused in other words.
        """
        result = dict(self.entries())
        known = tuple(known)
        for name, value in result.items():
            if name in later:
                value.wrong(f"{value.name} is not supported yet by this version; remove it")
            if name not in known:
                within = f" in {self.name}" if self.name else ""
                value.wrong(f"unknown key {name!r}{within}{nearest(name, known)}")
        return result

    def entries(self) -> Iterator[tuple[str, Value]]:
        """The keys and values of a mapping, in the order of the file."""
        if not isinstance(self.node, yaml.MappingNode):
            self.wrong(f"{self.name or 'the document'} must be a mapping (KEY: VALUE)")
        seen = set()
        for key, node in self.node.value:
            where = self._where(key)
            name = Value(key, where, "a key").text()
            value = Value(node, where, f"{self.name}.{name}" if self.name else name)
            if name in seen:
                value.wrong(f"{value.name} stands here a second time")
            seen.add(name)
            yield name, value

    def items(self) -> list[Value]:
        """The values of a list, which must not be empty."""
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            self.wrong(f"{self.name} must be a list with at least one entry ([A, B])")
        return [Value(node, self._where(node), f"{self.name}[{i}]") for i, node in enumerate(self.node.value)]

    def text(self) -> str:
        """A text that is not empty; what YAML takes for a number or a truth value needs quotes."""
        if not isinstance(self.node, yaml.ScalarNode):
            self.wrong(f"{self.name} must be a text")
        if self.node.tag != _STR:
            self.wrong(f"{self.name} must be a text; if {self.node.value!r} is one, put quotes around it")
        if not self.node.value:
            self.wrong(f"{self.name} is empty")
        return str(self.node.value)

    def truth(self) -> bool:
        """`true` or `false`."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != _BOOL:
            self.wrong(f"{self.name} must be true or false")
        return str(self.node.value).lower() in ("true", "yes", "on")

    def scalar(self) -> str:
        """A text, number or truth value as it is written; whoever asks converts it."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag == _NULL:
            self.wrong(f"{self.name} must have a value")
        return str(self.node.value)

    def _where(self, node: yaml.Node) -> str:
        return f"{self.where.rpartition(':')[0]}:{node.start_mark.line + 1}"


def parse(data: bytes, source: str) -> Value:
    """The document in `data`.

    source: the file's name, for errors.

    Raises:
        BastionError: INVALID, with the line.
    """
    if len(data) > MAX_BYTES:
        raise BastionError(Code.INVALID, f"{source}: larger than {MAX_BYTES} bytes")
    try:
        _refuse_what_is_not_plain(data, source)
        node = yaml.compose(data, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BastionError(Code.INVALID, f"{source}{line}: {error.problem or 'this is not YAML'}") from error
    except (yaml.YAMLError, UnicodeError, RecursionError, ValueError) as error:
        raise BastionError(Code.INVALID, f"{source}: this cannot be read as YAML", detail=repr(error)) from error
    if node is None:
        raise BastionError(Code.INVALID, f"{source}: the file is empty")
    return Value(node, f"{source}:{node.start_mark.line + 1}", "")


def _refuse_what_is_not_plain(data: bytes, source: str) -> None:
    """Refuse tags, and what YAML bombs are made of (aliases, depth), before a tree is built."""
    depth = 0
    for event in yaml.parse(data, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*NAME) are refused; write it out"
        elif depth > MAX_DEPTH:
            problem = f"more than {MAX_DEPTH} levels are refused"
        elif getattr(event, "tag", None) is not None:
            problem = "tags (!NAME) are refused; leave it out"
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise BastionError(Code.INVALID, f"{source}:{line}: {problem}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Words that help after an unknown name: the nearest known one, else all of them."""
    known = sorted(map(str, known))
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]!r}?" if found else f"; known are {', '.join(known)}"
