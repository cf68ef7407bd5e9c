"""Programs that the benchmark starts, and what /proc says of them; used by all of bench."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LIMIT_S = 180.0
"""How long any single step may take."""


class StepFailedError(Exception):
    """A step did not do what it was measured for; str() says why."""


@contextmanager
def started(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, **pipes: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that Ctrl-C does not reach, so that it is ended in order; ended with the block."""
    with subprocess.Popen(argv, env=env, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            end(process)


@contextmanager
def client(argv: Sequence[str], **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is killed when it takes too long; who waits for its output then finds the end of it."""
    with started(argv, **pipes) as process:
        timer = threading.Timer(LIMIT_S, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()


def expect(process: subprocess.Popen[bytes], due: bytes, *, errors: bool = False) -> None:
    """Read a line of a client's stdout, or stderr. Raises StepFailedError if it is another."""
    pipe = process.stderr if errors else process.stdout
    assert pipe is not None
    line = pipe.readline()
    if line != due:
        raise failed(process, f"it said {line!r} instead of {due!r}")


def failed(process: subprocess.Popen[bytes], why: str) -> StepFailedError:
    """End a client that did not do what it should; what to raise, with what it said on stderr if that was kept."""
    process.kill()
    said = process.stderr.read().decode(errors="replace").strip()[-500:] if process.stderr is not None else ""
    return StepFailedError(f"{why}, and ended with {process.wait()}" + (f": {said}" if said else ""))


def timed(argv: list[str]) -> float:
    """Seconds that a program takes. Raises StepFailedError if it fails."""
    begin = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise StepFailedError(f"{argv[0]} … {argv[-1]} ended with {done.returncode}: {said}")
    return seconds


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a program to end, then make it."""
    if process.stdin is not None and not process.stdin.closed:
        with suppress(BrokenPipeError):
            process.stdin.close()
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and those of its children that ended have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS  # utime, stime, cutime, cstime: fields 14 to 17 of proc(5)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def settle(pid: int) -> None:
    """Wait until a process has next to nothing left to do (what sessions leave behind is ended later)."""
    deadline = time.monotonic() + LIMIT_S
    before = cpu_s(pid)
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = cpu_s(pid)
        if now - before <= 1 / TICKS:
            return
        before = now
