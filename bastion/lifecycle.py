"""How a trip ends: which exit status, which outcome, which words (pure); used by session, ssh and console.

Ours are 255 (the stream or the pod broke), 254 (denied, over a limit, or the
record cannot be kept), 253 (no such target, ambiguous, not running), 126 (no
shell, or it could not be started) and 2 (usage). A command's own 253 to 255
pass through unchanged; stderr and the record tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from bastion.errors import BastionError, Code
from bastion.events import Exited, HungUp
from bastion.model import Outcome

DENIED = 254
BROKEN = 255

LOSS = "at most 65536 bytes or 250 ms of output are missing"
"""How much a record that is not complete may lack of what the person saw: the bound that the recorder keeps."""

STATUS_OF: dict[Code, int] = {
    Code.LOGIN_INVALID: 253,
    Code.TARGET_MISSING: 253,
    Code.TARGET_AMBIGUOUS: 253,
    Code.TARGET_NOT_RUNNING: 253,
    Code.LOCKED_OUT: DENIED,
    Code.CLUSTER_DENIED: DENIED,
    Code.CLUSTER_UNAVAILABLE: BROKEN,
    Code.NO_SHELL: 126,
    Code.NOT_STARTED: 126,
    Code.STREAM_BROKEN: BROKEN,
    Code.RECORD_UNAVAILABLE: DENIED,
    Code.NOT_FOUND: 253,
    Code.CONFLICT: 253,
    Code.INVALID: 2,
}
"""The exit status of a session that fails with a code."""

REFUSALS = {
    Code.LOGIN_INVALID,
    Code.TARGET_MISSING,
    Code.TARGET_AMBIGUOUS,
    Code.TARGET_NOT_RUNNING,
    Code.LOCKED_OUT,
    Code.CLUSTER_DENIED,
    Code.RECORD_UNAVAILABLE,
    Code.INVALID,
}
"""Codes that, before anything ran, are a refusal of the person and not a failure of the machinery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a session ended.

    status: for the person's client; reason: one line for the record, and for the person's stderr
    unless it is "".
    """

    status: int
    outcome: Outcome
    reason: str = ""


def ending(end: Exited | HungUp | BastionError) -> Ending:
    """The ending that follows from what came first: the pod's end, the person's leaving, or a failure."""
    match end:
        case Exited(status=status, outcome=outcome, message=message):
            return Ending(status=status, outcome=outcome, reason=message)
        case HungUp(reason=reason):
            return Ending(status=BROKEN, outcome=Outcome.HUNG_UP, reason=reason)
        case BastionError(code=code, user_message=message):
            return Ending(status=STATUS_OF[code], outcome=_outcome(code), reason=message)


def _outcome(code: Code) -> Outcome:
    match code:
        case Code.RECORD_UNAVAILABLE:
            return Outcome.UNRECORDED
        case Code.STREAM_BROKEN | Code.CLUSTER_UNAVAILABLE:
            return Outcome.BROKEN
        case _:
            return Outcome.NOT_STARTED
