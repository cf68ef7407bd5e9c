"""The Protocols that adapters fill; session.py and app.py know the outside only through these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from bastion.events import ClientEvent, HungUp, Output, PodEvent, SessionEvent, Signalled
    from bastion.model import (
        Beside,
        Credential,
        ExecRequest,
        KubeIdentity,
        Person,
        Reaped,
        RecordRules,
        Resolved,
        Target,
        TargetLogin,
    )
    from bastion.podfacts import PodFacts
    from bastion.records import (
        AuditEvent,
        Chunk,
        CommandEnd,
        CommandRecord,
        ConnectionRecord,
        SessionEnd,
        SessionRecord,
    )

    Tell = Callable[[str], None]
    """Shows a passing line to a person who waits at a terminal."""

    Asks = Callable[[Target], bool]
    """A question about a person and a container, such as whether they may know of it."""


class Clock(Protocol):
    """Time, passed in."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never backwards."""
        ...


class Client(Protocol):
    """The person's end of a session."""

    async def next_event(self) -> ClientEvent:
        """Wait for what the person does next, a signal first. It never returns `HungUp`: see `hung_up`."""
        ...

    async def next_signal(self) -> Signalled:
        """Wait for the next signal, whatever was sent before it; once this is asked for, it alone gives signals."""
        ...

    async def hung_up(self) -> HungUp:
        """Return once the person is gone, ahead of anything they sent before that is still waiting."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether `hung_up` has something to tell."""
        ...

    async def write(self, output: Output) -> None:
        """Send bytes; returns when more may be sent (back-pressure). Bytes to a person who left are dropped."""
        ...

    def notice(self, text: str) -> None:
        """One line of ours, on stderr."""
        ...

    def waiting(self, text: str) -> None:
        """Show what is waited for, in place of what was shown so before; on a terminal only."""
        ...

    def exit(self, status: int) -> None:
        """Report the exit status (0 to 255) and close the session."""
        ...


class ExecStream(Protocol):
    """A started process in a pod."""

    @property
    def protocol(self) -> str:
        """The WebSocket subprotocol in use."""
        ...

    async def next_event(self) -> PodEvent:
        """Wait for output, or for the one `Exited` that ends the stream. Never raises for what a peer did."""
        ...

    async def send(self, event: ClientEvent) -> None:
        """Pass on input, its end, a size or a signal; returns when more may be sent."""
        ...


class Pods(Protocol):
    """The cluster, as far as a trip needs it."""

    async def resolve(
        self, login: TargetLogin, *, person: str, sees: Asks, enters: Asks | None, tell: Tell
    ) -> Resolved:
        """Find the container a login means, and wait a while for one that is only starting.

        person: their subject; one person is led to the same pod of several while it lives.
        sees: whether they may know of a container; what they may not is as if it were not there.
        enters: whether they may go into it. One where they may not is returned at once, whether it runs or not: they
        need not learn what keeps others out. None: they only look, and nothing is waited for.
        Raises BastionError (TARGET_*, CLUSTER_*).
        """
        ...

    async def review(self, target: Target, identity: KubeIdentity, tell: Tell) -> str:
        """Ask the cluster's RBAC whether the identity may exec there; returns its reason.

        Raises BastionError (CLUSTER_*).
        """
        ...

    def exec(
        self, target: Target, request: ExecRequest, identity: KubeIdentity, tell: Tell
    ) -> AbstractAsyncContextManager[ExecStream]:
        """Start a process; entering returns once it runs, in the very pod that the target's UID names.

        Raises BastionError (NO_SHELL, NOT_STARTED, STREAM_BROKEN, TARGET_*, CLUSTER_*).
        Leaving closes the stream but does not end the process: see `reap`.
        """
        ...

    async def debug(self, target: Target, image: str, user: int | None, identity: KubeIdentity, tell: Tell) -> Beside:
        """A container with a shell beside a target that has none: one that runs already, or a new one.

        user: the number of whom it runs as where the pod does not say whom the target runs as; None: its image decides.
        Raises BastionError (NOT_STARTED, TARGET_*, CLUSTER_*).
        """
        ...

    async def reap(self, target: Target, marker: str, *, lingering: bool) -> Reaped:
        """End every process in the target that carries the marker.

        lingering: hang up only, and leave what was started to outlive its session (nohup, setsid).
        Raises BastionError when it could not look: TARGET_MISSING or TARGET_NOT_RUNNING only where the pod itself shows
        that it is gone, or another, or that the container does not run; NO_SHELL, STREAM_BROKEN, CLUSTER_*.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Which part of a container's log is asked for.

    follow: what is yet to come, too. previous: of the run before this one.
    tail: only so many of the last lines. since_s: only what is no older than that.
    timestamps: the time before each line.
    """

    follow: bool = False
    previous: bool = False
    tail: int | None = None
    since_s: int | None = None
    timestamps: bool = False


class Looking(Protocol):
    """The cluster, as far as it can be looked at without starting anything; what is raised is as in `Pods`.

    What is about one target is asked as a person, so that the cluster's RBAC has the last word, and is of the very
    pod that the target's UID names.
    """

    async def pods(self, tell: Tell) -> Sequence[PodFacts]:
        """Every pod that the bastion sees, by namespace and name; what of it may be shown is the caller's business."""
        ...

    async def pod(self, target: Target, identity: KubeIdentity, tell: Tell) -> Mapping[str, Any]:
        """The pod's JSON, as the API serves it."""
        ...

    async def events(self, target: Target, identity: KubeIdentity, tell: Tell) -> Sequence[Mapping[str, Any]]:
        """The JSON of the events about the pod, in no order."""
        ...

    async def usage(self, target: Target, identity: KubeIdentity, tell: Tell) -> Mapping[str, Any] | None:
        """What the pod takes of CPU and memory, the JSON of a PodMetrics; None if the cluster has no metrics API."""
        ...

    def logs(
        self, target: Target, options: LogOptions, identity: KubeIdentity, tell: Tell
    ) -> AbstractAsyncContextManager[ExecStream]:
        """The container's log as a stream of stdout that exits with 0 at its end and takes no input."""
        ...


class Gate(Protocol):
    """Holds an event back until it may be forwarded."""

    async def passed(self) -> None:
        """Return when the event may go on; raising withholds it and ends the session."""
        ...


class Tap(Protocol):
    """Sees every event of a session before it is forwarded."""

    def take(self, at_us: int, event: SessionEvent) -> Gate:
        """Take an event, at once and in order; `at_us` is microseconds since the session's start."""
        ...


class Recording(Tap, Protocol):
    """The tap that keeps one session's evidence."""

    def keep(self, rules: RecordRules) -> None:
        """Keep, from now on, what these rules ask for too."""
        ...

    async def close(self) -> None:
        """Make everything that was taken durable. Raises BastionError(RECORD_UNAVAILABLE)."""
        ...


class Recorder(Protocol):
    """Opens recordings."""

    def open(self, session: str, rules: RecordRules, *, pty: bool) -> Recording:
        """A recording for a session whose row is committed."""
        ...


class AuditLog(Protocol):
    """Where evidence goes. Every method returns only when its rows are committed.

    Raises BastionError(RECORD_UNAVAILABLE) when they are not.
    """

    async def open_connection(self, connection: ConnectionRecord) -> None:
        """Write down an authenticated connection."""
        ...

    async def start_session(self, session: SessionRecord, command: CommandRecord | None) -> None:
        """Write down a session and, for an exec request, its command: before the pod sees a byte."""
        ...

    async def append(self, chunks: Sequence[Chunk]) -> None:
        """Write down runs of transcripts, of one session or of many."""
        ...

    async def end_session(self, end: SessionEnd, command: CommandEnd | None) -> None:
        """Write down how a session, and its exec command, ended."""
        ...

    async def event(self, event: AuditEvent) -> None:
        """Write down an event."""
        ...


class Identities(Protocol):
    """Who a credential belongs to."""

    async def person_of(self, credential: Credential) -> Person | None:
        """The person, or None if nobody (or somebody locked) has that credential."""
        ...


class Access(Protocol):
    """People and their keys. Each change commits together with the event that tells of it."""

    async def add_person(self, subject: str, groups: frozenset[str], told: AuditEvent) -> None:
        """Raises CONFLICT if there is one of that subject."""
        ...

    async def add_key(self, subject: str, credential: Credential, comment: str, told: AuditEvent) -> None:
        """Raises NOT_FOUND for an unknown subject, CONFLICT if anybody has the key."""
        ...

    def people(self) -> AsyncIterator[Person]:
        """Everybody, by subject."""
        ...

    def keys(self) -> AsyncIterator[tuple[Person, Credential, str]]:
        """Person, credential, comment."""
        ...
