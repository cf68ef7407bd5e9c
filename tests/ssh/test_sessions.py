"""Who begins a session: the person whom the record knows at that moment, or nobody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import capture_logs

from bastion.admission import Rules
from bastion.errors import BastionError, Code
from bastion.model import Action, Credential, Outcome, Person, Source
from bastion.refusals import Refusals
from bastion.ssh.doorkeeper import Doorkeeper
from bastion.ssh.rooms import Rooms
from bastion.ssh.sessions import Sessions
from bastion.trip import Asked, Refusal, Visitor
from support.lookings import Evidence
from support.lookings import Person as Client
from support.records import SettableClock, counted_ids
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bastion.records import ConnectionRecord
    from bastion.work import LetIn

ALICE = Person(subject="alice", groups=frozenset({"shop"}))
VISITOR = Visitor(
    connection="conn1",
    person=ALICE,
    credential=Credential(kind="key", id="SHA256:abc"),
    source=Source(host="192.0.2.7", port=50000),
    login="web.shop",
)
ASKED = Asked(command=b"id", pty=None, action=Action.EXEC)
AWAY = BastionError(Code.RECORD_UNAVAILABLE, "The record is away.")


class Logins(Evidence):
    """Fills `ports.AuditLog`: keeps who logged in; never, if it `fails`."""

    def __init__(self, fails: Exception | None = None) -> None:
        super().__init__()
        self.connections: list[ConnectionRecord] = []
        self.fails = fails
        self.tried = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def open_connection(self, connection: ConnectionRecord) -> None:
        self.tried += 1
        await self.answers.wait()
        if self.fails is not None:
            raise self.fails
        self.connections.append(connection)


@dataclass
class People:
    """Fills `ports.Identities`: whoever has alice's key now, or what goes wrong when that is asked."""

    found: Person | Exception | None

    async def person_of(self, credential: Credential) -> Person | None:
        assert credential == VISITOR.credential
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@dataclass
class Within:
    """Stands where the console and the trips are: keeps who came so far, and who did not."""

    came: list[Visitor] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    async def run(self, visitor: Visitor, asked: Asked, client: Client, let_in: LetIn) -> None:
        assert asked is ASKED
        self.came.append(visitor)
        assert await let_in() == visitor
        client.exit(0)

    async def refuse(self, visitor: Visitor, refusal: Refusal) -> None:
        assert visitor is VISITOR
        self.refused.append(refusal)


class Channel(Client):
    """A person on a channel, who may be hung up on."""

    hung_up_for = ""

    def hang_up(self, reason: str) -> None:
        self.hung_up_for = reason


@dataclass
class Door:
    """The sessions of one connection, and all that is behind them."""

    people: People
    audit: Logins = field(default_factory=Logins)
    within: Any = field(default_factory=Within)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock, new_id, log = SettableClock(), counted_ids(), structlog.get_logger("test")
        rooms = Rooms(
            identities=self.people,
            audit=self.audit,
            refusals=Refusals(self.audit, clock=clock, new_id=new_id, log=log, start=self._start),
            trips=self.within,
            console=self.within,
            clock=clock,
            new_id=new_id,
            log=log,
            start=self._start,
            doorkeeper=Doorkeeper(Rules(), clock=clock, chance=lambda: 0.5),
            max_auth_tries=6,
            max_channels=10,
        )
        self.sessions = Sessions(rooms, VISITOR, "SSH-2.0-test")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.append(asyncio.create_task(work, name=name))

    async def is_asked_twice(self) -> bool:
        """Whether two sessions were asked for, beside the login."""
        return len(self.tasks) == 3

    async def ask(self) -> Channel:
        """Ask for a session, and wait for its end."""
        channel: Any = Channel()
        self.sessions.begin(channel, ASKED)
        async with asyncio.timeout(30):
            await asyncio.gather(*self.tasks)
        assert isinstance(channel, Channel)
        return channel


async def test_a_person_who_is_known_comes_in_once_their_login_is_written_down() -> None:
    door = Door(People(ALICE))

    assert (await door.ask()).status == 0
    assert door.within.came == [VISITOR]
    assert [(one.person, one.client_version) for one in door.audit.connections] == [("alice", "SSH-2.0-test")]
    assert [(one.type, one.outcome) for one in door.audit.events] == [("login.accepted", Outcome.SUCCESS)]


async def test_the_groups_are_those_of_now() -> None:
    door = Door(People(ALICE))
    await door.ask()
    door.people.found = Person(subject="alice", groups=frozenset({"other"}))
    await door.ask()

    assert [visitor.person.groups for visitor in door.within.came] == [{"shop"}, {"other"}]


@pytest.mark.parametrize(
    ("found", "rule", "said", "log"),
    [
        (None, "unknown-credential", "lets nobody in any more", None),
        (Person(subject="zoe", groups=ALICE.groups), "other-person", "belongs to somebody else now", None),
        (AWAY, "record_unavailable", "The record is away.", "session.unavailable"),
        (RuntimeError("a bug"), "record_unavailable", "could not be looked up", "session.bug"),
    ],
)
async def test_whoever_is_not_known_any_more_or_cannot_be_known_is_refused_in_words(
    found: Person | Exception | None, rule: str, said: str, log: str | None
) -> None:
    door = Door(People(ALICE))
    await door.ask()
    door.people.found = found
    with capture_logs() as logs:
        channel = await door.ask()

    assert channel.status == 254
    assert len(channel.notices) == 1
    assert said in channel.notices[0]
    assert len(door.within.came) == 1
    (refusal,) = door.within.refused
    assert (refusal.rule, refusal.reason, refusal.outcome) == (rule, channel.notices[0], Outcome.DENIED)
    assert (refusal.action, refusal.command) == (Action.EXEC, b"id")
    assert [entry["event"] for entry in logs] == ([log] if log else [])


@pytest.mark.parametrize("fails", [AWAY, RuntimeError("a bug")])
async def test_nothing_begins_where_the_login_could_not_be_written_down(fails: Exception) -> None:
    door = Door(People(ALICE), Logins(fails))

    assert (await door.ask()).status == 254
    assert door.within.came == []
    assert [refusal.rule for refusal in door.within.refused] == ["record_unavailable"]


async def test_a_login_that_could_not_be_written_down_is_written_with_the_next_session() -> None:
    door = Door(People(ALICE), Logins(AWAY))
    assert (await door.ask()).status == 254
    door.audit.fails = None

    assert (await door.ask()).status == 0
    assert (await door.ask()).status == 0
    assert [(one.id, one.person) for one in door.audit.connections] == [("conn1", "alice")]
    assert {(one.id, one.type) for one in door.audit.events} == {(door.audit.events[0].id, "login.accepted")}


async def test_who_asks_while_the_login_is_being_written_waits_for_that_and_tries_no_more() -> None:
    door = Door(People(ALICE), Logins(AWAY))
    door.audit.answers.clear()
    asking = asyncio.ensure_future(asyncio.wait_for(asyncio.gather(door.ask(), door.ask()), 30))
    await eventually(door.is_asked_twice)
    door.audit.answers.set()

    assert [one.status for one in await asking] == [254, 254]
    assert door.audit.tried == 1


async def test_what_is_asked_for_after_the_end_was_announced_is_hung_up_on() -> None:
    door = Door(People(ALICE))
    door.sessions.hang_up("the bastion is stopping")

    assert (await door.ask()).hung_up_for == "the bastion is stopping"
