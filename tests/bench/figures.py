"""What was measured, what it is compared with and what was to be reached, as values; used by all of bench."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SSHD, UNRECORDED, SQLITE, POSTGRESQL, WEBSOCKET, KUBECTL = (
    "sshd",
    "bastion unrecorded",
    "bastion on SQLite",
    "bastion on PostgreSQL",
    "raw WebSocket",
    "kubectl exec",
)
RECORDED = (SQLITE, POSTGRESQL)
EVERYBODY = {
    "sshd": SSHD,
    "unrecorded": UNRECORDED,
    "sqlite": SQLITE,
    "postgresql": POSTGRESQL,
    "websocket": WEBSOCKET,
    "kubectl": KUBECTL,
}
"""Everybody by the name that the command line has for them."""

Key = tuple[str, str]
"""What was measured, and of whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured thing: `what` of `who`, one sample a round (nan for a round that failed), in `unit`."""

    what: str
    who: str
    unit: str
    samples: tuple[float, ...]
    note: str = ""
    """What failed in a round, if one did."""

    @property
    def key(self) -> Key:
        """How comparisons name it."""
        return self.what, self.who

    @property
    def good(self) -> list[float]:
        """The samples of the rounds that did not fail."""
        return [sample for sample in self.samples if not math.isnan(sample)]

    @property
    def median(self) -> float:
        """The middle one; nan if every round failed."""
        return statistics.median(self.good) if self.good else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How a figure is to compare.

    to: the figure it is compared with; None compares the figure itself.
    how: "ratio" divides by the other, "added" subtracts it.
    """

    of: Key
    to: Key | None = None
    how: Literal["ratio", "added"] = "ratio"
    relation: Literal[">=", "<="]
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a figure did compare."""

    target: Target
    value: float

    @property
    def met(self) -> bool:
        """Whether the target is reached; what could not be measured is not."""
        if self.target.relation == ">=":
            return self.value >= self.target.bound
        return self.value <= self.target.bound


DOWNLOAD, UPLOAD = "download", "upload"
OPEN, OPEN_SHARED = "open", "open, shared connection"
CPU, CPU_SHARED = "CPU per session", "CPU per session, shared connection"
ECHO_P50, ECHO_P99 = "echo p50", "echo p99"
BUSY_P50, BUSY_P99 = "echo p50 beside 4 transfers", "echo p99 beside 4 transfers"
LAG_P50, LAG_P99, LAG_MAX = (f"event-loop lag {name} under 4 transfers" for name in ("p50", "p99", "max"))
CONNECTION_MEMORY, CHANNEL_MEMORY, SESSION_MEMORY = (
    "memory per idle connection",
    "memory per idle session on one",
    "memory per idle session with its connection",
)
STALLED_DOWNLOAD, STALLED_UPLOAD = "growth, client never reads", "growth, pod never reads"
FRAMES_PTY, FRAMES_PIPE = "4 KiB writes on a terminal", "4 KiB writes on a pipe"
LOGIN_P99, LOGIN_MAX, FLOOD_RATE, FLOOD_REFUSED = "login p99", "login max", "strangers", "strangers' keys looked at"
CATALOG = "bastion's catalogue"
CATALOG_MEMORY, POD_MEMORY, CATALOG_SYNC, CATALOG_LAG, RESOLVE_P50, RESOLVE_P99 = (
    "memory of the pods that are known",
    "memory per pod",
    "time until all pods are known",
    "event-loop lag max meanwhile",
    "resolve p50",
    "resolve p99",
)
FROM_ONE, FROM_MANY = ", flood from one address", ", flood from many addresses"

TARGETS = (
    Target(of=(DOWNLOAD, UNRECORDED), to=(DOWNLOAD, SSHD), relation=">=", bound=0.6),
    Target(of=(DOWNLOAD, UNRECORDED), to=(DOWNLOAD, WEBSOCKET), relation=">=", bound=0.8),
    *(
        Target(of=(what, who), to=(what, UNRECORDED), relation=">=", bound=0.6)
        for what in (DOWNLOAD, UPLOAD)
        for who in RECORDED
    ),
    *(
        Target(of=(what, who), to=(what, KUBECTL), relation=">=", bound=1.0)
        for what in (DOWNLOAD, UPLOAD)
        for who in RECORDED
    ),
    *(Target(of=(OPEN, who), to=(OPEN, KUBECTL), relation="<=", bound=1.0) for who in RECORDED),
    *(Target(of=(OPEN_SHARED, who), to=(OPEN, KUBECTL), relation="<=", bound=0.5) for who in RECORDED),
    *(Target(of=(what, who), relation="<=", bound=6.0) for what in (CPU, CPU_SHARED) for who in RECORDED),
    *(
        Target(of=(ECHO_P50, who), to=(ECHO_P50, WEBSOCKET), how="added", relation="<=", bound=1.0)
        for who in (UNRECORDED, *RECORDED)
    ),
    *(Target(of=(LAG_P99, who), relation="<=", bound=10.0) for who in (UNRECORDED, *RECORDED)),
    *(Target(of=(SESSION_MEMORY, who), relation="<=", bound=150.0) for who in RECORDED),
    *(
        Target(of=(what, who), relation="<=", bound=8.0)
        for what in (STALLED_DOWNLOAD, STALLED_UPLOAD)
        for who in (UNRECORDED, *RECORDED)
    ),
    Target(of=(CATALOG_MEMORY, CATALOG), relation="<=", bound=60.0),
    Target(of=(RESOLVE_P99, CATALOG), relation="<=", bound=1.0),
    *(Target(of=(LOGIN_P99 + flood, SQLITE), relation="<=", bound=2.0) for flood in (FROM_ONE, FROM_MANY)),
)
"""What is to be reached. Times in ms (logins in s), memory per session in KiB, other memory and growth in MB."""


def verdicts(figures: Iterable[Figure]) -> list[Verdict]:
    """Compare what was measured with what was to be reached; targets of what was not measured are left out."""
    by_key = {figure.key: figure for figure in figures}
    found = []
    for target in TARGETS:
        of, to = by_key.get(target.of), by_key.get(target.to) if target.to else None
        if of is None or (target.to is not None and to is None):
            continue
        found.append(Verdict(target=target, value=compared(of, to, target.how)))
    return found


def compared(of: Figure, to: Figure | None, how: Literal["ratio", "added"] = "ratio") -> float:
    """The median of what each round says: rounds are interleaved, so that a busy moment hits both sides alike."""
    if to is None:
        return of.median
    if len(of.samples) == len(to.samples):
        pairs: list[tuple[float, float]] = list(zip(of.samples, to.samples, strict=True))
    else:
        pairs = [(of.median, to.median)]
    values = [one - other if how == "added" else one / other for one, other in pairs if other]
    good = [value for value in values if not math.isnan(value)]
    return statistics.median(good) if good else math.nan


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample below which so many percent of all lie; nan of none."""
    if not samples:
        return math.nan
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)]
