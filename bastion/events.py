"""What flows on a trip: two closed unions, one per direction; spoken by ssh, session, taps, recorder and pods.

A pod's stream always ends with `Exited`: never by an exception, never by
silence. `InputClosed` (the client's EOF) and `HungUp` (the client is gone) are
kept apart, or pod processes would run for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bastion.model import Outcome, Stream, WindowSize


@dataclass(frozen=True, slots=True)
class Input:
    """Bytes the person sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class InputClosed:
    """The person's end of file; output may still come."""


@dataclass(frozen=True, slots=True)
class Resized:
    """The person's terminal has a new size."""

    size: WindowSize


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal request, by its RFC 4254 name without SIG: such as "INT" or "TERM"."""

    name: str


@dataclass(frozen=True, slots=True)
class HungUp:
    """The person is gone; nothing can be sent to them any more."""

    reason: str


ClientEvent = Input | InputClosed | Resized | Signalled | HungUp


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes from the pod, at most 32 KiB at a time."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Exited:
    """The end of a pod's stream.

    outcome: EXITED (status is the process's own, 0 to 255), NOT_STARTED (nothing ran)
    or BROKEN (the stream ended without a status; status is 255).
    message: for people; "" when the process simply exited.
    """

    status: int
    outcome: Outcome
    message: str = ""


PodEvent = Output | Exited
SessionEvent = ClientEvent | PodEvent
