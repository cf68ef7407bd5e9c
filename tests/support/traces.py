"""What somebody left behind: in the record, and in the bastion's process; used by tests/abuse."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.trips import Bastion

LISTENING = "0A"


def word() -> str:
    """A word that stands in no other command."""
    return f"word-{uuid.uuid4().hex}"


def source_of(argv: Sequence[str | bytes]) -> str:
    """The address that an ssh of `Bastion.ssh_argv` comes from."""
    return str(argv[list(argv).index("-b") + 1])


def events_of(bastion: Bastion, source: str) -> list[dict[str, Any]]:
    """What the record says of a source, newest first."""
    return [event for event in bastion.audit("events", "--limit", "2000") if event["source"] == source]


def sessions_of(bastion: Bastion, *texts: str) -> list[dict[str, Any]]:
    """The sessions of the commands that have these texts in them, once all of them have ended."""

    def look() -> list[dict[str, Any]]:
        ended = {one["id"]: one for one in bastion.audit("sessions", "--limit", "50") if one["ended_at"]}
        commands = bastion.audit("commands", "--limit", "50")
        ids = [next((one["session"] for one in commands if text in one["text"]), None) for text in texts]
        return [ended[id_] for id_ in ids] if set(ids) <= set(ended) else []

    return wait_until(look)


def listeners(pid: int) -> set[str]:
    """The sockets of a process on which it accepts connections, by address or path."""
    own = {link for link in map(_target, Path(f"/proc/{pid}/fd").iterdir()) if link.startswith("socket:[")}
    inodes = {link.removeprefix("socket:[").removesuffix("]") for link in own}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == LISTENING:
                found.add(fields[1])
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] in inodes and int(fields[3], 16) & 0x10000:  # __SO_ACCEPTCON
            found.add(" ".join(fields[7:]))
    return found


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""
