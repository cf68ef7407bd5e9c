"""What was tried on a connection before it was authenticated, and how often in vain (pure); kept by ssh.connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bastion.model import Credential

MAX_OFFERED = 20
"""How many fingerprints of refused keys one event names."""

MAX_REQUESTS = 100
"""Requests after which a connection is closed though few failed: offering a good key again and again fails never."""


@dataclass(slots=True)
class Attempts:
    """Counts as OpenSSH does (auth2.c): each failure of whatever method, but not a first request for "none".

    A request that is overtaken by the next one is not answered; it counts as failed.
    """

    allowed: int
    login: str | None = None
    offered: list[str] = field(default_factory=list)
    unavailable: bool = False
    """Whether keys were refused because people could not be looked up."""

    failed: int = 0
    _requests: int = 0
    _waiting: bool = False
    _free: bool = False

    @property
    def exhausted(self) -> bool:
        """Whether there were too many."""
        return self.failed >= self.allowed or self._requests > MAX_REQUESTS

    def begins(self, method: bytes) -> None:
        """A request has come."""
        self._settle()
        self._requests += 1
        self._waiting = True
        self._free = method == b"none" and self._requests == 1

    def fails(self) -> None:
        """The request is answered with a failure, also one whose key was known: its signature was wrong."""
        self._waiting = True
        self._settle()

    def stands(self) -> None:
        """The request's key is known; it fails yet if it came with a signature that is wrong."""
        self._waiting = False

    def refuse(self, credential: Credential) -> None:
        """Remember a key that nobody has."""
        if credential.id not in self.offered and len(self.offered) < MAX_OFFERED:
            self.offered.append(credential.id)

    def _settle(self) -> None:
        if self._waiting and not self._free:
            self.failed += 1
        self._waiting = self._free = False
