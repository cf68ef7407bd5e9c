"""Who asked what of the API server, as its audit log would say it; written by api, read by control."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: the path it named and the user it was made as, after impersonation."""

    method: str
    path: str
    user: str
    groups: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]


class AuditLog:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        self.entries: deque[Asked] = deque(maxlen=KEPT)

    def note(self, asked: Asked) -> None:
        """Write one down."""
        self.entries.append(asked)
