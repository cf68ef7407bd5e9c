"""Asks after the node of a pod by having it do something small, ever more rarely; used by pods.watchman, following.

Over v5 the API server answers pings in a node's stead, so one that fell silent is found by knocking.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from bastion.pods import fate

if TYPE_CHECKING:
    from bastion.model import Target

SILENT_TWICE = 2
MOST_RARELY = 60
"""How many chances to knock, LOOK_AROUND_S apart, are let pass at most."""


class Knocked(Enum):
    """What became of a knock at a node: any answer (also a refusal), the word that it is away, or nothing."""

    ANSWERED = auto()
    NODE_AWAY = auto()
    SILENT = auto()


class Knocks:
    """When to knock at a node, and what to make of it: one that is only slow must not cost anybody their session."""

    def __init__(self) -> None:
        """For one session."""
        self._silent = 0
        self._passed = 0  # chances to knock since the last answer
        self._rarely = 0  # how many of them to let pass
        self._unanswered = self._unready = False

    def are_due(self, *, unanswered: bool, unready: bool) -> bool:
        """Whether to knock now: at once and after silence, ever more rarely while the node answers and is in doubt.

        unanswered: nothing came back for what was typed; unready: the pod looks as one does whose node is lost. That
        the one has been no reason for long says nothing about the other: a reason that is new is asked about at once.
        """
        is_new = (unanswered and not self._unanswered) or (unready and not self._unready)
        self._unanswered, self._unready = unanswered, unready
        if is_new:
            self._passed = self._rarely = 0
        if not (unanswered or unready):
            self._silent = self._passed = self._rarely = 0
            return False
        if self._silent:
            return True
        self._passed += 1
        return self._passed > self._rarely

    def heard(self, knocked: Knocked, target: Target) -> str:
        """What follows from a knock: the sentence for a lost node, or "" while it may be well."""
        self._silent = self._silent + 1 if knocked is Knocked.SILENT else 0
        if knocked is Knocked.ANSWERED:
            self._passed, self._rarely = 0, min(self._rarely * 2 + 4, MOST_RARELY)
        lost = knocked is Knocked.NODE_AWAY or self._silent >= SILENT_TWICE
        return fate.node_away(target) if lost else ""
