"""`bastion audit …`: what happened, to whom, where, and whether the record is whole; called by cli.main."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.store.views import Filter

_AGO = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class When(click.ParamType[datetime]):
    """A time: RFC 3339, a date (midnight UTC), or how long ago (45s, 30m, 2h, 7d, 2w)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """An aware UTC datetime; a usage error that names the flag for anything else."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_when(value, datetime.now(UTC))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write 2h, 7d, 2026-01-31 or 2026-01-31T10:00:00Z", param, ctx)


def parse_when(text: str, now: datetime) -> datetime:
    """The time a person means. Raises ValueError or OverflowError for what is none; without a zone it is UTC."""
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every listing has, handed on as `which`, `limit` and `as_json`."""
    options = (
        click.option("--person", default="", help="Only this person's."),
        click.option("--pod", default="", help="Only in the pod of this name."),
        click.option("--namespace", "-n", default="", help="Only in this namespace."),
        click.option("--since", type=When(), help="From then on: 2h, 7d (ago), a date, or RFC 3339."),
        click.option("--until", type=When(), help="Before then."),
        click.option(
            "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many."
        ),
        click.option("--json", "as_json", is_flag=True, help="JSON Lines."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _which(options: dict[str, Any]) -> Filter:
    from bastion.store.views import Filter  # noqa: PLC0415 - as in `_url`: --help must not wait for the store

    return Filter(**{name: options[name] for name in ("person", "pod", "namespace", "since", "until")})


def _url(ctx: click.Context) -> str:
    return str(ctx.obj.settings.database.url)


@click.group()
def audit() -> None:
    """Ask the record: who ran what, where, when, who allowed it, and whether the record is whole.

    A terminal shows of a list what fits its width; a pipe and --json get all of it.
    """


@audit.command()
@_filters
@click.pass_context
def sessions(ctx: click.Context, /, *, limit: int, as_json: bool, **options: Any) -> None:
    """List sessions, newest first."""
    from bastion.cli import audit_lists  # noqa: PLC0415 - as in `_which`

    asyncio.run(audit_lists.sessions(_url(ctx), _which(options), limit=limit, as_json=as_json))


@audit.command()
@_filters
@click.pass_context
def commands(ctx: click.Context, /, *, limit: int, as_json: bool, **options: Any) -> None:
    """List commands, newest first."""
    from bastion.cli import audit_lists  # noqa: PLC0415 - as in `_which`

    asyncio.run(audit_lists.commands(_url(ctx), _which(options), limit=limit, as_json=as_json))


@audit.command()
@_filters
@click.pass_context
def events(ctx: click.Context, /, *, limit: int, as_json: bool, **options: Any) -> None:
    """List events (logins, refusals, changes), newest first."""
    from bastion.cli import audit_lists  # noqa: PLC0415 - as in `_which`

    asyncio.run(audit_lists.events(_url(ctx), _which(options), limit=limit, as_json=as_json))


@audit.command()
@click.argument("session")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def show(ctx: click.Context, session: str, *, as_json: bool) -> None:
    """Show one session on one page, and verify its chain. SESSION may be the beginning of an id.

    The exit status is 1 if the chain is broken.
    """
    from bastion.cli import audit_page  # noqa: PLC0415 - as in `_which`

    if not asyncio.run(audit_page.show(_url(ctx), session, as_json=as_json)):
        ctx.exit(1)


@audit.command()
@click.argument("session")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="How many times faster than it was.")
@click.option(
    "--idle-limit", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Longest pause, in seconds."
)
@click.option("--json", "as_json", is_flag=True, help="The frames as JSON Lines, as `export --format json`.")
@click.pass_context
def play(ctx: click.Context, session: str, *, speed: float | None, idle_limit: float, as_json: bool) -> None:
    """Play a session's output in time; only what cannot harm a terminal gets through. Reading it is an event.

    There are pauses on a terminal, or if --speed is given; a pipe gets everything at once.
    """
    from bastion.cli import audit_replay  # noqa: PLC0415 - as in `_which`

    if as_json:
        asyncio.run(audit_replay.export(_url(ctx), session, form="json", path=None))
        return
    try:
        asyncio.run(audit_replay.play(_url(ctx), session, speed=speed, idle_limit=idle_limit))
    except KeyboardInterrupt:
        ctx.exit(130)


@audit.command()
@click.argument("session")
@click.option(
    "--format", "form", type=click.Choice(["asciicast", "text", "json"]), default="asciicast", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write to this new file; it must not exist.")
@click.pass_context
def export(ctx: click.Context, session: str, *, form: str, as_json: bool, output: Path | None) -> None:
    """Export a session's transcript: asciicast v2, lines of text, or frames as JSON. Reading it is an event."""
    from bastion.cli import audit_replay  # noqa: PLC0415 - as in `_which`

    asyncio.run(audit_replay.export(_url(ctx), session, form="json" if as_json else form, path=output))
