"""The values everything speaks of: who, where, what, and what is written down; used by every room.

Times are aware UTC datetimes, offsets inside a session are microseconds since
its start, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Action(StrEnum):
    """What a person may be allowed to do; each is its own kind, none is the absence of another."""

    SHELL = "shell"
    EXEC = "exec"
    SFTP_READ = "sftp.read"
    SFTP_WRITE = "sftp.write"
    FORWARD = "forward"
    LOGS = "logs"
    DESCRIBE = "describe"
    EVENTS = "events"
    TOP = "top"
    PODS = "pods"
    DEBUG = "debug"


class Stream(StrEnum):
    """The two output streams of a process."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSize:
    """A terminal's size in characters; keyword-only because half the field swaps the two."""

    cols: int
    rows: int

    def __str__(self) -> str:
        return f"{self.cols}x{self.rows}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pty:
    """The terminal a client asked for (RFC 4254 section 6.2).

    modes: arguments for stty, each a word of our own or a number; not kept in the record.
    """

    term: str
    size: WindowSize
    modes: tuple[str, ...] = ()


# --- who ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An identity that logs in; `subject` is stable and unique."""

    subject: str
    groups: frozenset[str] = frozenset()


RESERVED_SUBJECTS = frozenset({"reaper"})
"""Nobody's: `bastion:reaper` is who ends leftover processes in the cluster, and a person would get its rights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What proved the person on a connection: never the secret, only its public name.

    kind: "key"; id: the OpenSSH fingerprint, "SHA256:…".
    """

    kind: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a connection comes from."""

    host: str
    port: int

    def __str__(self) -> str:
        return self.host


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeIdentity:
    """Who a call to the API server is made as (Impersonate-User, Impersonate-Group, Impersonate-Extra).

    session: id of the session it is made for, "" outside of one; the API server's audit log then names it too.
    """

    user: str
    groups: tuple[str, ...] = ()
    session: str = ""


# --- where -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLogin:
    """An ssh user name that says where to go: `[KIND_]NAME.NAMESPACE[+CONTAINER]`.

    kind: "" (a pod, else the one workload of that name), "deploy", "sts", "ds" or "job".
    container: "" means the default container.
    """

    kind: str
    name: str
    namespace: str
    container: str

    def __str__(self) -> str:
        kind = f"{self.kind}_" if self.kind else ""
        container = f"+{self.container}" if self.container else ""
        return f"{kind}{self.name}.{self.namespace}{container}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLogin:
    """An ssh user name without a dot: the bastion itself."""

    name: str

    def __str__(self) -> str:
        return self.name


Login = TargetLogin | ConsoleLogin


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One container of one pod, pinned by the pod's UID. host_network: the pod is in its node's own network."""

    namespace: str
    pod: str
    pod_uid: str
    container: str
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    host_network: bool = False

    def __str__(self) -> str:
        return f"{self.pod}.{self.namespace}+{self.container}"


DEBUG_CONTAINERS = "bastion-debug-"
"""What the names of debug containers begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A debug container beside a target.

    files: where in it the target's filesystem is; "" where that cannot be told.
    """

    target: Target
    files: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A target and, where it was a choice among several pods, the workload it was chosen from ("deploy/api").

    stale: the list of pods was out of date, so the API server was asked directly.
    """

    target: Target
    chosen_from: str = ""
    stale: bool = False


# --- what --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """What is to be started in a target.

    command: the bytes of an SSH exec request, exactly as sent; None is a shell.
    env: names and values that passed the allow-list.
    marker: the session id, put into the environment of the process tree.
    """

    command: bytes | None
    pty: Pty | None
    env: tuple[tuple[str, str], ...]
    marker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """What became of the processes a session left behind: ended, and still there.

    left: after KILL; or, where a role allows lingering, what was left on purpose.
    unseen: processes whose environment could not be read (another user's), so nobody knows whose they are.
    """

    ended: int
    left: int
    unseen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """What a role asks the recorder to keep beyond output, resizes and markers."""

    input: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """A decision for: the role and rule that decided, and what follows from the role.

    lingering: what a session leaves on purpose (nohup, setsid) may go on after it.
    debug_images: what a debug container may be made of, the first being taken; () is no such container.
    """

    role: str
    rule: str
    kubernetes_groups: tuple[str, ...]
    record: RecordRules = RecordRules()
    lingering: bool = False
    debug_images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A decision against. `rule` is for the record, `reason` is a sentence the person may read."""

    rule: str
    reason: str


Decision = Allow | Deny


# --- what is written down ----------------------------------------------------


class Outcome(StrEnum):
    """How a session ended, or what became of an attempt."""

    SUCCESS = "success"  # an event: it was done
    DENIED = "denied"  # an event: a person was refused
    FAILED = "failed"  # an event: it could not be done
    EXITED = "exited"  # the process ended by itself; its status is the session's
    BROKEN = "broken"  # the stream or the pod broke: status 255
    HUNG_UP = "hung_up"  # the person left first
    NOT_STARTED = "not_started"  # nothing ran (no shell, no such program)
    UNRECORDED = "unrecorded"  # the record could not be kept, so the session was ended


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

    status: the exit status the person's client was given (254 and 255 are ours: see DESIGN's exit codes).
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
