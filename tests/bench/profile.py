"""Where a bastion's time goes while it does one thing: the profile that explains a figure; called by __main__."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import bulk
from bench.figures import SQLITE, UNRECORDED
from bench.processes import timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.options import Options
    from bench.stage import Stage


def _download(stage: Stage, options: Options, who: str) -> None:
    bulk.download(stage, who, options.size_mb)


def _upload(stage: Stage, options: Options, who: str) -> None:
    bulk.upload(stage, who, options.size_mb)


def _open(stage: Stage, options: Options, who: str) -> None:
    for _ in range(options.sessions * options.rounds):
        timed(stage.argv(who, "true"))
    stage.settle(who)


def _frames(stage: Stage, options: Options, who: str) -> None:
    bulk.frames_on_a_terminal(stage, who, options.size_mb)


SUBJECTS: Mapping[str, Callable[[Stage, Options, str], None]] = {
    "download": _download,
    "upload": _upload,
    "open": _open,
    "frames": _frames,
}


def profiles(stage: Stage, options: Options, subject: str) -> Iterator[str]:
    """The functions with the most time of their own, without recording and with it.

    What a profiler adds to each call makes small functions look dearer than they are; work in threads is not seen.
    """
    for who in (UNRECORDED, SQLITE):
        options.progress(f"profile of {subject}: {who}")
        bastion = stage.bastions[who]
        SUBJECTS[subject](stage, options, who)  # what only the first time costs
        bastion.tell("profile")
        SUBJECTS[subject](stage, options, who)
        yield f"{subject}, {who}\n{bastion.ask('profiled')['text']}"
