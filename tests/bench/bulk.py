"""Bulk data through each contender's own client: (a) down and up, (f) in 4 KiB writes; called by __main__."""

from __future__ import annotations

import contextlib
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, cast

from bench import processes
from bench.figures import DOWNLOAD, FRAMES_PIPE, FRAMES_PTY, KUBECTL, UPLOAD, Figure
from bench.rounds import measured
from bench.stage import BLOCK, log_text

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping

    from bench.options import Options
    from bench.stage import Stage

PIECE = 1 << 20


def transfers(stage: Stage, options: Options) -> Iterator[Figure]:
    """(a) Download and upload."""
    yield from _rounds(stage, options, DOWNLOAD, download, options.size_mb)
    yield from _rounds(stage, options, UPLOAD, upload, options.size_mb)


def frames(stage: Stage, options: Options) -> Iterator[Figure]:
    """(f) Output written 4 KiB at a time, on a terminal and on a pipe; half of what bulk transfers move."""
    size_mb = max(1, options.size_mb // 2)
    yield from _rounds(stage, options, FRAMES_PTY, frames_on_a_terminal, size_mb)
    yield from _rounds(stage, options, FRAMES_PIPE, frames_on_a_pipe, size_mb)


def _rounds(
    stage: Stage, options: Options, what: str, move: Callable[[Stage, str, int], float], size_mb: int
) -> Iterator[Figure]:
    def once(who: str) -> Mapping[str, list[float]]:
        rate = size_mb * BLOCK / 1e6 / move(stage, who, size_mb)
        stage.settle(who)
        return {what: [rate]}

    # kubectl wants a terminal of its own where the others are only told to make one
    contenders = [who for who in stage.contenders if what != FRAMES_PTY or who != KUBECTL]
    yield from measured(
        options, what, {what: "MB/s"}, {who: partial(once, who) for who in contenders}, rounds=options.rounds
    )


def download(stage: Stage, who: str, blocks: int) -> float:
    """Seconds from the command's start to its last byte."""
    return _read(stage.argv(who, f"echo ready; exec {stage.blocks(blocks)}"), blocks * BLOCK)


def upload(stage: Stage, who: str, blocks: int) -> float:
    """Seconds from the command's start until it has read everything and ended."""
    data = log_text(BLOCK)
    argv = stage.argv(who, "echo ready; cat > /dev/null; echo done")
    with processes.client(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        processes.expect(process, b"ready\n")
        begin = time.perf_counter()
        with contextlib.suppress(BrokenPipeError):  # what it says, or does not, tells more
            for _ in range(blocks):
                process.stdin.write(data)
            process.stdin.close()
        said = process.stdout.read()
        seconds = time.perf_counter() - begin
        if said != b"done\n":
            raise processes.failed(process, f"it said {said!r} instead of done")
    return seconds


def frames_on_a_terminal(stage: Stage, who: str, blocks: int) -> float:
    """Seconds for blocks written 4 KiB at a time, raw."""
    command = f"stty raw -echo; echo ready; {stage.blocks(blocks)} | dd bs=4096 2>/dev/null"
    return _read(stage.argv(who, command, tty=True), blocks * BLOCK)


def frames_on_a_pipe(stage: Stage, who: str, blocks: int) -> float:
    """The same without a terminal."""
    return _read(stage.argv(who, f"echo ready; {stage.blocks(blocks)} | dd bs=4096 2>/dev/null"), blocks * BLOCK)


def _read(argv: list[str], expected: int) -> float:
    with processes.client(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        processes.expect(process, b"ready\n")
        begin = time.perf_counter()
        size = _count(process)
        seconds = time.perf_counter() - begin
        if size != expected:
            raise processes.failed(process, f"{size} bytes came of {expected}")
    return seconds


def _count(process: subprocess.Popen[bytes]) -> int:
    stdout = cast("io.BufferedReader", process.stdout)
    size = 0
    while data := stdout.read1(PIECE):
        size += len(data)
    return size
