"""`bastion keys`: the public keys that people log in with, each change committed with its event; called by cli.main."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, BinaryIO

import click

from bastion.cli import output
from bastion.cli.accounts import Name, opened, told
from bastion.cli.output import Column
from bastion.model import Credential

if TYPE_CHECKING:
    from bastion.cli.main import Cli

_MAX_BYTES = 64 * 1024


@click.group()
def keys() -> None:
    """The public keys that people log in with."""


@keys.command()
@click.argument("subject", type=Name())
@click.option("--file", type=click.File("rb"), default="-", help="The .pub file; without it, standard input.")
@click.pass_obj
def add(cli: Cli, subject: str, file: BinaryIO) -> None:
    """Add a person's public key: bastion keys add alice < id.pub."""
    from bastion.identity import keys as parser  # noqa: PLC0415 - slow to import, and `--help` does without

    if file.isatty():
        click.echo("Paste the public key, then Ctrl-D:", err=True)
    credential, comment = parser.parse(file.read(_MAX_BYTES).decode(errors="replace"))

    async def change() -> None:
        async with opened(cli) as access:
            event = told("key.added", subject, credential=credential.id, detail={"comment": comment})
            await access.add_key(subject, credential, comment, event)

    asyncio.run(change())
    click.echo(f"added {credential.id} for {subject}", err=True)


@keys.command(name="list")
@click.option("--person", type=Name(), help="Only this person's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")
@click.pass_obj
def list_(cli: Cli, person: str | None, *, as_json: bool) -> None:
    """List the keys, by person."""

    async def read() -> list[dict[str, object]]:
        async with opened(cli) as access:
            locked = await access.locked()
            return [
                {
                    "person": owner.subject,
                    "credential": credential.id,
                    "comment": comment,
                    "locked": bool({owner.subject, credential.id} & locked),
                }
                async for owner, credential, comment in access.keys()  # noqa: SIM118 - a listing, not a dict
                if person in (None, owner.subject)
            ]

    rows = asyncio.run(read())
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        (
            Column("person", least=7),
            Column("fingerprint", folds=True),
            Column("comment", least=7, rank=1),
            Column("state"),
        ),
        [
            (f"{row['person']}", f"{row['credential']}", f"{row['comment']}", "locked" if row["locked"] else "")
            for row in rows
        ],
        empty="There is no key: bastion keys add SUBJECT < id.pub",
    )


@keys.command()
@click.argument("fingerprint", type=Name())
@click.pass_obj
def remove(cli: Cli, fingerprint: str) -> None:
    """Remove a key by its fingerprint, as `bastion keys list` prints it."""
    credential = Credential(kind="key", id=fingerprint)

    async def change() -> None:
        async with opened(cli) as access:
            listed = access.keys()
            owners = {key.id: person.subject async for person, key, _ in listed}
            event = told("key.removed", owners.get(fingerprint, ""), credential=fingerprint)
            await access.remove_key(credential, event)

    asyncio.run(change())
    click.echo(f"removed {fingerprint}", err=True)
