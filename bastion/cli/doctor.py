"""`bastion doctor`: is all there that the bastion needs, and which rights is it to be given; called by cli.main."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastion.cli.clusterflags import cluster_flags, with_cluster
from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bastion.cli.doctor_check import Check
    from bastion.cli.main import Cli
    from bastion.policy import Policy
    from bastion.settings import KubernetesSettings, Settings

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL, re.ASCII)
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


def _pair(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, str] | None:
    """NAMESPACE/NAME, in names that Kubernetes allows (RFC 1123)."""
    if value is None:
        return None
    namespace, _, name = value.partition("/")
    if not _NAMESPACE.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise click.BadParameter("it must be NAMESPACE/NAME", param=param)
    return namespace, name


def _namespaces(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _NAMESPACE.fullmatch(value):
            raise click.BadParameter(f"{value!r} cannot be a namespace's name", param=param)
    return values


@click.command()
@cluster_flags
@click.option("--mode", type=click.Choice(["impersonate", "serviceaccount"]), help="Wins over the settings.")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAMESPACE",
    callback=_namespaces,
    help="Look into these namespaces only; wins over the settings.",
)
@click.option("--policy", type=click.Path(path_type=Path), help="The policy file; wins over the settings.")
@click.option("--pod", metavar="NAMESPACE/NAME", callback=_pair, help="A running pod, to see how exec works there.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: check, outcome, message, advice.")
@click.option("--rbac", is_flag=True, help="Print the rights that the policy needs, as YAML, and ask no cluster.")
@click.option(
    "--account",
    metavar="NAMESPACE/NAME",
    default="bastion/bastion",
    show_default=True,
    callback=_pair,
    help="The bastion's ServiceAccount; no pattern of the policy reaches its namespace.",
)
@click.pass_context
def doctor(  # noqa: PLR0913, PLR0917 - one for each option
    ctx: click.Context,
    kubeconfig: str | None,
    context: str | None,
    mode: str | None,
    namespaces: tuple[str, ...],
    policy: Path | None,
    pod: tuple[str, str] | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
    rbac: bool,  # noqa: FBT001 - as above
    account: tuple[str, str],
) -> None:
    """Look after everything that the bastion needs, and say what to do.

    The exit status is 1 if a check failed.
    """
    if rbac and (as_json or pod):
        raise click.UsageError("--rbac prints YAML and asks no cluster: leave --json and --pod out")
    cli: Cli = ctx.obj
    flags = {"mode": mode, "namespaces": ",".join(namespaces)}
    settings = with_cluster(cli.settings, kubeconfig, context)
    kubernetes = settings.kubernetes.model_copy(update={name: value for name, value in flags.items() if value})
    policy = policy or settings.policy.file
    if rbac:
        _print_rights(kubernetes, policy, account)
        return
    from bastion import logs  # noqa: PLC0415 - slow to import, and `--help` does without
    from bastion.cli import doctor_check  # noqa: PLC0415 - as above

    logs.configure(settings.log)
    checks = _checks(settings.model_copy(update={"kubernetes": kubernetes}), policy, account, pod)
    if not asyncio.run(doctor_check.show(checks, as_json=as_json)):
        ctx.exit(1)


def _print_rights(kubernetes: KubernetesSettings, path: Path | None, account: tuple[str, str]) -> None:
    from bastion import policyfile  # noqa: PLC0415 - as above
    from bastion.pods import manifests, rights  # noqa: PLC0415 - as above
    from bastion.settings import names_in  # noqa: PLC0415 - as above

    if path is None:
        raise BastionError(Code.INVALID, "which rights are needed follows from the policy: name its file with --policy")
    policy, namespaces = _closed(policyfile.load(path), account), names_in(kubernetes.namespaces)
    grants = rights.needed(kubernetes.mode, policy, namespaces, account=account[1])
    click.echo(manifests.manifests(grants, account, rights.remarks(kubernetes.mode, policy, namespaces)), nl=False)


def _closed(policy: Policy, account: tuple[str, str]) -> Policy:
    """The policy as the bastion has it: no pattern reaches its own namespace."""
    return replace(policy, protected=policy.protected | {account[0]})


async def _checks(
    settings: Settings, path: Path | None, account: tuple[str, str], pod: tuple[str, str] | None
) -> AsyncIterator[Check]:
    """Every check; none keeps another from being made."""
    from bastion.cli import doctor_cluster, doctor_local  # noqa: PLC0415 - as above
    from bastion.pods import rights  # noqa: PLC0415 - as above
    from bastion.settings import names_in  # noqa: PLC0415 - as above

    said, policy = doctor_local.policy_check(path)
    needed = None
    if policy is not None:
        mode, namespaces = settings.kubernetes.mode, names_in(settings.kubernetes.namespaces)
        needed = rights.needed(mode, _closed(policy, account), namespaces, account=account[1])
    async for check in doctor_cluster.cluster_checks(settings.kubernetes, needed, pod):
        yield check
    async for check in doctor_local.database_checks(settings.database.url):
        yield check
    yield doctor_local.host_key_check(settings.ssh.host_key)
    yield said
