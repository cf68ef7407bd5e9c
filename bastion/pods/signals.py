"""Delivers a signal to a session's processes by their marker; used by pods.kube.

A pod exec has no signal channel, so a second exec sends it to every process of
the session, as sshd sends it to a whole process group.
"""

from __future__ import annotations

import re

from bastion.pods.markers import FIND, NO_PROC

NAMES = frozenset(
    {
        *("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"),
        *("CONT", "STOP", "TSTP"),
    }
)
"""Those of RFC 4254 section 6.10, and three that clients send beside them."""

IGNORED = frozenset({"WINCH"})
"""A new size of the terminal tells the process by itself."""

_SCRIPT = (
    FIND
    + """
wanted=$1
look /proc/[0-9]*
n=0
for p in $here; do kill -s "$2" "${p%%:*}" 2>/dev/null && n=$((n+1)); done
echo "signalled $n"
"""
)

_ANSWER = re.compile(rb"signalled ([0-9]{1,6})\s*")


def argv(marker: str, name: str) -> tuple[str, ...]:
    """What to execute in the container to signal every process that carries the marker; `name` is one of NAMES."""
    return ("sh", "-c", _SCRIPT, "sh", marker, name)


def complaint(name: str, said: bytes) -> str:
    """Why a signal did not arrive, from what the script said; "" if it did."""
    answer = _ANSWER.fullmatch(said)
    if answer is not None and int(answer[1]):
        return ""
    if said.strip() == NO_PROC.encode():
        return f"signal {name} was not delivered: the container has no /proc that can be read"
    if answer is not None:
        return (
            f"signal {name} was not delivered: none of the session's processes can be found, or they are another user's"
        )
    return f"signal {name} was not delivered: the container has nothing to deliver it with"
