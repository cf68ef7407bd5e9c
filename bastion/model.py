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


LOOKS = frozenset({Action.LOGS, Action.DESCRIBE, Action.EVENTS, Action.TOP, Action.PODS})
"""What starts nothing in a pod."""


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
    """One container of one pod, pinned by the pod's UID.

    host_network: the pod is in its node's own network.
    ephemeral: somebody added the container to the pod as it ran. beside: the container of the pod whose processes, and
    with them whose files, it shares then ("" if none).
    """

    namespace: str
    pod: str
    pod_uid: str
    container: str
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    host_network: bool = False
    ephemeral: bool = False
    beside: str = ""

    def __str__(self) -> str:
        return f"{self.pod}.{self.namespace}+{self.container}"


DEBUG_CONTAINERS = "bastion-debug-"
"""What the names of debug containers begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A debug container beside a target.

    files: where in it the target's filesystem is: words for a person.
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
    debug_user: whom one runs as where the pod does not say whom the container beside runs as; None: its image decides.
    """

    role: str
    rule: str
    kubernetes_groups: tuple[str, ...]
    record: RecordRules = RecordRules()
    lingering: bool = False
    debug_images: tuple[str, ...] = ()
    debug_user: int | None = None


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
