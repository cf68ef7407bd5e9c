"""Who may begin to log in: how many at once, whom to turn away for a while (pure); used by ssh, app and settings."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

IPV6_BLOCK = 64
"""Bits of an IPv6 address that make a source. OpenSSH counts single addresses (PerSourceNetBlockSize 32:128), but a
subscriber is given a /64 at least, and could come from an address of its own each time."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Ending(StrEnum):
    """How a connection ended that never logged in, by what OpenSSH penalises (sshd_config, PerSourcePenalties)."""

    AUTHFAIL = "authfail"  # tried to log in, in vain
    NOAUTH = "noauth"  # left without trying
    GRACE_EXCEEDED = "grace-exceeded"  # did not finish within the time for it
    CRASH = "crash"  # sent what an error of this program came of


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxStartups:
    """How many connections may be logging in at once (sshd_config, MaxStartups).

    From `start` on, `rate` per cent of the new ones are refused, at random, rising to all of them at `full`.
    """

    start: int = 10
    rate: int = 30
    full: int = 100

    def refused(self, held: int) -> float:
        """The probability that one more is refused while so many are held."""
        if held < self.start:
            return 0.0
        if held >= self.full:
            return 1.0
        rise = (held - self.start) / (self.full - self.start)
        return (self.rate + (100 - self.rate) * rise) / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """Seconds for which a source is turned away, by how its connections ended; they add up.

    at_least: what must have come together before it bites. most: what a source can have before it at any time.
    sources: how many are remembered; beyond that the one that was penalised longest ago is forgotten.
    """

    authfail: float = 5
    noauth: float = 1
    grace_exceeded: float = 10
    crash: float = 90
    at_least: float = 15
    most: float = 600
    sources: int = 65_536

    def of(self, ending: Ending) -> float:
        """Seconds for such an end."""
        match ending:
            case Ending.AUTHFAIL:
                return self.authfail
            case Ending.NOAUTH:
                return self.noauth
            case Ending.GRACE_EXCEEDED:
                return self.grace_exceeded
            case Ending.CRASH:
                return self.crash


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All that is decided before anybody is known.

    per_source: connections of one source that may be logging in at once.
    exempt: networks without penalties and without that limit: what hides many clients behind one address.
    """

    max_startups: MaxStartups = MaxStartups()
    per_source: int = 9
    penalties: Penalties = Penalties()
    exempt: tuple[Network, ...] = ()


NAMES = {
    "authfail": "authfail",
    "noauth": "noauth",
    "grace-exceeded": "grace_exceeded",
    "crash": "crash",
    "min": "at_least",
    "max": "most",
    "max-sources": "sources",
}
"""What the parts of Penalties are called in the setting: OpenSSH's words."""


def parse_max_startups(text: str) -> MaxStartups:
    """Read START:RATE:FULL, or one number for START and FULL. Raises ValueError, which says what is wrong."""
    match = re.fullmatch(r"([0-9]{1,6})(?::([0-9]{1,3}):([0-9]{1,6}))?", text.strip(), re.ASCII)
    if match is None:
        raise ValueError("must be START:RATE:FULL, as in 10:30:100, or one number")
    start = int(match[1])
    found = MaxStartups(start=start, rate=int(match[2] or 100), full=int(match[3] or start))
    if found.full < max(1, found.start):
        raise ValueError("FULL must be 1 or more, and not less than START")
    if not 1 <= found.rate <= 100:  # noqa: PLR2004 - per cent
        raise ValueError("RATE must be 1 to 100 per cent")
    return found


def parse_penalties(text: str) -> Penalties:
    """Read `authfail:5 noauth:1 …`, or `no`; what is left out keeps its default. Raises ValueError as above."""
    if text.strip() == "no":
        return Penalties(authfail=0, noauth=0, grace_exceeded=0, crash=0)
    given: dict[str, int] = {}
    for word in text.split():
        name, _, value = word.partition(":")
        if name not in NAMES:
            raise ValueError(f"has no part {name[:32]!r}; there are {', '.join(NAMES)}, and `no` for none")
        if not re.fullmatch(r"[0-9]{1,7}", value, re.ASCII):
            raise ValueError(f"must give {name} a whole number, as in {name}:10")
        if NAMES[name] in given:
            raise ValueError(f"gives {name} twice")
        given[NAMES[name]] = int(value)
    found = replace(Penalties(), **given)
    if found.sources < 1 or found.most < found.at_least:
        raise ValueError("must have a max that is not less than min, and a max-sources of 1 or more")
    return found


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks with commas between them. Raises ValueError as above."""
    try:
        return tuple(ipaddress.ip_network(word.strip()) for word in text.split(",") if word.strip())
    except ValueError as error:
        raise ValueError(
            f"must be addresses or networks with commas between, as in 10.0.0.0/8,fd00::/8: {error}"
        ) from None


def source_of(host: str, exempt: Sequence[Network] = ()) -> str | None:
    """The source an address counts for: an IPv4 address, or an IPv6 block; None if it is exempt."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in exempt):
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_BLOCK), strict=False))
