"""Names, the open store and the event of a change, for the commands about accounts; used by cli.people and cli.keys."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from bastion import system
from bastion.cli import output
from bastion.model import Outcome
from bastion.records import AuditEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bastion.cli.main import Cli
    from bastion.store.access import Access

_NAME = re.compile(r"[!-~]{1,128}", re.ASCII)


class Name(click.ParamType[str]):
    """A subject or a group: 1 to 128 printable ASCII characters, no spaces."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value as it is, if it can be a name."""
        if not _NAME.fullmatch(value):
            self.fail("a subject or group is 1 to 128 printable ASCII characters without spaces", param, ctx)
        return value


@asynccontextmanager
async def opened(cli: Cli) -> AsyncIterator[Access]:
    """The people and their keys in the database of the settings."""
    from bastion.store import open_store  # noqa: PLC0415 - slow to import, and `--help` does without

    async with open_store(
        cli.settings.database.url, name=output.actor(), clock=system.SystemClock(), new_id=system.new_id
    ) as store:
        yield store.access


def told(
    kind: str, person: str, *, credential: str = "", detail: dict[str, str | int | bool] | None = None
) -> AuditEvent:
    """The event of a change that this command makes; kind is such as "person.added"."""
    return AuditEvent(
        id=system.new_id(),
        at=output.now(),
        type=kind,
        outcome=Outcome.SUCCESS,
        actor=output.actor(),
        person=person,
        credential=credential,
        detail=detail or {},
    )
