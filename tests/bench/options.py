"""What the benchmark is asked to do; read by __main__ and handed to every measure."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much of everything is measured.

    size_mb: what a bulk transfer moves. sessions: opened in a round of (b). keys: pressed in a round of (c).
    crowd: idle sessions of (d). stall_s: how long nobody reads in (e). flood_s: how long (g) floods. pods: of (h).
    progress: is told what happens.
    """

    size_mb: int
    rounds: int
    sessions: int
    keys: int
    crowd: int
    stall_s: float
    flood_s: float
    pods: int
    progress: Callable[[str], None]


def parser(measures: Sequence[str], profiles: Sequence[str], everybody: Sequence[str]) -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="make bench", description="How fast the bastion is beside others.")
    made.add_argument("--only", type=_some_of(measures), default=",".join(measures), help="some of %(default)s")
    made.add_argument("--who", type=_some_of(everybody), default=",".join(everybody), help="some of %(default)s")
    made.add_argument("--size-mb", type=_positive, default=200, help="MB of a bulk transfer")
    made.add_argument("--rounds", type=_positive, default=3, help="each interleaves everybody")
    made.add_argument("--sessions", type=_positive, default=10, help="sessions opened in a round of (b)")
    made.add_argument("--keys", type=_positive, default=300, help="keystrokes timed in a round of (c)")
    made.add_argument("--crowd", type=_positive, default=500, help="idle sessions of (d)")
    made.add_argument("--stall-s", type=float, default=10.0, help="seconds that nobody reads in (e)")
    made.add_argument("--flood-s", type=float, default=10.0, help="seconds of each flood of (g)")
    made.add_argument("--pods", type=_positive, default=10_000, help="pods of (h)")
    made.add_argument("--cipher", default="", help="for all ssh clients, such as aes128-gcm@openssh.com")
    made.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures are written")
    made.add_argument("--profile", choices=sorted(profiles), help="show where the bastion's time goes instead")
    made.add_argument("--kubeconfig", type=Path, help="measure (a) to (d) against this cluster, as its admin")
    made.add_argument("--pod", default="default/web", help="NAMESPACE/NAME[+CONTAINER]; it needs sh, cat and /dev/shm")
    made.add_argument("--group", default="bastion:engineer", help="the Kubernetes group to impersonate")
    return made


def _some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name!r}; known are {', '.join(known)}")
        return names

    return parse


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
