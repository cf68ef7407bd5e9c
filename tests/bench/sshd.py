"""OpenSSH's server on loopback, which everything is compared with; started by bench.stage."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import LIMIT_S, StepFailedError, started

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/person.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 1000
MaxSessions 100
PrintMotd no
PrintLastLog no
LogLevel ERROR
"""

_SEPARATION = Path("/run/sshd")
"""Where root's sshd shuts its children in; whoever installs the package may leave making it to the boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sshd:
    """A running sshd."""

    port: int
    pid: int


def path() -> str | None:
    """The program, which insists on being started by an absolute path; None if it is not installed."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")


@contextmanager
def serving(program: str, folder: Path) -> Iterator[Sshd]:
    """Serve with the keys `host` and `person` of the folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (folder / "sshd_config").write_text(_CONFIG.format(port=port, folder=folder))
    made = os.geteuid() == 0 and not _SEPARATION.exists()
    if made:
        _SEPARATION.mkdir(mode=0o755)
    try:
        with (folder / "sshd.log").open("wb") as log:
            argv = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
            with started(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
                _wait_for(port, process, folder / "sshd.log")
                yield Sshd(port=port, pid=process.pid)
    finally:
        if made:
            _SEPARATION.rmdir()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise StepFailedError(f"sshd did not start: {log.read_text()}")
