"""A session on its way, and what is to be looked at in one, as values; used by session, besides and console."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion.model import ExecRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from bastion.model import Action, Allow, KubeIdentity, Pty, Target, TargetLogin
    from bastion.ports import Client, ExecStream, Recording
    from bastion.records import SessionRecord
    from bastion.trip import Admitted, Asked, Begun, Visitor

    LetIn = Callable[[], Awaitable[Visitor | None]]
    """The person as they are now; None if they may begin nothing, which they were told, and which is recorded."""

A_WHILE_S = 0.1
"""What took longer was waited for: who the person is may have changed meanwhile, and is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Something to be read about a target, such as its log, without starting anything in it.

    command: the line that asked for it, as typed; pty: of the channel it is shown on.
    open: the stream of it, for a target that was decided on and as the person; nothing is ever sent to it.
    """

    where: TargetLogin
    action: Action
    command: bytes
    pty: Pty | None
    open: Callable[[Target, KubeIdentity], AbstractAsyncContextManager[ExecStream]]


@dataclass(slots=True, kw_only=True)
class Terms:
    """What holds for a session: of all that let it in, the strictest.

    where: the container that its process runs in. lingering: what it leaves on purpose may go on.
    """

    where: Target
    lingering: bool

    def enter(self, where: Target, allow: Allow) -> None:
        """Take in what lets the person into another container."""
        self.where, self.lingering = where, self.lingering and allow.lingering


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A session whose rows are committed, and the person at its other end.

    recording: what is kept of it. terms: what holds for it, as far as it has gone.
    let_in: asks for the person anew. look: what is to be read, None where a process is to be started.
    """

    begun: Begun
    asked: Asked
    admitted: Admitted
    visitor: Visitor
    client: Client
    recording: Recording
    terms: Terms
    let_in: LetIn
    look: Look | None = None

    @property
    def session(self) -> SessionRecord:
        """The session's row."""
        return self.begun.session

    @property
    def identity(self) -> KubeIdentity:
        """Who calls are made as, with the session's id."""
        return replace(self.admitted.identity, session=self.session.id)

    @property
    def request(self) -> ExecRequest:
        """What is to be started."""
        return ExecRequest(command=self.asked.command, pty=self.asked.pty, env=self.asked.env, marker=self.session.id)
