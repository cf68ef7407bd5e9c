"""The cluster, the record and the person's end as the console sees them, at its ports; used by tests of the console."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError, Code
from bastion.events import Exited, HungUp, Input, Output
from bastion.model import Outcome, Reaped, Resolved, Stream
from bastion.podfacts import pod_facts, target_of
from bastion.pods import choice
from bastion.wire.transcript import Kind, frames_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bastion.events import ClientEvent, PodEvent, Signalled
    from bastion.model import Beside, ExecRequest, KubeIdentity, Target, TargetLogin
    from bastion.podfacts import PodFacts
    from bastion.ports import Asks, LogOptions, Tell
    from bastion.records import (
        AuditEvent,
        Chunk,
        CommandEnd,
        CommandRecord,
        ConnectionRecord,
        SessionEnd,
        SessionRecord,
    )

    Object = dict[str, Any]


class Person:
    """Fills `ports.Client`: does what it was told to, and keeps what it was shown."""

    def __init__(self, *doing: ClientEvent) -> None:
        self._doing = deque(doing)
        self._more = asyncio.Event()
        self._left: asyncio.Future[HungUp] = asyncio.get_running_loop().create_future()
        self.out = b""
        self.err = b""
        self.notices: list[str] = []
        self.largest = 0
        self.status: int | None = None
        self.written = asyncio.Event()

    def do(self, *events: ClientEvent) -> None:
        """Do more."""
        self._doing.extend(events)
        self._more.set()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set_result(HungUp("the client closed the session"))

    async def sees(self, text: bytes) -> None:
        """Wait until something was shown."""
        async with asyncio.timeout(30):
            while text not in self.out:
                self.written.clear()
                await self.written.wait()

    async def next_event(self) -> ClientEvent:
        while not self._doing:
            self._more.clear()
            await self._more.wait()
        return self._doing.popleft()

    async def next_signal(self) -> Signalled:
        await asyncio.Event().wait()
        raise AssertionError

    async def hung_up(self) -> HungUp:
        return await asyncio.shield(self._left)

    @property
    def is_gone(self) -> bool:
        return self._left.done()

    async def write(self, output: Output) -> None:
        self.largest = max(self.largest, len(output.data))
        if output.stream is Stream.STDOUT:
            self.out += output.data
        else:
            self.err += output.data
        self.written.set()

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def waiting(self, text: str) -> None:
        raise AssertionError(f"nothing is waited for: {text}")

    def exit(self, status: int) -> None:
        assert self.status is None, "the channel was ended twice"
        self.status = status


@dataclass
class Cluster:
    """Fills `ports.Looking`, and of `ports.Pods` what finds a target.

    unlisted: its list of pods is yet to learn of them.
    allowed: what RBAC lets everybody do here, of get, events, logs and usage. asked: what was asked as whom.
    """

    objects: Sequence[Object] = ()
    happened: Sequence[Object] = ()
    measured: Mapping[str, Any] | None = None
    log: Sequence[bytes] = ()
    goes_on: bool = False
    away: bool = False
    unlisted: bool = False
    allowed: frozenset[str] = frozenset({"pod", "events", "usage", "logs"})
    asked: list[tuple[str, KubeIdentity]] = field(default_factory=list)
    options: list[LogOptions] = field(default_factory=list)
    started: list[ExecRequest] = field(default_factory=list)

    async def resolve(
        self, login: TargetLogin, *, person: str, sees: Asks, enters: Asks | None, tell: Tell
    ) -> Resolved:
        del person, enters, tell
        for one in map(pod_facts, self.objects):
            if (one.namespace, one.name) == (login.namespace, login.name):
                chosen = choice.pick_container(one, login.container, sees)
                if isinstance(chosen, choice.Refuse):
                    raise BastionError(chosen.code, chosen.why)
                return Resolved(target=target_of(one, chosen.name))
        raise BastionError(Code.TARGET_MISSING, f"there is no pod {login.name} in namespace {login.namespace}")

    async def review(self, target: Target, identity: KubeIdentity, tell: Tell) -> str:
        del target, identity, tell
        return "allowed by a test"

    @asynccontextmanager
    async def exec(
        self, target: Target, request: ExecRequest, identity: KubeIdentity, tell: Tell
    ) -> AsyncIterator[Shell]:
        del target, identity, tell
        self.started.append(request)
        yield Shell()

    async def debug(self, target: Target, image: str, user: int | None, identity: KubeIdentity, tell: Tell) -> Beside:
        raise NotImplementedError

    async def reap(self, target: Target, marker: str, *, lingering: bool) -> Reaped:
        del target, marker, lingering
        return Reaped(ended=0, left=0)

    async def pods(self, tell: Tell) -> Sequence[PodFacts]:
        del tell
        if self.away:
            raise BastionError(Code.CLUSTER_UNAVAILABLE, "the cluster's API server cannot be reached")
        return [] if self.unlisted else [pod_facts(one) for one in self.objects]

    async def pod(self, target: Target, identity: KubeIdentity, tell: Tell) -> Mapping[str, Any]:
        del tell
        self._check("pod", identity)
        return next(one for one in self.objects if one["metadata"]["uid"] == target.pod_uid)

    async def events(self, target: Target, identity: KubeIdentity, tell: Tell) -> Sequence[Mapping[str, Any]]:
        del target, tell
        self._check("events", identity)
        return self.happened

    async def usage(self, target: Target, identity: KubeIdentity, tell: Tell) -> Mapping[str, Any] | None:
        del target, tell
        self._check("usage", identity)
        return self.measured

    @asynccontextmanager
    async def logs(
        self, target: Target, options: LogOptions, identity: KubeIdentity, tell: Tell
    ) -> AsyncIterator[Printed]:
        del target, tell
        self._check("logs", identity)
        self.options.append(options)
        yield Printed(self.log, goes_on=self.goes_on)

    def _check(self, what: str, identity: KubeIdentity) -> None:
        self.asked.append((what, identity))
        if what not in self.allowed:
            raise BastionError(Code.CLUSTER_DENIED, f"the cluster's own RBAC does not let you see {what}")


class Shell:
    """Fills `ports.ExecStream` with a program that says what it is told, until that is the word exit."""

    protocol = ""

    def __init__(self) -> None:
        self._said: asyncio.Queue[PodEvent] = asyncio.Queue()

    async def next_event(self) -> PodEvent:
        return await self._said.get()

    async def send(self, event: ClientEvent) -> None:
        if isinstance(event, Input) and b"exit" in event.data:
            self._said.put_nowait(Exited(7, Outcome.EXITED))
        elif isinstance(event, Input):
            self._said.put_nowait(Output(Stream.STDOUT, b"told " + event.data))


class Evidence:
    """Fills `ports.AuditLog`: keeps everything in the order in which it came; fails while `broken`."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.sessions: list[SessionRecord] = []
        self.commands: list[CommandRecord] = []
        self.chunks: list[Chunk] = []
        self.ends: list[SessionEnd] = []
        self.broken = False

    async def event(self, event: AuditEvent) -> None:
        self._check()
        self.events.append(event)

    async def open_connection(self, connection: ConnectionRecord) -> None:
        raise NotImplementedError

    async def start_session(self, session: SessionRecord, command: CommandRecord | None) -> None:
        self._check()
        self.sessions.append(session)
        self.commands += [command] if command else []

    async def append(self, chunks: Sequence[Chunk]) -> None:
        self._check()
        self.chunks += chunks

    async def end_session(self, end: SessionEnd, command: CommandEnd | None) -> None:
        del command
        self._check()
        self.ends.append(end)

    def shown(self) -> bytes:
        """The output in the transcripts."""
        frames = (frame for chunk in self.chunks for frame in frames_of(chunk, chunk.seq))
        return b"".join(frame.data for frame in frames if frame.kind in {Kind.STDOUT, Kind.STDERR})

    def _check(self) -> None:
        if self.broken:
            raise BastionError(Code.RECORD_UNAVAILABLE, "the record cannot be kept now")


class Printed:
    """Fills `ports.ExecStream` with what a container printed."""

    protocol = ""

    def __init__(self, pieces: Sequence[bytes], *, goes_on: bool) -> None:
        self._pieces = deque(pieces)
        self._goes_on = goes_on

    async def next_event(self) -> PodEvent:
        if self._pieces:
            return Output(Stream.STDOUT, self._pieces.popleft())
        if self._goes_on:
            await asyncio.Event().wait()
        return Exited(0, Outcome.EXITED)

    async def send(self, event: ClientEvent) -> None:
        raise AssertionError(f"a log was sent {event}")
