"""How a program is told to stop."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, sys
from bastion.system import told_to_stop

async def main():
    with told_to_stop() as stop:
        os.kill(os.getpid(), int(sys.argv[1]))
        await stop.wait()

asyncio.run(main())
for _ in range(3):
    os.kill(os.getpid(), int(sys.argv[1]))
print("ended by itself")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_stop_again_while_ending_ends_as_well_as_if_told_once(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number))], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "ended by itself\n", "")
