"""The flags that say which cluster, and the settings with them; used by cli.serve and cli.doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from bastion.settings import Settings


def cluster_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --kubeconfig and --context to a command."""
    kubeconfig = click.option("--kubeconfig", metavar="FILE", help="The one kubeconfig to use; wins over the settings.")
    context = click.option("--context", metavar="NAME", help="Which context of it; wins over the settings.")
    return kubeconfig(context(command))


def with_cluster(settings: Settings, kubeconfig: str | None, context: str | None) -> Settings:
    """The settings, and over them what the flags say."""
    flags = {"kubeconfig": kubeconfig, "context": context}
    said = {name: value for name, value in flags.items() if value is not None}
    return settings.model_copy(update={"kubernetes": settings.kubernetes.model_copy(update=said)})
