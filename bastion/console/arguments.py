"""Reading the words of a console command; used by console.commands.

argparse reads them, with what it would print or exit with taken away: a mistake is a BastionError, help is a string.
"""

from __future__ import annotations

import argparse
import re
import shlex
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from bastion import login
from bastion.console import quantities, selectors
from bastion.errors import BastionError, Code
from bastion.model import ConsoleLogin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bastion.model import TargetLogin

_WIDTH = 78
_HELP_FROM = 32
"""Characters of a line of help, and of what stands left of the explanations."""

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_LARGEST = 2**31 - 1
_SHOWN = 80
_SHOWN_OF_MISTAKE = 300

LONGEST = 4096
"""Bytes of a command. The longest that makes sense is a selector; reading one takes time that others wait for."""


class Parser(argparse.ArgumentParser):
    """A parser that raises BastionError (INVALID) and never prints or exits."""

    def __init__(self, name: str, summary: str) -> None:
        self.name = name
        super().__init__(
            prog=f"ssh BASTION {name}",
            description=f"{summary[0].upper()}{summary[1:]}.",
            add_help=False,
            allow_abbrev=False,
            formatter_class=partial(argparse.HelpFormatter, width=_WIDTH, max_help_position=_HELP_FROM),
        )

    def error(self, message: str) -> NoReturn:
        """A mistake in the words."""
        raise BastionError(
            Code.INVALID, f"{self.name}: {message[:_SHOWN_OF_MISTAKE]}; `help {self.name}` says how it is used"
        )


def words(command: bytes) -> list[str]:
    """A command as words, split as a shell would. Raises BastionError (INVALID)."""
    if len(command) > LONGEST:
        raise BastionError(Code.INVALID, f"this command is longer than {LONGEST} bytes")
    try:
        return shlex.split(command.decode())
    except ValueError as error:  # quotes that do not end, or bytes that are not UTF-8
        raise BastionError(Code.INVALID, f"this command cannot be read: {error}") from error


def target(command: str, text: str) -> TargetLogin:
    """A POD.NAMESPACE[+CONTAINER], or a workload's as in a login. Raises BastionError (INVALID) in a command's name."""
    try:
        where = login.parse(text) if "." in text.partition("+")[0] else ConsoleLogin(name=text)
    except BastionError as error:
        raise BastionError(Code.INVALID, f"{command}: {error.user_message}") from error
    if isinstance(where, ConsoleLogin):
        raise BastionError(
            Code.INVALID, f"{command}: {text[:_SHOWN]!r} names no pod: write POD.NAMESPACE, for example web.shop"
        )
    return where


def namespace(text: str) -> str:
    """A namespace's name."""
    if not _NAMESPACE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:_SHOWN]!r} cannot be the name of a namespace")
    return text


def count(text: str) -> int:
    """A number of lines."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST)) and int(text) <= _LARGEST):
        raise argparse.ArgumentTypeError(f"{text[:_SHOWN]!r} is not a number of lines")
    return int(text)


def duration(text: str) -> int:
    """A length of time, in seconds."""
    with _named():
        return quantities.seconds(text)


def selector(text: str) -> selectors.Selector:
    """A label selector."""
    with _named():
        return selectors.parse(text)


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether they ask how a command is used, whatever else they say."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "-h" in options or "--help" in options


@contextmanager
def _named() -> Iterator[None]:
    """Failures as argparse takes them, which names the option too."""
    try:
        yield
    except BastionError as error:
        raise argparse.ArgumentTypeError(error.user_message) from error
