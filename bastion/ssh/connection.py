"""One ssh connection: proves who is there, then opens channels; made by ssh.listener for each connection.

What the login says is where to go; who the person is comes from the key alone.
The identity a key proved is kept here and compared when authentication ends:
what asyncssh calls the user name is never trusted for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import asyncssh

from bastion import lifecycle
from bastion.errors import BastionError, Code
from bastion.model import Action, ConnectionRecord, Credential, Outcome, Person, Source
from bastion.ssh import overrides, refused
from bastion.ssh.attempts import Attempts
from bastion.ssh.channel import SessionChannel
from bastion.ssh.doorkeeper import TurnedAway
from bastion.ssh.guard import guarded, guarded_async
from bastion.ssh.refused import Cause
from bastion.trip import Refusal, Stamp, Visitor, event_of, refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from structlog.typing import FilteringBoundLogger

    from bastion.console.door import Console
    from bastion.ports import AuditLog, Clock, Identities
    from bastion.refusals import Refusals
    from bastion.session import Trips
    from bastion.ssh.doorkeeper import Doorkeeper, Place
    from bastion.trip import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What every connection needs; one of these for a whole server.

    start: runs a coroutine by name, so that nothing is lost or left behind.
    """

    identities: Identities
    audit: AuditLog
    refusals: Refusals
    trips: Trips
    console: Console
    clock: Clock
    new_id: Callable[[], str]
    log: FilteringBoundLogger
    start: Callable[[Coroutine[Any, Any, None], str], None]
    doorkeeper: Doorkeeper
    max_auth_tries: int
    max_channels: int


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
        self._visitor: Visitor | None = None
        self._written = asyncio.Event()
        self._unrecorded: BastionError | None = None
        self._stopping: str | None = None
        self._channels: set[SessionChannel] = set()

    # --- authentication ---

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Take the connection, or turn it away before anything is done for it."""
        self._conn = conn
        host, port = conn.get_extra_info("peername")[:2]
        self._source = Source(host=host, port=port)
        place = self._rooms.doorkeeper.enter(host)
        if isinstance(place, TurnedAway):
            self._rooms.refusals.note(refused.turned_away(self._stamp(), self._source, place))
            overrides.turn_away(conn, place.reason)
            return
        self._place = place
        overrides.hold_when_full(conn)
        overrides.suit_dropbear(conn)
        if self._hasten:
            overrides.hasten(conn)
        overrides.one_exchange_before_login(conn)
        overrides.prefer_gcm(conn)
        overrides.bound_reading(conn)
        overrides.tell_of_tries(conn, begins=self._try_begins, fails=self._try_fails)

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
        """Know the person, and write the connection down; what is asked for meanwhile waits for that."""
        proof = self._proof
        if proof is None or proof.login != self._conn.get_extra_info("username"):
            self._rooms.log.error("login.identity_changed", source=self._source.host)
            raise asyncssh.PermissionDenied("the identity changed during authentication")
        if self._place is not None:
            self._place.leave(None)
        self._visitor = Visitor(
            connection=self._id,
            person=proof.person,
            credential=proof.credential,
            source=self._source,
            login=proof.login,
        )
        self._rooms.start(self._write_down_first(self._visitor), f"login-{self._id}")

    async def _write_down_first(self, visitor: Visitor) -> None:
        try:
            await self._write_down(visitor)
        except BastionError as error:
            self._rooms.log.error(
                "login.unrecorded", person=visitor.person.subject, source=visitor.source.host, error=str(error)
            )
            self._unrecorded = error
        except Exception:
            self._rooms.log.exception("login.bug")
            self._unrecorded = BastionError(Code.RECORD_UNAVAILABLE, "your login could not be written down")
        self._written.set()

    async def _write_down(self, visitor: Visitor) -> None:
        stamp = self._stamp()
        connection = ConnectionRecord(
            id=self._id,
            person=visitor.person.subject,
            credential=visitor.credential,
            source=visitor.source,
            client_version=str(self._conn.get_extra_info("client_version", "")),
            opened_at=stamp.at,
        )
        accepted = event_of(visitor, stamp, "login.accepted", Outcome.SUCCESS)
        # Together, so that they share a commit.
        await asyncio.gather(self._rooms.audit.open_connection(connection), self._rooms.audit.event(accepted))

    # --- channels ---

    def session_requested(self) -> tuple[overrides.PodChannel, SessionChannel]:
        """A session channel; what is asked on it comes later."""
        refusal = "not authenticated" if self._visitor is None else self._stopping
        if refusal is not None:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, refusal)
        if overrides.open_channels(self._conn) >= self._rooms.max_channels:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, self._refuse_session())
        return overrides.pod_channel(self._conn), SessionChannel(self._start, self._refuse)

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
        for channel in list(self._channels):
            channel.hang_up(reason)

    def close(self) -> None:
        """Close the connection once what was sent on it is gone."""
        self._conn.close()

    @guarded(answer=None)
    def connection_lost(self, exc: Exception | None) -> None:
        """Let go, and write down a login that never came about and a client that fell silent."""
        overrides.let_go(self._conn)
        if self._place is None:
            return
        loss = overrides.loss(exc)
        if loss.cause is Cause.BUG:
            self._rooms.log.warning("connection.bug", source=self._source.host, error=repr(exc))
        if self._visitor is None:
            self._place.leave(refused.ending(loss, self._attempts))
            event = refused.login(self._stamp(), self._id, self._source, self._attempts, loss)
        else:
            event = refused.unanswered(self._stamp(), self._visitor) if loss.cause is Cause.KEEPALIVE else None
        if event is not None:
            self._rooms.refusals.note(event)

    def _stamp(self) -> Stamp:
        clock = self._rooms.clock
        return Stamp(id=self._rooms.new_id(), at=clock.now(), monotonic_s=clock.monotonic())

    def _start(self, channel: SessionChannel, asked: Asked) -> None:
        assert self._visitor is not None
        self._channels.add(channel)
        if self._stopping is not None:
            channel.hang_up(self._stopping)
        self._rooms.start(self._trip(self._visitor, channel, asked), f"trip-{self._id}")

    async def _trip(self, visitor: Visitor, channel: SessionChannel, asked: Asked) -> None:
        try:
            await self._written.wait()
            if self._unrecorded is None:
                await self._rooms.console.run(visitor, asked, channel)
            else:
                channel.notice(self._unrecorded.user_message)
                channel.exit(lifecycle.DENIED)
                await self._rooms.trips.refuse(visitor, refusal_of(asked.action, self._unrecorded))
        finally:
            self._channels.discard(channel)

    def _refuse(self, refusal: Refusal) -> None:
        assert self._visitor is not None
        self._rooms.start(self._rooms.trips.refuse(self._visitor, refusal), f"refusal-{self._id}")

    def _refuse_session(self) -> str:
        assert self._visitor is not None
        event = refused.channel(self._stamp(), self._visitor, self._rooms.max_channels)
        self._rooms.refusals.note(event)
        return event.reason

    def _refuse_channel(self, what: str) -> NoReturn:
        """Refuse a forward that is a channel, with words."""
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, self._refuse_forward(what))

    def _refuse_listening(self, what: str) -> bool:
        """Refuse a forward that would listen here; the protocol has no words for that."""
        self._refuse_forward(what)
        return False

    def _refuse_forward(self, what: str) -> str:
        reason = f"forwarding {what} is not offered"
        if self._visitor is not None:
            self._refuse(Refusal(action=Action.FORWARD, rule="forwarding", reason=reason))
        return reason
