"""Counts who is logging in and remembers who is to stay away; asked by ssh.connection for each connection.

A place is held from the moment a connection was accepted, before anything was
read or sent, to the login or the end, whichever comes first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.admission import source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.admission import Ending, Penalties, Rules
    from bastion.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """Why a connection may not begin to log in: for the record, and for the client in few words."""

    rule: str
    reason: str


class Place:
    """A connection that is logging in."""

    def __init__(self, doorkeeper: Doorkeeper, source: str | None) -> None:
        self._doorkeeper: Doorkeeper | None = doorkeeper
        self._source = source

    def leave(self, ending: Ending | None) -> None:
        """Give the place back, once; with the end that is to be penalised, if it is one."""
        if self._doorkeeper is not None:
            self._doorkeeper.left(self._source, ending)
            self._doorkeeper = None


class Doorkeeper:
    """Decides about every new connection of a server. Costs no more than a look into two tables."""

    def __init__(self, rules: Rules, *, clock: Clock, chance: Callable[[], float]) -> None:
        """`chance` gives a number from 0 to below 1, at random."""
        self._rules = rules
        self._clock = clock
        self._chance = chance
        self._held = 0
        self._held_by: Counter[str] = Counter()
        self._penalised = Penalised(rules.penalties)

    @property
    def held(self) -> int:
        """How many connections are logging in."""
        return self._held

    def enter(self, host: str) -> Place | TurnedAway:
        """Give a new connection a place, or say why not."""
        source = source_of(host, self._rules.exempt)
        turned_away = self._why_not(source)
        if turned_away is not None:
            return turned_away
        self._held += 1
        if source is not None:
            self._held_by[source] += 1
        return Place(self, source)

    def left(self, source: str | None, ending: Ending | None) -> None:
        """Take a place back; `Place.leave` calls it."""
        self._held -= 1
        if source is None:
            return
        self._held_by[source] -= 1
        if not self._held_by[source]:
            del self._held_by[source]
        if ending is not None:
            self._penalised.add(source, self._rules.penalties.of(ending), self._clock.monotonic())

    def _why_not(self, source: str | None) -> TurnedAway | None:
        if source is not None:
            wait = self._penalised.seconds_left(source, self._clock.monotonic())
            if wait > 0:
                return TurnedAway(rule="penalty", reason=f"too many failed logins or none: try again in {wait:.0f} s")
            if self._held_by[source] >= self._rules.per_source:
                return TurnedAway(rule="max-startups-per-source", reason="too many logins at once from this address")
        refused = self._rules.max_startups.refused(self._held)
        if refused > 0 and self._chance() < refused:
            return TurnedAway(rule="max-startups", reason="too many logins at once: try again in a moment")
        return None


@dataclass(frozen=True, slots=True)
class _Penalty:
    until: float
    bites: bool


class Penalised:
    """Penalties by source. One that came to bite does so until it is over, as OpenSSH's do."""

    def __init__(self, rules: Penalties) -> None:
        self._rules = rules
        self._found: dict[str, _Penalty] = {}  # the one that was penalised longest ago comes first

    def __len__(self) -> int:
        return len(self._found)

    def add(self, source: str, seconds: float, now: float) -> None:
        """Add to what a source has before it."""
        if seconds <= 0:
            return
        old = self._found.pop(source, None)
        if old is None or old.until <= now:
            old = _Penalty(now, bites=False)
        until = min(old.until + seconds, now + self._rules.most)
        self._found[source] = _Penalty(until, bites=old.bites or until - now >= self._rules.at_least)
        self._forget(now)

    def seconds_left(self, source: str, now: float) -> float:
        """How long the source is still to stay away; 0 if it may come."""
        penalty = self._found.get(source)
        return max(0.0, penalty.until - now) if penalty is not None and penalty.bites else 0.0

    def _forget(self, now: float) -> None:
        while self._found:
            first = next(iter(self._found))
            if len(self._found) <= self._rules.sources and self._found[first].until > now:
                return
            del self._found[first]
