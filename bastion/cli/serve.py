"""`bastion serve`: the production program; called by cli.main."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from bastion.cli.clusterflags import cluster_flags, with_cluster

if TYPE_CHECKING:
    from bastion.cli.main import Cli


@click.command()
@cluster_flags
@click.pass_obj
def serve(cli: Cli, kubeconfig: str | None, context: str | None) -> None:
    """Let people in by ssh, until SIGTERM or SIGINT."""
    settings = with_cluster(cli.settings, kubeconfig, context)
    from bastion import app, logs  # noqa: PLC0415 - a second of imports that no other command needs

    logs.configure(settings.log)
    asyncio.run(app.serve(settings, lambda _listener: None))
