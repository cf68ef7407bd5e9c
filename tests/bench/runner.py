"""`bastion serve` with a look inside, as a process of its own; started by bench.bastions.

    python -m bench.runner [--unrecorded]          settings come from the environment

It is the production program. Beside it, in the same event loop, it answers lines on stdin with lines on stdout:

    (at start)  {"port": 40123}
    lag         begin to measure how late the loop wakes who sleeps
    lagged      {"p50": …, "p99": …, "max": …} since then, in ms
    profile     begin to profile
    profiled    {"text": "…"}: the 30 functions with the most time of their own since then

It ends when stdin ends.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import json
import os
import pstats
import signal
import sys
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from bastion import app, logs, settings
from bastion.recorder import Recorder
from bench.figures import percentile

if TYPE_CHECKING:
    from bastion.events import SessionEvent
    from bastion.model import RecordRules
    from bastion.ports import AuditLog
    from bastion.ssh.listener import Listener

SLEEP_S = 0.005
TOP = 30


class KeepsNothing:
    """A recorder (`ports.Recorder`), a recording and a gate in one, all of them without effect."""

    def __init__(self, *_: AuditLog) -> None:
        """Made as the real one is."""

    def open(self, _session: str, _rules: RecordRules, *, pty: bool) -> KeepsNothing:  # noqa: ARG002 - the port's
        return self

    def take(self, _at_us: int, _event: SessionEvent) -> KeepsNothing:
        return self

    async def passed(self) -> None:
        return

    async def close(self) -> None:
        return

    async def drain(self) -> None:
        return


class Look:
    """Answers the lines on stdin, in the loop of the bastion."""

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._probe: asyncio.Task[None] | None = None
        self._profile = cProfile.Profile()
        self._input = b""

    def ready(self, listener: Listener) -> None:
        """Say where the bastion listens, and begin to answer."""
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)
        _say({"port": listener.port})

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            os.kill(os.getpid(), signal.SIGTERM)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._answer(line.decode())

    def _answer(self, asked: str) -> None:
        match asked:
            case "lag":
                self._lags.clear()
                self._probe = asyncio.create_task(self._measure_lag(), name="bench-lag")
            case "lagged":
                assert self._probe is not None
                self._probe.cancel()
                _say(
                    {
                        "p50": percentile(self._lags, 50),
                        "p99": percentile(self._lags, 99),
                        "max": max(self._lags, default=0.0),
                    }
                )
            case "profile":
                self._profile.clear()
                self._profile.enable()
            case "profiled":
                self._profile.disable()
                text = io.StringIO()
                pstats.Stats(self._profile, stream=text).sort_stats("tottime").print_stats(TOP)
                _say({"text": text.getvalue()})
            case _:
                raise ValueError(asked)

    async def _measure_lag(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(SLEEP_S)
            self._lags.append((time.perf_counter() - before - SLEEP_S) * 1000)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - what bench.bastions reads


def main() -> None:
    """Serve until told to stop."""
    given = settings.load(None)
    logs.configure(given.log)
    look = Look()
    recorder = KeepsNothing if "--unrecorded" in sys.argv[1:] else Recorder
    with patch("bastion.app.Recorder", recorder):
        asyncio.run(app.serve(given, look.ready))


if __name__ == "__main__":
    main()
