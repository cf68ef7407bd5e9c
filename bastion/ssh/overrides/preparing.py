"""Puts on a connection what it needs beyond stock asyncssh, in the order that is right; called by ssh.connection.

Most of it goes round a method of the connection and calls what it finds there: what comes later is further out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.ssh.overrides.connections import bound_reading, hold_when_full, one_exchange_before_login, tell_of_tries
from bastion.ssh.overrides.fastpath import hasten
from bastion.ssh.overrides.negotiation import prefer_gcm, suit_dropbear

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncssh


@dataclass(frozen=True, slots=True)
class Prepared:
    """A connection with what was put on it."""

    connection: asyncssh.SSHServerConnection
    put_on: frozenset[str]
    stop_waiting: Callable[[], None]

    def let_go(self) -> None:
        """Take it back, so that nothing of ours keeps a connection that is gone: all of it refers to it."""
        self.stop_waiting()
        for name in self.put_on:
            vars(self.connection).pop(name, None)


def prepare(
    connection: asyncssh.SSHServerConnection, *, fast: bool, begins: Callable[[bytes], None], fails: Callable[[], None]
) -> Prepared:
    """Prepare a connection in its first moment.

    fast: take the fast path; only if `differs` finds no difference. begins, fails: see `tell_of_tries`.
    """
    before = set(vars(connection))
    # round data_received:
    if fast:
        hasten(connection)  # takes its place, so it comes before what goes round it
    bound_reading(connection)  # goes round it as it now is: all of the work is timed
    # round _send_kexinit:
    suit_dropbear(connection)  # these two are for the moment in which something is sent
    one_exchange_before_login(connection)
    stop_waiting = prefer_gcm(connection)  # outermost, for it may put that moment off
    # by themselves:
    hold_when_full(connection)
    tell_of_tries(connection, begins=begins, fails=fails)
    return Prepared(connection, frozenset(vars(connection).keys() - before), stop_waiting)
