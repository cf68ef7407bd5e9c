"""Measures the bastion beside sshd, kubectl exec and a raw WebSocket, all in one run; started by `make bench`."""

from __future__ import annotations

import os
import platform
import resource
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from bench import bulk, catalogue, crowd, echo, flood, opening, profile, report, stalled
from bench.figures import EVERYBODY
from bench.options import Options, parser
from bench.processes import StepFailedError
from bench.stage import Wanted, prepared

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from bench.figures import Figure
    from bench.stage import Stage

MEASURES: Mapping[str, Callable[[Stage, Options], Iterator[Figure]]] = {
    "a": bulk.transfers,
    "b": opening.sessions,
    "c": echo.keystrokes,
    "d": crowd.idle,
    "e": stalled.readers,
    "f": bulk.frames,
    "g": flood.logins,
    "h": catalogue.knowing,
}

ON_ANY_CLUSTER = "abcd"
"""The others want programs in the pod, or are about the bastion alone."""

INTERRUPTED = 130


def main() -> int:
    """Measure, print the table, write the JSON; the exit status."""
    given = parser(list(MEASURES), list(profile.SUBJECTS), list(EVERYBODY)).parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # the crowd of (d) needs thousands of files, in the programs that are started here too
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        return _run(given, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(given: argparse.Namespace, told: Console) -> int:
    with told.status("starting") as status:
        options = _options(given, status.update)
        try:
            with prepared(_wanted(given)) as stage:
                for line in stage.missing:
                    told.print(line, style="yellow")
                if given.profile:
                    for text in profile.profiles(stage, options, given.profile):
                        print(text)  # noqa: T201 - what was asked for
                    return 0
                figures, whole = _measured(stage, options, given, told)
                status.stop()
                _show(figures, given, told)
        except StepFailedError as error:
            told.print(f"make bench: {error}", markup=False, soft_wrap=True)
            return 1
    return 0 if whole else INTERRUPTED


def _interrupt(*_: object) -> None:
    """End in order what was started, and let no second Ctrl-C disturb that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _measured(stage: Stage, options: Options, given: argparse.Namespace, told: Console) -> tuple[list[Figure], bool]:
    """What was measured, and whether that is all: Ctrl-C keeps what there is."""
    figures: list[Figure] = []
    try:
        for name in given.only:
            if given.kubeconfig and name not in ON_ANY_CLUSTER:
                continue
            told.print(f"measuring ({name})")
            for figure in MEASURES[name](stage, options):
                figures.append(figure)  # noqa: PERF402 - one by one, so that an interruption keeps them
    except KeyboardInterrupt:
        return figures, False
    return figures, True


def _show(figures: list[Figure], given: argparse.Namespace, told: Console) -> None:
    Console(width=None if sys.stdout.isatty() else report.WIDTH).print(report.table(figures))
    for note in report.notes(figures):
        told.print(note, markup=False)
    about = {
        "at": datetime.now(UTC).isoformat(),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "asked": {name: str(value) for name, value in vars(given).items()},
    }
    given.json.write_text(report.as_json(figures, about) + "\n")
    told.print(f"the figures are in {given.json}", markup=False)


def _options(given: argparse.Namespace, progress: Callable[[str], None]) -> Options:
    return Options(
        size_mb=given.size_mb,
        rounds=given.rounds,
        sessions=given.sessions,
        keys=given.keys,
        crowd=given.crowd,
        stall_s=given.stall_s,
        flood_s=given.flood_s,
        pods=given.pods,
        progress=progress,
    )


def _wanted(given: argparse.Namespace) -> Wanted:
    return Wanted(
        who=frozenset(EVERYBODY[name] for name in given.who),
        kubeconfig=given.kubeconfig,
        pod=given.pod,
        group=given.group,
        cipher=given.cipher,
    )


if __name__ == "__main__":
    sys.exit(main())
