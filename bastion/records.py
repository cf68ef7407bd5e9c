"""What is written down, as values: connections, sessions, commands, events, transcripts; used by trip and store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from bastion.model import Action, Credential, Outcome, Pty, Source, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRecord:
    """One authenticated SSH connection."""

    id: str
    person: str
    credential: Credential
    source: Source
    client_version: str
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One SSH channel's work in one target; committed before the pod sees a byte."""

    id: str
    connection: str
    person: str
    credential: Credential
    source: Source
    login: str
    action: Action
    target: Target
    role: str
    rule: str
    reason: str  # what the cluster's own RBAC said ("RBAC: allowed by …")
    policy_digest: str
    pty: Pty | None
    refused_env: tuple[str, ...]
    record_input: bool
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """One command line. For an exec request it is committed together with its session row.

    kind: "exec"; source: how we know it, "request".
    """

    id: str
    session: str
    seq: int
    kind: str
    source: str
    text: bytes
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEnd:
    """How a command ended."""

    command: str
    status: int
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """How a session ended; a session without one is running or was cut off with its bastion.

    status: the exit status the person's client was given (254 and 255 are ours: see lifecycle.py).
    reason: one line for people, "" when the process simply exited.
    bytes_in, bytes_out: what passed, counted at the bastion.
    complete: False if bytes may have been forwarded that are not in the record.
    """

    session: str
    status: int
    outcome: Outcome
    reason: str
    bytes_in: int
    bytes_out: int
    complete: bool
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that happened. Empty strings mean "does not apply".

    type: dotted, "login.accepted", "login.refused", "session.refused", "person.added", …
    actor: "person:alice", "cli:root@host" or "system".
    detail: small JSON-able facts; never a secret, never stream bytes.
    """

    id: str
    at: datetime
    type: str
    outcome: Outcome
    actor: str
    person: str = ""
    credential: str = ""
    source: str = ""
    connection: str = ""
    session: str = ""
    login: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    action: str = ""
    rule: str = ""
    reason: str = ""
    detail: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A run of transcript frames of one session (wire/transcript.py), as it is stored.

    t0_us, t1_us: first and last frame, microseconds since the session's start.
    raw_len: bytes before compression; codec: "zstd" or "raw".
    """

    session: str
    seq: int
    t0_us: int
    t1_us: int
    raw_len: int
    codec: str
    data: bytes
