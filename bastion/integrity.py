"""The hash chain that makes a changed record show; used by store (writing and reading) and cli.audit_page (verifying).

A chain is a row of links. The hash of a link is SHA-256 over 0x00, the hash of
the link before it, and the link's facts as canonical JSON. The first link
stands on 32 zero bytes. There is one chain per session, and one chain of
events per writer. A chain alone shows what was changed, removed or added in the middle;
that its end was cut off shows only against a head that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Fact = str | int | bool | bytes | None
"""What a link may hold. No floats: their text is not the same everywhere."""

GENESIS = bytes(32)
"""What the first link of every chain stands on."""

_LINK = b"\x00"  # RFC 6962 section 2.1: leaves are hashed with 0x00, so that a tree over heads can use 0x01 for nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a chain: how many links it has, and the hash of the last."""

    length: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One stored row as a link.

    chain: the session or writer it belongs to; position: from 0; kind: the table.
    facts: everything the row says, without the two hashes.
    fault: what its reader found wrong with content that stands in the facts by digest only; "" if nothing.
    """

    chain: str
    position: int
    kind: str
    prev_hash: bytes
    hash: bytes
    facts: Mapping[str, Fact]
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first place where a chain does not hold, and why."""

    position: int
    kind: str
    why: str

    def __str__(self) -> str:
        return f"link {self.position} ({self.kind}): {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a verification: the good links up to `head`, and the break if there is one."""

    head: Head
    broken: Break | None

    @property
    def intact(self) -> bool:
        """Whether every link holds."""
        return self.broken is None


def canonical(facts: Mapping[str, Fact]) -> bytes:
    """Facts as JSON that is the same everywhere: sorted keys, no blanks, ASCII, bytes as lower-case hex.

    Raises TypeError for what is not a Fact, floats among it.
    """
    plain = {key: _plain(value) for key, value in facts.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _plain(value: Fact) -> str | int | bool | None:
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")


def link_hash(prev_hash: bytes, *, chain: str, position: int, kind: str, facts: Mapping[str, Fact]) -> bytes:
    """The hash of a link that stands on `prev_hash`."""
    body = canonical({**facts, "link.chain": chain, "link.position": position, "link.kind": kind})
    return hashlib.sha256(_LINK + prev_hash + body).digest()


class Verifier:
    """Takes the links of one chain in order; for chains that are too long to hold in memory."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self._head = Head()
        self._broken: Break | None = None

    def add(self, link: Link) -> None:
        """Take the next link. After a break nothing more is looked at."""
        if self._broken is not None:
            return
        why = self._why_not(link)
        if why:
            self._broken = Break(position=self._head.length, kind=link.kind, why=why)
        else:
            self._head = Head(length=self._head.length + 1, hash=link.hash)

    def verdict(self) -> Verdict:
        """What holds so far."""
        return Verdict(head=self._head, broken=self._broken)

    def _why_not(self, link: Link) -> str:
        if link.chain != self._chain:
            return "it belongs to another chain"
        if link.position > self._head.length:
            return f"a link is missing before the one that says it is {link.position}"
        if link.position < self._head.length:
            return f"there is more than one link {link.position}"
        if link.prev_hash != self._head.hash:
            return "it does not stand on the link before it"
        if link.fault:
            return link.fault
        expected = link_hash(link.prev_hash, chain=link.chain, position=link.position, kind=link.kind, facts=link.facts)
        return "" if link.hash == expected else "its content is not what its hash was made from"


def verify(chain: str, links: Iterable[Link]) -> Verdict:
    """Go through the links of a chain, in order of position, and say where it first breaks and why."""
    verifier = Verifier(chain)
    for link in links:
        verifier.add(link)
    return verifier.verdict()
