"""Records to write down in tests, and a clock and ids to write them with."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bastion.model import Action, Credential, Outcome, Pty, Source, Target, WindowSize
from bastion.records import AuditEvent, CommandEnd, CommandRecord, ConnectionRecord, SessionEnd, SessionRecord
from bastion.wire.transcript import Frame, Kind, encode_frame, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bastion.records import Chunk

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
KEY = Credential(kind="key", id="SHA256:abc")


class SettableClock:
    """Fills `ports.Clock`; stands still until it is moved."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()


def counted_ids(prefix: str = "id") -> Callable[[], str]:
    """Ids that are easy to read in a failed test."""
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers):06d}"


def connection(id_: str = "conn1") -> ConnectionRecord:
    return ConnectionRecord(
        id=id_,
        person="alice",
        credential=KEY,
        source=Source(host="192.0.2.7", port=50000),
        client_version="SSH-2.0-OpenSSH_9.2",
        opened_at=START,
    )


def session(  # noqa: PLR0913 - every field that a query asks for
    id_: str = "sess1",
    *,
    person: str = "alice",
    namespace: str = "shop",
    pod: str = "web",
    after_s: float = 0,
    pty: bool = True,
    connection_id: str = "conn1",
) -> SessionRecord:
    return SessionRecord(
        id=id_,
        connection=connection_id,
        person=person,
        credential=KEY,
        source=Source(host="192.0.2.7", port=50000),
        login=f"{pod}.{namespace}",
        action=Action.SHELL,
        target=Target(
            namespace=namespace, pod=pod, pod_uid="uid-1", container="app", labels={"app": "web"}, node="node-1"
        ),
        role="developer",
        rule="roles.developer.allow[0]",
        reason="RBAC: allowed by RoleBinding",
        policy_digest="sha256:1234",
        pty=Pty(term="xterm", size=WindowSize(cols=100, rows=30)) if pty else None,
        refused_env=("LD_PRELOAD",),
        record_input=False,
        started_at=START + timedelta(seconds=after_s),
    )


def command(
    id_: str = "cmd1", session_id: str = "sess1", *, text: bytes = b"ls -l", after_s: float = 0
) -> CommandRecord:
    return CommandRecord(
        id=id_,
        session=session_id,
        seq=0,
        kind="exec",
        source="request",
        text=text,
        started_at=START + timedelta(seconds=after_s),
    )


def command_end(id_: str = "cmd1", *, status: int = 3) -> CommandEnd:
    return CommandEnd(command=id_, status=status, ended_at=START + timedelta(seconds=9))


def session_end(session_id: str = "sess1", *, status: int = 3) -> SessionEnd:
    return SessionEnd(
        session=session_id,
        status=status,
        outcome=Outcome.EXITED,
        reason="",
        bytes_in=5,
        bytes_out=70,
        complete=True,
        ended_at=START + timedelta(seconds=10),
    )


def event(id_: str, kind: str = "login.accepted", *, after_s: float = 1) -> AuditEvent:
    return AuditEvent(
        id=id_,
        at=START + timedelta(seconds=after_s),
        type=kind,
        outcome=Outcome.SUCCESS,
        actor="cli:root@host",
        person="alice",
        namespace="shop",
        pod="web",
        detail={"tries": 2, "first": True},
    )


def chunk(session_id: str, seq: int, frames: Sequence[Frame]) -> Chunk:
    """Frames as a stored chunk."""
    t0_us, since, raw = frames[0].at_us, frames[0].at_us, b""
    for frame in frames:
        raw += encode_frame(frame, since)
        since = frame.at_us
    return pack(session_id, seq, raw, t0_us=t0_us, t1_us=since)


def output(at_us: int, data: bytes) -> Frame:
    return Frame(at_us=at_us, kind=Kind.STDOUT, data=data)
