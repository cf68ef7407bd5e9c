"""OpenSSH, plink and dbclient, the clients that are programs; used by clients_matrix."""

from __future__ import annotations

import os
import shlex
import subprocess
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from support.clients import HOST, PATIENCE_S, Client, Done, Feature
from support.terminal import Terminal
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bastion.model import WindowSize
    from support.clients import Connection, Door, Shell

NO_COMMAND = ("-N",)


def convert(key: Path) -> None:
    """Put a key beside itself in the formats of PuTTY and dropbear."""
    for argv in (
        ["puttygen", str(key), "-O", "private", "-o", f"{key}.ppk"],
        ["dropbearconvert", "openssh", "dropbear", str(key), f"{key}.dropbear"],
    ):
        subprocess.run(argv, check=True, capture_output=True)


class Program(Client):
    """A client that is a program: its arguments are what differs.

    unsent_modes: words of stty for modes that it does not tell the server.
    """

    unsent_modes: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def argv(self, door: Door, *options: str, command: str | None = None) -> list[str]:
        """The program and its arguments; what it reads from its home is made first."""

    def environment(self, door: Door) -> dict[str, str]:
        """What the program sees: a home of its own, and no agent."""
        return {"PATH": os.environ["PATH"], "HOME": str(door.home), "TERM": "xterm"}

    def run(self, door: Door, command: str, stdin: bytes = b"", *options: str) -> Done:
        """Run it without a terminal anywhere, so that it cannot ask a question."""
        return self._finish(self.argv(door, *options, command=command), door, stdin)

    @contextmanager
    def shell(self, door: Door, size: WindowSize, stty: Sequence[str] = ()) -> Iterator[Terminal]:
        """Run it on a pseudo-terminal, which `stty` is applied to before."""
        argv = ["sh", "-c", f'stty {shlex.join(stty)}; exec "$@"', "sh", *self.argv(door)] if stty else self.argv(door)
        with Terminal(argv, size, self.environment(door)) as terminal:
            yield terminal

    @contextmanager
    def started(self, door: Door, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run it beside the test; killed at the end if it still runs."""
        with subprocess.Popen(
            self.argv(door, command=command),
            env=self.environment(door),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def _master(
        self, door: Door, master: Sequence[str], session: Sequence[str], ready: Callable[[], bool]
    ) -> Iterator[Connection]:
        """A first process holds the connection, the sessions are processes that go through it."""
        with subprocess.Popen(
            master, env=self.environment(door), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            try:
                wait_until(ready)
                yield _Shared(self, door, session)
            finally:
                process.terminate()

    def _finish(self, argv: Sequence[str], door: Door, stdin: bytes = b"") -> Done:
        done = subprocess.run(
            argv,
            env=self.environment(door),
            input=stdin,
            capture_output=True,
            start_new_session=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


class _Shared:
    """Fills Connection by one process for each session."""

    def __init__(self, program: Program, door: Door, argv: Sequence[str]) -> None:
        self._program, self._door, self._argv = program, door, argv

    def run_all(self, commands: Sequence[str]) -> list[Done]:
        """Run commands at the same time."""
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda command: self._program._finish([*self._argv, command], self._door), commands))


class OpenSsh(Program):
    """`ssh` of OpenSSH."""

    name = "openssh"

    def argv(self, door: Door, *options: str, command: str | None = None) -> list[str]:
        known = door.home / "known_hosts"
        known.write_text(f"[{HOST}]:{door.port} {door.host_key}\n")
        settings = {
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "IdentityFile": door.key,
            "IdentitiesOnly": "yes",
        }
        given = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        to = ["-b", door.source, "-p", str(door.port), f"{door.login}@{HOST}"]
        return ["ssh", "-F", "none", *given, *options, *to, *([] if command is None else [command])]

    @contextmanager
    def connection(self, door: Door) -> Iterator[Connection]:
        """ControlMaster: the socket's path must fit 107 bytes, so it stands in the working folder by its name."""
        path = door.home / "m"
        mux = ("-o", f"ControlPath={path}")
        with self._master(door, self.argv(door, *mux, "-M", *NO_COMMAND), self.argv(door, *mux), path.exists) as shared:
            yield shared

    def run_rekeying(self, door: Door, command: str, stdin: bytes) -> tuple[Done, int]:
        """RekeyLimit=1M, both ways; -v tells of each exchange."""
        done = self.run(door, command, stdin, "-v", "-o", "RekeyLimit=1M")
        return done, done.stderr.count(b"SSH2_MSG_NEWKEYS received")

    def run_with_keepalives(self, door: Door, command: str) -> Done:
        """One that is not answered ends the connection."""
        return self.run(door, command, b"", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1")

    def press_break(self, shell: Shell) -> None:
        """~B at the beginning of a line."""
        shell.type("\r~B")


class Plink(Program):
    """`plink` of PuTTY."""

    name = "plink"
    lacks: ClassVar = {Feature.BREAK: "plink has no key for it; PuTTY's window has a menu"}
    unsent_modes = frozenset({"-icrnl", "tostop"})

    def argv(self, door: Door, *options: str, command: str | None = None) -> list[str]:
        fixed = ["plink", *options, "-batch", "-noagent", "-hostkey", door.host_key.split()[1], "-i", f"{door.key}.ppk"]
        return [*fixed, "-P", str(door.port), f"{door.login}@{HOST}", *([] if command is None else [command])]

    @contextmanager
    def connection(self, door: Door) -> Iterator[Connection]:
        """-share: the first is the upstream of the others."""
        there = self.argv(door, "-shareexists")

        def ready() -> bool:
            return self._finish(there, door).status == 0

        argv = self.argv(door, "-share")
        with self._master(door, self.argv(door, "-share", *NO_COMMAND), argv, ready) as shared:
            yield shared

    def run_rekeying(self, door: Door, command: str, stdin: bytes) -> tuple[Done, int]:
        """By a saved session, as there is no option; -v tells of each exchange."""
        self._save(door, "RekeyBytes=1M")
        done = self.run(door, command, stdin, "-load", "saved", "-v")
        return done, done.stderr.count(b"Initialised") // 4

    def run_with_keepalives(self, door: Door, command: str) -> Done:
        """Its keepalives are SSH_MSG_IGNORE, which wants no answer."""
        self._save(door, "PingIntervalSecs=1")
        return self.run(door, command, b"", "-load", "saved")

    def _save(self, door: Door, line: str) -> None:
        folder = door.home / ".putty" / "sessions"
        folder.mkdir(parents=True)
        (folder / "saved").write_text(f"{line}\n")


class Dbclient(Program):
    """`dbclient` of dropbear."""

    name = "dbclient"
    lacks: ClassVar = {
        Feature.SESSIONS: "dbclient opens one session for each connection",
        Feature.REKEY: "when dbclient changes keys is fixed when it is built: after 1 GiB",
        Feature.BREAK: "dbclient has no key for it",
    }

    def argv(self, door: Door, *options: str, command: str | None = None) -> list[str]:
        folder = door.home / ".ssh"
        folder.mkdir(exist_ok=True)
        (folder / "known_hosts").write_text(f"{HOST} {door.host_key}\n")
        fixed = ["dbclient", *options, "-i", f"{door.key}.dropbear", "-b", door.source, "-p", str(door.port)]
        return [*fixed, f"{door.login}@{HOST}", *([] if command is None else [command])]

    def run_with_keepalives(self, door: Door, command: str) -> Done:
        """Three that are not answered end the connection."""
        return self.run(door, command, b"", "-K", "1")
