"""`bastion db upgrade|check`: the tables of the database; called by cli.main."""

from __future__ import annotations

import asyncio

import click


@click.group()
def db() -> None:
    """Make the database's tables, or check them (BASTION_DATABASE_URL)."""


@db.command()
@click.pass_context
def upgrade(ctx: click.Context) -> None:
    """Bring the database to the tables of this bastion; a missing SQLite file is created."""
    from bastion.store import migrate, schema  # noqa: PLC0415 - Alembic takes its time, and only these commands need it

    asyncio.run(migrate.upgrade(ctx.obj.settings.database.url))
    click.echo(f"The database is at revision {schema.REVISION}.")


@db.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Say whether the database has exactly the tables of this bastion."""
    from bastion.store import migrate, schema  # noqa: PLC0415 - as above

    asyncio.run(migrate.check(ctx.obj.settings.database.url))
    click.echo(f"The database is at revision {schema.REVISION} and has the tables of this bastion.")
