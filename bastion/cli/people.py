"""`bastion people`: who may log in, each change committed with its event; called by cli.main."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from bastion.cli import output
from bastion.cli.accounts import Name, opened, told
from bastion.cli.output import Column
from bastion.errors import BastionError, Code
from bastion.model import RESERVED_SUBJECTS

if TYPE_CHECKING:
    from bastion.cli.main import Cli


@click.group()
def people() -> None:
    """Who may log in."""


@people.command()
@click.argument("subject", type=Name())
@click.option("--group", "groups", type=Name(), multiple=True, help="A group; the policy binds roles to group:NAME.")
@click.pass_obj
def add(cli: Cli, subject: str, groups: tuple[str, ...]) -> None:
    """Add a person; their keys come with `bastion keys add`."""
    if subject in RESERVED_SUBJECTS:
        raise BastionError(
            Code.INVALID, f"the subject {subject} is reserved for what ends leftover processes: choose another."
        )

    async def change() -> None:
        async with opened(cli) as access:
            event = told("person.added", subject, detail={"groups": " ".join(sorted(set(groups)))})
            await access.add_person(subject, frozenset(groups), event)

    asyncio.run(change())
    click.echo(f"added {subject}; now: bastion keys add {subject} < id.pub", err=True)


@people.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")
@click.pass_obj
def list_(cli: Cli, *, as_json: bool) -> None:
    """Name everybody, with their groups."""

    async def read() -> list[dict[str, object]]:
        async with opened(cli) as access:
            locked = await access.locked()
            return [
                {"person": person.subject, "groups": sorted(person.groups), "locked": person.subject in locked}
                async for person in access.people()
            ]

    rows = asyncio.run(read())
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        (Column("person", least=10), Column("groups", least=10, folds=True), Column("state")),
        [(f"{row['person']}", _words(row["groups"]), "locked" if row["locked"] else "") for row in rows],
        empty="There is nobody yet: bastion people add SUBJECT --group GROUP",
    )


@people.command()
@click.argument("subject", type=Name())
@click.pass_obj
def lock(cli: Cli, subject: str) -> None:
    """Refuse a person from now on, also on connections they have open; sessions that run go on."""
    asyncio.run(_set_locked(cli, subject, locked=True))
    click.echo(f"locked {subject}", err=True)


@people.command()
@click.argument("subject", type=Name())
@click.pass_obj
def unlock(cli: Cli, subject: str) -> None:
    """Let a locked person in again."""
    asyncio.run(_set_locked(cli, subject, locked=False))
    click.echo(f"unlocked {subject}", err=True)


@people.command()
@click.argument("subject", type=Name())
@click.pass_obj
def remove(cli: Cli, subject: str) -> None:
    """Remove a person and their keys; sessions that run go on, and the record of what they did stays."""

    async def change() -> None:
        async with opened(cli) as access:
            await access.remove_person(subject, told("person.removed", subject))

    asyncio.run(change())
    click.echo(f"removed {subject}", err=True)


async def _set_locked(cli: Cli, subject: str, *, locked: bool) -> None:
    async with opened(cli) as access:
        event = told("person.locked" if locked else "person.unlocked", subject)
        await access.set_person_locked(subject, event, locked=locked)


def _words(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else ""
