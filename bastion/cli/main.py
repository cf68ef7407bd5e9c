"""The `bastion` command: finds the subcommand, hands it the settings, turns failures into a line; started by people.

Exit statuses are `EXIT_OF` for our own errors, 2 for a wrong command line, 130
for Ctrl-C and 70 for a bug. A traceback is shown to those who ask for one.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastion.errors import BastionError, Code
from bastion.printable import line

if TYPE_CHECKING:
    from bastion.settings import Settings

DENIED = 254
INTERRUPTED = 130
BUG = 70  # EX_SOFTWARE of sysexits.h
USAGE = 2

EXIT_OF: dict[Code, int] = {
    Code.LOGIN_INVALID: USAGE,
    Code.INVALID: USAGE,
    Code.LOCKED_OUT: DENIED,
    Code.CLUSTER_DENIED: DENIED,
    Code.TARGET_MISSING: 1,
    Code.TARGET_AMBIGUOUS: 1,
    Code.TARGET_NOT_RUNNING: 1,
    Code.CLUSTER_UNAVAILABLE: 1,
    Code.NO_SHELL: 1,
    Code.NOT_STARTED: 1,
    Code.STREAM_BROKEN: 1,
    Code.RECORD_UNAVAILABLE: 1,
    Code.NOT_FOUND: 1,
    Code.CONFLICT: 1,
}
"""The exit status of a command that fails with a code."""

_WRITING = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What writing to an output that is open fails with."""

_COMMANDS = {
    "serve": "Let people in by ssh.",
    "demo": "Run everything on this machine, with an embedded cluster.",
    "people": "Who may log in.",
    "keys": "The public keys they log in with.",
    "policy": "Check who may do what where.",
    "audit": "Find and replay what happened.",
    "db": "Make and check the tables of the record.",
    "doctor": "Look after all that is needed, and say what to do.",
}
"""The subcommands, each in a module of its name, and their line in `--help`, which imports none of them."""


@dataclass(frozen=True, kw_only=True)
class Cli:
    """What every subcommand is given as click's `obj`. config: the settings file, if one was named."""

    config: Path | None

    @cached_property
    def settings(self) -> Settings:
        """The settings, read when they are first asked for. Raises BastionError(INVALID)."""
        from bastion import settings  # noqa: PLC0415 - slow to import, and `--help` does without

        return settings.load(self.config)


class _Lazy(click.Group):
    """A group whose subcommands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"bastion.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bastion")
@click.option(
    "--config",
    envvar="BASTION_CONFIG",
    type=click.Path(path_type=Path),
    help="Settings file (YAML); BASTION_<GROUP>_<NAME> in the environment wins over it.",
)
@click.pass_context
def bastion(ctx: click.Context, config: Path | None) -> None:
    """An ssh way into Kubernetes pods, with a record an auditor can trust."""
    ctx.obj = Cli(config=config)


def main() -> int:
    """Run the command line; the exit status of the process."""
    if sys.__stdout__ is None:  # the next file to be opened, such as the database, would stand in its place
        click.echo("bastion: standard output is closed: send it to /dev/null if it is not wanted", err=True)
        return USAGE
    try:
        status = bastion.main(standalone_mode=False)
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - nothing may reach the user as a traceback
        return _failed(error)
    return status if isinstance(status, int) else 0


def _failed(error: Exception) -> int:
    """Say what went wrong in one line on stderr, and return the exit status."""
    match error:
        case BastionError():
            click.echo(f"bastion: {_words(error)}", err=True)
            return EXIT_OF[error.code]
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return USAGE
        case click.ClickException():
            error.show()
            return error.exit_code
        case click.Abort():  # what click makes of Ctrl-C
            return INTERRUPTED
        case OSError(filename=None, errno=number) if number in _WRITING:
            # What is still buffered goes nowhere, or Python complains at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if number != errno.EPIPE:  # whoever read our output has enough
                click.echo(f"bastion: the output cannot be written: {error.strerror}", err=True)
            return 1
        case _:
            return _bug(error)


def _words(error: BastionError) -> str:
    """The error's sentence. Who runs commands is an operator, and is told what the database said."""
    if error.code is Code.RECORD_UNAVAILABLE and error.detail:
        return f"the database cannot be used: {line(' '.join(error.detail.split()))}"
    return error.user_message


def _bug(error: Exception) -> int:
    if os.environ.get("BASTION_LOG_LEVEL", "").lower() == "debug":
        traceback.print_exception(error)
    else:
        click.echo(
            f"bastion: this is a bug ({type(error).__name__}). Run it again with BASTION_LOG_LEVEL=debug and report "
            "what it prints.",
            err=True,
        )
    return BUG
