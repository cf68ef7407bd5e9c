"""`bastion serve`: the production program; called by cli.main."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bastion.cli.main import Cli


@click.command()
@click.pass_obj
def serve(cli: Cli) -> None:
    """Let people in by ssh, until SIGTERM or SIGINT."""
    settings = cli.settings
    from bastion import app, logs  # noqa: PLC0415 - a second of imports that no other command needs

    logs.configure(settings.log)
    asyncio.run(app.serve(settings, lambda _listener: None))
