"""What an ssh client can be asked to do, whichever it is; filled by the clients_*.py beside it, used by tests/clients.

What a client cannot do it says itself, in `lacks`, with the reason; the tests
of that feature leave it out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bastion.model import WindowSize

HOST = "127.0.0.1"
PATIENCE_S = 60.0


class Feature(Enum):
    """What not every client can do."""

    RESIZE = auto()
    SESSIONS = auto()
    REKEY = auto()
    BREAK = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where to go and with which key.

    key: a private key in OpenSSH's format; beside it are KEY.ppk and KEY.dropbear (clients_programs.convert).
    host_key: the key that the client must find there, "ssh-ed25519 AAAA…"; with any other it must not go on.
    home: a folder of the client's own.
    source: the address to come from, for clients that let people choose.
    """

    port: int
    login: str
    key: Path
    host_key: str
    home: Path
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended, as the client tells it."""

    status: int
    stdout: bytes
    stderr: bytes


class Shell(Protocol):
    """A person at a terminal with a shell on it."""

    def type(self, text: str | bytes) -> None:
        """Press keys; a carriage return is Enter."""

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Wait until the pattern shows in what came since the last match."""

    def resize(self, size: WindowSize) -> None:
        """Change the window."""

    def wait(self) -> int:
        """Read until the shell ends; its exit status."""


class Connection(Protocol):
    """One connection that carries several sessions."""

    def run_all(self, commands: Sequence[str]) -> list[Done]:
        """Run commands at the same time, each in a session of its own."""


class Client(ABC):
    """An ssh client. Methods that stand for a feature are overridden by those that have it."""

    name: ClassVar[str]
    lacks: ClassVar[Mapping[Feature, str]] = {}
    host_key_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """What a library raises for a host key that is not the one it knows; a program ends with a status."""

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def run(self, door: Door, command: str, stdin: bytes = b"") -> Done:
        """Run a command to its end; reads and writes at the same time."""

    @abstractmethod
    def shell(self, door: Door, size: WindowSize) -> AbstractContextManager[Shell]:
        """A shell on a terminal."""

    @abstractmethod
    def run_with_keepalives(self, door: Door, command: str) -> Done:
        """Run a command, asking the server every second whether it is there."""

    def connection(self, door: Door) -> AbstractContextManager[Connection]:
        """A connection for several sessions (SESSIONS)."""
        raise NotImplementedError(self.lacks[Feature.SESSIONS])

    def run_rekeying(self, door: Door, command: str, stdin: bytes) -> tuple[Done, int]:
        """Run a command with new keys after every megabyte; also how many key exchanges there were (REKEY)."""
        raise NotImplementedError(self.lacks[Feature.REKEY])

    def press_break(self, shell: Shell) -> None:
        """Send a break to what the shell runs (BREAK)."""
        raise NotImplementedError(self.lacks[Feature.BREAK])
