"""What one person does on one connection: the login written down first, each session allowed anew; kept by connection.

A connection may stay open for days, with new sessions on it (ControlMaster). So who the person is now is
asked again for each: one who was locked or removed begins no more, and one whose groups changed has those
they have now. What runs already goes on.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bastion import lifecycle
from bastion.errors import BastionError, Code
from bastion.model import Outcome
from bastion.records import ConnectionRecord
from bastion.trip import Refusal, Visitor, event_of, refusal_of

if TYPE_CHECKING:
    from bastion.ssh.channel import SessionChannel
    from bastion.ssh.rooms import Rooms
    from bastion.trip import Asked

_NOBODYS = "the key of this connection lets nobody in any more: it, or who had it, was locked or removed"
_UNWRITTEN = "your login could not be written down"
_ANOTHERS = "the key of this connection belongs to somebody else now: connect again"


class Sessions:
    """The sessions of one connection."""

    def __init__(self, rooms: Rooms, visitor: Visitor, client_version: str) -> None:
        """Write the login down; what is asked for meanwhile waits for that."""
        self._rooms = rooms
        self._visitor = visitor
        self._login = rooms.stamp()
        self._client_version = client_version
        self._writing = asyncio.Lock()
        self._tried = 0  # how often it was tried to write the login down
        self._unrecorded: BastionError | None = BastionError(Code.RECORD_UNAVAILABLE, _UNWRITTEN)
        self._stopping: str | None = None
        self._channels: set[SessionChannel] = set()
        rooms.start(self._write_down_first(), f"login-{visitor.connection}")

    @property
    def visitor(self) -> Visitor:
        """The person, as they were when they logged in."""
        return self._visitor

    def begin(self, channel: SessionChannel, asked: Asked) -> None:
        """Do what was asked for on a channel."""
        self._channels.add(channel)
        if self._stopping is not None:
            channel.hang_up(self._stopping)
        self._rooms.start(self._session(channel, asked), f"trip-{self._visitor.connection}")

    def refuse(self, refusal: Refusal) -> None:
        """Write down what was refused."""
        self._rooms.start(self._rooms.trips.refuse(self._visitor, refusal), f"refusal-{self._visitor.connection}")

    def hang_up(self, reason: str) -> None:
        """End every session; for the server's end."""
        self._stopping = reason
        for channel in list(self._channels):
            channel.hang_up(reason)

    async def _write_down_first(self) -> None:
        """Write the login down, unless it is; who asks for a session tries again what failed before."""
        visitor, log, before = self._visitor, self._rooms.log, self._tried
        async with self._writing:
            if self._unrecorded is None or self._tried > before:
                return
            try:
                await self._write_down()
                self._unrecorded = None
            except BastionError as error:
                log.error(
                    "login.unrecorded", person=visitor.person.subject, source=visitor.source.host, error=str(error)
                )
                self._unrecorded = error
            except Exception:
                log.exception("login.bug")
                self._unrecorded = BastionError(Code.RECORD_UNAVAILABLE, _UNWRITTEN)
            self._tried += 1

    async def _write_down(self) -> None:
        visitor, stamp = self._visitor, self._login
        connection = ConnectionRecord(
            id=visitor.connection,
            person=visitor.person.subject,
            credential=visitor.credential,
            source=visitor.source,
            client_version=self._client_version,
            opened_at=stamp.at,
        )
        accepted = event_of(visitor, stamp, "login.accepted", Outcome.SUCCESS)
        # Together, so that they share a commit.
        await asyncio.gather(self._rooms.audit.open_connection(connection), self._rooms.audit.event(accepted))

    async def _session(self, channel: SessionChannel, asked: Asked) -> None:
        try:
            visitor = await self._let_in(channel, asked)
            if visitor is not None:
                await self._rooms.console.run(visitor, asked, channel, partial(self._let_in, channel, asked))
        finally:
            self._channels.discard(channel)

    async def _let_in(self, channel: SessionChannel, asked: Asked) -> Visitor | None:
        """The person as they are now; None if they may begin nothing, which they were told, and which is recorded."""
        standing = await self._standing(asked)
        if isinstance(standing, Visitor):
            return standing
        channel.notice(standing.reason)
        channel.exit(lifecycle.DENIED)
        await self._rooms.trips.refuse(self._visitor, standing)
        return None

    async def _standing(self, asked: Asked) -> Visitor | Refusal:
        """The person as they are now, or why they begin nothing: also where that, or the login, cannot be known."""
        visitor = self._visitor
        await self._write_down_first()
        if self._unrecorded is not None:
            return refusal_of(asked, self._unrecorded)
        try:
            person = await self._rooms.identities.person_of(visitor.credential)
        except BastionError as error:
            self._rooms.log.error("session.unavailable", person=visitor.person.subject, error=str(error))
            return refusal_of(asked, error)
        except Exception:
            self._rooms.log.exception("session.bug")
            return refusal_of(asked, BastionError(Code.RECORD_UNAVAILABLE, "who you are could not be looked up"))
        if person is None:
            return _refusal(asked, "unknown-credential", _NOBODYS)
        if person.subject != visitor.person.subject:
            return _refusal(asked, "other-person", _ANOTHERS)
        return replace(visitor, person=person)


def _refusal(asked: Asked, rule: str, reason: str) -> Refusal:
    return Refusal(action=asked.action, rule=rule, reason=reason, command=asked.command)
