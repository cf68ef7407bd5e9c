"""One way to measure everything: in rounds, everybody once in each, failures kept as gaps; used by the measures."""

from __future__ import annotations

import math
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

import aiohttp
import asyncssh

from bench.figures import Figure
from bench.processes import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.options import Options

_FAILURES = (StepFailedError, OSError, subprocess.TimeoutExpired, asyncssh.Error, aiohttp.ClientError)
"""What a step can fail with; everything else is a bug of the benchmark."""

Once: TypeAlias = "Mapping[str, Callable[[], Mapping[str, list[float]]]]"
"""For each contender what measures it once: the samples by what they are of."""


def measured(options: Options, label: str, units: Mapping[str, str], once: Once, *, rounds: int) -> Iterator[Figure]:
    """Measure everybody in turns (A B C, A B C), so that a busy moment of the machine hits all alike.

    label: for the progress. units: what is measured, and in which unit.
    """
    samples: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    notes: dict[str, str] = {}
    for number in range(rounds):
        for who, measure in once.items():
            options.progress(f"{label}: {who}, round {number + 1} of {rounds}")
            try:
                found = measure()
            except _FAILURES as error:
                found = {what: [math.nan] for what in units}
                notes[who] = f"failed: {error}"
            for what, values in found.items():
                samples[what, who] += values
    first = next(iter(units))
    for what, unit in units.items():
        for who in once:
            # who never gave a figure of the later kinds does not have it; of the first kind everybody has one
            if what == first or not all(map(math.isnan, samples[what, who])):
                yield Figure(what=what, who=who, unit=unit, samples=tuple(samples[what, who]), note=notes.get(who, ""))
