"""The figures as a table for people and as JSON for programs; called by __main__."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.figures import verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.figures import Figure, Verdict


WIDTH = 150
"""Columns of the table where there is no terminal to ask."""


def table(figures: Sequence[Figure]) -> Table:
    """One row for each figure; one more line in it for each target it has."""
    caption = "median and spread (lowest to highest) of all rounds; compared round by round"
    made = Table(title="bastion beside others on this machine", caption=caption)
    for name, justify in (("what", "left"), ("who", "left"), ("median", "right"), ("spread", "right")):
        made.add_column(name, justify=justify)  # type: ignore[arg-type] # literals, widened by the loop
    for name in ("compared", "target", ""):
        made.add_column(name)
    of: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts(figures):
        of.setdefault(verdict.target.of, []).append(verdict)
    last = ""
    for figure in figures:
        if last and figure.what != last:
            made.add_section()
        mine = of.get(figure.key, [])
        made.add_row(
            figure.what if figure.what != last else "",
            figure.who,
            f"{_number(figure.median)} {figure.unit}" if figure.good else "failed",
            f"{_number(min(figure.good))} to {_number(max(figure.good))}" if figure.good else "",
            "\n".join(map(_comparison, mine)),
            "\n".join(f"{verdict.target.relation} {verdict.target.bound:g}" for verdict in mine),
            "\n".join("[green]met[/]" if verdict.met else "[red]not met[/]" for verdict in mine),
        )
        last = figure.what
    return made


def notes(figures: Sequence[Figure]) -> list[str]:
    """A line for each figure that lacks rounds, with the reason."""
    return [f"{figure.what}, {figure.who}: {figure.note}" for figure in figures if figure.note]


def as_json(figures: Sequence[Figure], about: Mapping[str, Any]) -> str:
    """Everything that was measured: figures with their samples, and targets."""
    return json.dumps(
        {
            "about": about,
            "figures": [
                {
                    "what": figure.what,
                    "who": figure.who,
                    "unit": figure.unit,
                    "median": _or_none(figure.median),
                    "samples": [_or_none(sample) for sample in figure.samples],
                    "note": figure.note,
                }
                for figure in figures
            ],
            "targets": [
                {
                    "of": verdict.target.of,
                    "to": verdict.target.to,
                    "how": verdict.target.how if verdict.target.to else "itself",
                    "relation": verdict.target.relation,
                    "bound": verdict.target.bound,
                    "value": _or_none(verdict.value),
                    "met": verdict.met,
                }
                for verdict in verdicts(figures)
            ],
        },
        indent=2,
    )


def _comparison(verdict: Verdict) -> str:
    if verdict.target.to is None:
        return ""
    what, who = verdict.target.to
    other = who if what == verdict.target.of[0] else f"{who}, {what}"
    if verdict.target.how == "added":
        return f"{verdict.value:+.2f} over {other}"
    return f"{verdict.value:.2f} of {other}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
