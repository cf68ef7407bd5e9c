"""Where a channel leads: into a pod, or to the bastion's own console; built by app for ssh."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from bastion import lifecycle, login, trip
from bastion.console import choosing, commands, podstatus, reach
from bastion.console.choices import Choice, Left
from bastion.console.choosing import Ahead
from bastion.console.visit import Visit
from bastion.errors import BastionError
from bastion.model import RESERVED_SUBJECTS, Action, ConsoleLogin, Deny
from bastion.podfacts import OVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bastion.console.choosing import Chosen
    from bastion.console.reach import Reached
    from bastion.console.visit import ConsoleRooms
    from bastion.model import Pty
    from bastion.ports import Client
    from bastion.trip import Asked, Visitor
    from bastion.work import LetIn


class Console:
    """The way of every channel."""

    def __init__(self, rooms: ConsoleRooms) -> None:
        self._rooms = rooms

    async def run(self, visitor: Visitor, asked: Asked, client: Client, let_in: LetIn) -> None:
        """Do what was asked for and end the channel with an exit status, whatever happens. Never raises.

        let_in: asks for the person anew; for what begins only after a while, at a menu or waiting for a pod.
        """
        if not _is_console(visitor.login):
            await self._rooms.trips.run(visitor, asked, client, let_in)
            return
        visit = Visit(rooms=self._rooms, visitor=visitor, asked=asked, client=client)
        if asked.command is None and asked.pty is not None:
            await self._browse(visit, asked.pty, let_in)
        else:
            await self._rooms.trips.guarded(visitor, commands.action_of(visit.line), client, _command(visit))

    async def _browse(self, visit: Visit, pty: Pty, let_in: LetIn) -> None:
        """The menu, and then the session that was chosen on it, which is one like any other."""
        try:
            chosen = await _menu(visit, pty)
        except Exception as error:  # noqa: BLE001 - whatever it was, it ends the channel as every failure does
            await self._rooms.trips.guarded(visit.visitor, Action.SHELL, visit.client, _failed(error))
            return
        if isinstance(chosen, Left):
            visit.client.exit(chosen.status)
            return
        visitor = await let_in()
        if visitor is None:
            return
        visit.client.notice(str(chosen.login))  # the menu is gone, and it should still be said where this leads
        await self._rooms.trips.run(
            replace(visitor, login=str(chosen.login)),
            replace(visit.asked, pty=replace(pty, size=chosen.size)),
            Ahead(visit.client, chosen.typed),
            let_in,
        )


def _is_console(text: str) -> bool:
    try:
        return isinstance(login.parse(text), ConsoleLogin)
    except BastionError:  # said and written down where a trip begins
        return False


async def _command(visit: Visit) -> int:
    """Do a command; returns its exit status."""
    try:
        if await _kept_out(visit, commands.action_of(visit.line)):
            return lifecycle.DENIED
        asked = commands.read(visit.line)
    except BastionError as error:
        refusal = replace(trip.refusal_of(visit.asked, error), action=commands.action_of(visit.line))
        await visit.rooms.trips.refuse(visit.visitor, refusal)
        raise
    return await asked.run(visit)


async def _menu(visit: Visit, pty: Pty) -> Chosen | Left:
    """Let the person choose among the places where they may open a shell."""
    if await _kept_out(visit, Action.SHELL):
        return Left(lifecycle.DENIED)
    denial = reach.anywhere(visit.visitor.person, Action.SHELL, visit.rooms.policy)
    if denial is not None:
        await visit.refuse(Action.SHELL, denial)
        return Left(lifecycle.DENIED)
    await visit.begin(Action.SHELL)
    pods = await visit.reached(Action.SHELL)
    choices = await asyncio.to_thread(lambda: list(_choices(pods)))
    if not choices:
        visit.client.notice("no pod where you may open a shell is running now")
        return Left(0)
    return await choosing.choose(visit.client, choices, pty)


def _choices(pods: Iterable[Reached]) -> Iterator[Choice]:
    """Every container that runs."""
    for one in pods:
        for container in one.containers:
            # A pod that its node gave up (DeadlineExceeded) may say for ever that its containers run.
            if container.running and not one.pod.deleting and one.pod.phase not in OVER:
                where = one.login(container)
                yield Choice(login=where, text=str(where), note=podstatus.status(one.pod))


async def _kept_out(visit: Visit, action: str) -> bool:
    """Whether the person has a name that nobody may have; it is refused then."""
    subject = visit.visitor.person.subject
    if subject not in RESERVED_SUBJECTS:
        return False
    await visit.refuse(action, Deny(rule="reserved-subject", reason=f"nobody may be called {subject}"))
    return True


async def _failed(error: Exception) -> int:
    raise error
