"""One visit to the console, as its commands see it; made by console.door for each channel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion import trip
from bastion.console import reach, tables
from bastion.console.answers import PIECE
from bastion.events import Output
from bastion.model import Deny, Outcome, Stream
from bastion.trip import Refusal, Stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from bastion.console.reach import Reached
    from bastion.console.tables import Paper
    from bastion.model import Action
    from bastion.policy import Policy
    from bastion.ports import AuditLog, Client, Clock, Looking
    from bastion.session import Trips
    from bastion.trip import Asked, Visitor

_MENU, _HELP = "menu", "help"
"""What no command means, with a terminal and without."""

_EVERYBODY = "everybody"
"""The rule of what takes no role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleRooms:
    """What the console needs; one of these for a whole server.

    impersonating: what a person asks of the cluster is asked in their name, and else in the bastion's own.
    """

    trips: Trips
    looking: Looking
    audit: AuditLog
    policy: Policy
    impersonating: bool
    clock: Clock
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A person on a channel, and what they asked for."""

    rooms: ConsoleRooms
    visitor: Visitor
    asked: Asked
    client: Client

    @property
    def text(self) -> str:
        """What was asked for, as it is written down: the command, or the menu."""
        command = self.asked.command
        return (_MENU if self.asked.pty else _HELP) if command is None else command.decode(errors="backslashreplace")

    @property
    def line(self) -> bytes:
        """The command line; "" is no command."""
        return self.asked.command or b""

    @property
    def paper(self) -> Paper:
        """What is written on."""
        return tables.paper(self.asked.pty)

    async def begin(self, action: Action | None = None, namespace: str = "") -> None:
        """Write down what was asked for, and the rules that allow it; nothing is shown before.

        action: what a role must allow for it, in some namespace if one is asked about; None: it is everybody's.
        Raises BastionError (RECORD_UNAVAILABLE).
        """
        event = trip.event_of(self.visitor, self._stamp(), "console.command", Outcome.SUCCESS)
        person, rules = self.visitor.person, self.rooms.policy
        by = ", ".join(reach.opening(person, action, namespace, rules)) if action else _EVERYBODY
        detail = {"command": self.text, "policy_digest": rules.digest}
        await self.rooms.audit.event(replace(event, action=action or "", rule=by, detail=detail))

    async def refuse(self, action: str, denial: Deny) -> None:
        """Write down a refusal, and tell it."""
        refusal = Refusal(action=action, rule=denial.rule, reason=denial.reason, command=self.asked.command)
        await self.rooms.trips.refuse(self.visitor, refusal)
        self.client.notice(f"denied: {denial.reason}")

    async def say(self, data: bytes) -> None:
        """Show something."""
        for at in range(0, len(data), PIECE):
            await self.client.write(Output(Stream.STDOUT, data[at : at + PIECE]))

    async def reached(self, *actions: Action) -> list[Reached]:
        """Every pod where the person may do one of these, by namespace and name. Raises BastionError (CLUSTER_*).

        It is worked out in a thread: of ten thousand pods it takes most of a second.
        """
        pods = await self.rooms.looking.pods(self.client.waiting)
        person, rules = self.visitor.person, self.rooms.policy
        return await asyncio.to_thread(lambda: list(reach.reached(pods, person, actions, rules)))

    def _stamp(self) -> Stamp:
        clock = self.rooms.clock
        return Stamp(id=self.rooms.new_id(), at=clock.now(), monotonic_s=clock.monotonic())
