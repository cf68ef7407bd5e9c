"""One ssh connection: proves who is there, then opens channels; made by ssh.listener for each connection.

What the login says is where to go; who the person is comes from the key alone.
The identity a key proved is kept here and compared when authentication ends:
what asyncssh calls the user name is never trusted for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import asyncssh

from bastion.errors import BastionError
from bastion.model import Action, Credential, Person, Source
from bastion.ssh import overrides, refused
from bastion.ssh.attempts import Attempts
from bastion.ssh.channel import SessionChannel
from bastion.ssh.doorkeeper import TurnedAway
from bastion.ssh.guard import guarded, guarded_async
from bastion.ssh.refused import Cause
from bastion.ssh.sessions import Sessions
from bastion.trip import Refusal, Visitor

if TYPE_CHECKING:
    from bastion.ssh.doorkeeper import Place
    from bastion.ssh.rooms import Rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Who a key proved, for which login."""

    login: str
    person: Person
    credential: Credential


class Connection(asyncssh.SSHServer):
    """The server's end of one connection."""

    def __init__(self, rooms: Rooms, *, hasten: bool) -> None:
        """`hasten`: take the fast path through asyncssh."""
        self._rooms = rooms
        self._hasten = hasten
        self._id = rooms.new_id()
        self._place: Place | None = None
        self._attempts = Attempts(allowed=rooms.max_auth_tries)
        self._proof: Proof | None = None
        self._sessions: Sessions | None = None
        self._stopping: str | None = None

    # --- authentication ---

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Take the connection, or turn it away before anything is done for it."""
        self._conn = conn
        host, port = conn.get_extra_info("peername")[:2]
        self._source = Source(host=host, port=port)
        place = self._rooms.doorkeeper.enter(host)
        if isinstance(place, TurnedAway):
            self._rooms.refusals.note(refused.turned_away(self._rooms.stamp(), self._source, place))
            overrides.turn_away(conn, place.reason)
            return
        self._place = place
        self._prepared = overrides.prepare(conn, fast=self._hasten, begins=self._try_begins, fails=self._try_fails)

    def begin_auth(self, username: str) -> bool:
        """Always ask for proof, and allow one user name for a connection, as OpenSSH does."""
        if self._attempts.login not in {None, username}:
            raise asyncssh.PermissionDenied("the user name may not change within a connection")
        self._attempts.login = username
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are the one way in."""
        return True

    def password_auth_supported(self) -> bool:
        """No passwords."""
        return False

    def kbdint_auth_supported(self) -> bool:
        """No questions."""
        return False

    @guarded_async(answer=False)
    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether somebody has that key. A mere offer asks too: the last answer before success counts."""
        self._proof = None
        credential = Credential(kind="key", id=key.get_fingerprint())
        try:
            person = await self._rooms.identities.person_of(credential)
        except BastionError as error:
            self._rooms.log.error("login.unavailable", error=str(error))
            self._attempts.unavailable = True
            raise asyncssh.DisconnectError(asyncssh.DISC_SERVICE_NOT_AVAILABLE, error.user_message) from error
        if person is None:
            self._attempts.refuse(credential)
            return False
        self._attempts.stands()
        self._proof = Proof(login=username, person=person, credential=credential)
        return True

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """No certificate authority is trusted; asyncssh would let a certificate without principals in as anybody."""
        del username, key
        return False

    def _try_begins(self, method: bytes) -> None:
        self._attempts.begins(method)
        self._stop_trying()

    def _try_fails(self) -> None:
        self._attempts.fails()
        self._stop_trying()

    def _stop_trying(self) -> None:
        if self._attempts.exhausted:
            raise asyncssh.DisconnectError(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many keys were refused; offer one with -i"
            )

    def auth_completed(self) -> None:
        """Know the person, and write the connection down."""
        proof = self._proof
        if proof is None or proof.login != self._conn.get_extra_info("username"):
            self._rooms.log.error("login.identity_changed", source=self._source.host)
            raise asyncssh.PermissionDenied("the identity changed during authentication")
        if self._place is not None:
            self._place.leave(None)
        visitor = Visitor(
            connection=self._id,
            person=proof.person,
            credential=proof.credential,
            source=self._source,
            login=proof.login,
        )
        self._sessions = Sessions(self._rooms, visitor, str(self._conn.get_extra_info("client_version", "")))

    # --- channels ---

    def session_requested(self) -> tuple[overrides.PodChannel, SessionChannel]:
        """A session channel; what is asked on it comes later."""
        sessions = self._sessions
        if sessions is None or self._stopping is not None:
            reason = self._stopping or "not authenticated"
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)
        if overrides.open_channels(self._conn) >= self._rooms.max_channels:
            event = refused.channel(self._rooms.stamp(), sessions.visitor, self._rooms.max_channels)
            self._rooms.refusals.note(event)
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, event.reason)
        return overrides.pod_channel(self._conn), SessionChannel(sessions.begin, sessions.refuse)

    @guarded(answer=False)
    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """Refuse ssh -L, -W and -D."""
        del orig_host, orig_port
        return self._refuse_channel(f"to {dest_host[:253]}:{dest_port}")

    @guarded(answer=False)
    def unix_connection_requested(self, dest_path: str) -> bool:
        """Refuse ssh -L to a socket."""
        return self._refuse_channel(f"to {dest_path[:253]}")

    @guarded(answer=False)
    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        """Refuse ssh -R."""
        return self._refuse_listening(f"from {listen_host[:253]}:{listen_port}")

    @guarded(answer=False)
    def unix_server_requested(self, listen_path: str) -> bool:
        """Refuse ssh -R of a socket."""
        return self._refuse_listening(f"from {listen_path[:253]}")

    @guarded(answer=False)
    def tun_requested(self, unit: int | None) -> bool:
        """Refuse ssh -w."""
        return self._refuse_channel(f"of tunnel {unit}")

    @guarded(answer=False)
    def tap_requested(self, unit: int | None) -> bool:
        """Refuse ssh -w in ethernet mode."""
        return self._refuse_channel(f"of tunnel {unit}")

    def hang_up(self, reason: str) -> None:
        """End every session on this connection and begin no other; for the server's end."""
        self._stopping = reason
        if self._sessions is not None:
            self._sessions.hang_up(reason)

    def close(self) -> None:
        """Close the connection once what was sent on it is gone."""
        self._conn.close()

    @guarded(answer=None)
    def connection_lost(self, exc: Exception | None) -> None:
        """Let go, and write down a login that never came about and a client that fell silent."""
        if self._place is None:
            return
        self._prepared.let_go()
        loss, stamp, event = overrides.loss(exc), self._rooms.stamp(), None
        if loss.cause is Cause.BUG:
            self._rooms.log.warning("connection.bug", source=self._source.host, error=repr(exc))
        if self._sessions is None:
            self._place.leave(refused.ending(loss, self._attempts))
            event = refused.login(stamp, self._id, self._source, self._attempts, loss)
        elif loss.cause is Cause.KEEPALIVE:
            event = refused.unanswered(stamp, self._sessions.visitor)
        if event is not None:
            self._rooms.refusals.note(event)

    def _refuse_channel(self, what: str) -> NoReturn:
        """Refuse a forward that is a channel, with words."""
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, self._refuse_forward(what))

    def _refuse_listening(self, what: str) -> bool:
        """Refuse a forward that would listen here; the protocol has no words for that."""
        self._refuse_forward(what)
        return False

    def _refuse_forward(self, what: str) -> str:
        reason = f"forwarding {what} is not offered"
        if self._sessions is not None:
            self._sessions.refuse(Refusal(action=Action.FORWARD, rule="forwarding", reason=reason))
        return reason
