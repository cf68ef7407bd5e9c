"""What a check of `bastion doctor` finds, and how it is shown; used by cli.doctor and its parts."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import click

from bastion import printable
from bastion.cli import output

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from bastion.errors import BastionError


class Outcome(StrEnum):
    """What a check came to. One that could not be made is never ok."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


_COLOURS = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line. check: what was looked at; advice: what to do, "" if nothing is to be done."""

    check: str
    outcome: Outcome
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Check:
    """A check that holds."""
    return Check(check=check, outcome=Outcome.OK, message=message)


def warning(check: str, message: str, advice: str) -> Check:
    """A check that holds, but somebody should know."""
    return Check(check=check, outcome=Outcome.WARNING, message=message, advice=advice)


def failed(check: str, message: str, advice: str) -> Check:
    """A check that does not hold, or could not be made."""
    return Check(check=check, outcome=Outcome.FAILED, message=message, advice=advice)


def broken(check: str, error: BastionError, advice: str) -> Check:
    """A check that ended in an error, with what operators may know of it."""
    more = f" ({error.detail})" if error.detail else ""
    return failed(check, f"{error.user_message}{more}", advice)


async def show(checks: AsyncIterable[Check], *, as_json: bool) -> bool:
    """Print checks as they come; whether none of them failed."""
    holds = True
    async for one in checks:
        holds = holds and one.outcome is not Outcome.FAILED
        if as_json:
            output.print_json([asdict(one)])
        else:
            click.echo(_line(one))
    return holds


def _line(check: Check) -> str:
    said = f"{check.message}: {check.advice}" if check.advice else check.message
    outcome = f"{check.outcome:<8}"
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        outcome = click.style(outcome, fg=_COLOURS[check.outcome])
    return f"{outcome}{check.check:<14}{printable.line(' '.join(said.split()))}"
