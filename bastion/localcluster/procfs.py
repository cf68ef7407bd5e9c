"""What /proc says about processes; used by runtime to find those of a container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A living process. session: the pid of its session's leader."""

    pid: int
    parent: int
    session: int

    def environment(self) -> list[bytes]:
        """The NAME=value strings it was started with; empty if it cannot be looked at."""
        return _strings(self.pid, "environ")

    def argv(self) -> list[str]:
        """Its arguments, as it shows them."""
        return [part.decode(errors="replace") for part in _strings(self.pid, "cmdline")]


def living() -> Iterator[Seen]:
    """Every process of this machine that has not ended."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (seen := _look(int(entry.name))):
            yield seen


def _look(pid: int) -> Seen | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None  # it ended meanwhile
    state, parent, _, session, *_ = stat.rpartition(b")")[2].split()  # proc(5): the name before may hold anything
    return None if state in (b"Z", b"X") else Seen(pid=pid, parent=int(parent), session=int(session))


def _strings(pid: int, name: str) -> list[bytes]:
    try:
        return (_PROC / str(pid) / name).read_bytes().removesuffix(b"\0").split(b"\0")
    except OSError:
        return []
