"""A bastion whose database fails when it starts: it says so in a line, and does not listen."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from support.faults import environment, serving
from support.outages import path_of
from support.trips import BIN

if TYPE_CHECKING:
    from support.faults import Faulty

CANNOT_BE_USED = "bastion: the database cannot be used: "

BOUND_BY_MODES = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
"""What runs a program as a root that may not write to files against their modes."""


def started(faulty: Faulty, *before: str) -> subprocess.CompletedProcess[str]:
    """`bastion serve`, which must end by itself."""
    argv = [*before, str(BIN / "bastion"), "serve"]
    return subprocess.run(argv, env=environment(faulty), capture_output=True, text=True, timeout=60, check=False)


def test_a_database_that_refuses_or_cannot_be_written_is_told_and_nobody_can_come_in(resting: Faulty) -> None:
    if resting.database is None:
        path = path_of(resting)
        for file in (path, path.parent):
            file.chmod(0o555)
        done = started(resting, *(BOUND_BY_MODES if os.geteuid() == 0 else ()))
        for file in (path.parent, path):
            file.chmod(0o755)
        cause = "attempt to write a readonly database"
    else:
        resting.database.refuse()
        done = started(resting)
        resting.database.resume()
        cause = "Connect call failed"

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(CANNOT_BE_USED)
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    with serving(resting):
        resting.is_whole()
