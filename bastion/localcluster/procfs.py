"""What /proc says about processes; used by runtime to find those of a container."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_KI = os.sysconf("SC_PAGE_SIZE") // 1024
_UTIME, _STIME, _RSS = 11, 12, 21  # proc(5), fields 14, 15 and 24, counted from the third


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


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (SigCgt of proc(5)); False if it cannot be looked at."""
    try:
        found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", (_PROC / str(pid) / "status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(found and int(found[1], 16) >> (number - 1) & 1)


def usage(pid: int) -> tuple[float, int]:
    """Seconds of processor time that a process has used, and Ki of memory that it uses; zeros if it ended."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0, 0
    return (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_S, int(fields[_RSS]) * _PAGE_KI


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
