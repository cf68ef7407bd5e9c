"""`bastion policy check`: reads a policy file as the bastion does and says what it gives; called by cli.main."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastion.cli import output
from bastion.cli.output import Column
from bastion.model import Action

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bastion.policy import Policy, Role, Rule


@click.group()
def policy() -> None:
    """Check who may do what where."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Read a policy file; print its roles, and warn of what may surprise."""
    from bastion import policyfile  # noqa: PLC0415 - slow to import, and `--help` does without

    read = policyfile.load(file)
    output.print_table(
        [Column(name, least=7, folds=True) for name in ("role", "rule", "namespaces", "pods", "containers", "actions")],
        [_row(role, rule) for role in read.roles for rule in (*role.allow, *role.deny)],
        empty="The policy has no rules: nobody may do anything.",
    )
    for line in _debugging(read):
        click.echo(line, err=True)
    for warning in _warnings(read):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{file} is a policy; its digest is {read.digest}", err=True)


def _row(role: Role, rule: Rule) -> tuple[str, ...]:
    return (
        role.name,
        rule.name.rpartition("/")[2],
        " ".join(rule.namespaces),
        " ".join(f"{key}={value}" for key, value in rule.labels.items()) or "*",
        " ".join(rule.containers),
        " ".join(action for action in Action if action in rule.actions),
    )


def _debugging(read: Policy) -> Iterator[str]:
    """What debug containers are made of, a line for each role that says so."""
    for role in read.roles:
        if role.debug_images:
            user = "" if role.debug_user is None else f", as user {role.debug_user} where the pod does not say which"
            yield f"role {role.name} makes debug containers of {role.debug_images[0]}{user}"


def _warnings(read: Policy) -> Iterator[str]:
    bound = {binding.role for binding in read.bindings}
    for role in read.roles:
        if any(rule.actions & {Action.SHELL, Action.EXEC} for rule in role.allow):
            yield f"role {role.name} allows shell or exec, and with it anything inside those containers"
        if not role.debug_images and any(Action.DEBUG in rule.actions for rule in role.allow):
            yield f"role {role.name} allows debug and names no image, so it makes no debug container (debug: images)"
        if role.record.input:
            yield f"role {role.name} records what people type, except while echo is off"
        if role.name not in bound:
            yield f"role {role.name} is bound to nobody"
