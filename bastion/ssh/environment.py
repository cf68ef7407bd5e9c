"""Which environment variables a client may set (pure); used by ssh.channel.

asyncssh takes every env request, LD_PRELOAD and BASH_ENV included, so the list
of what may pass is ours.
"""

from __future__ import annotations

import re

_ALLOWED = re.compile(r"LANG|LC_[A-Z]{1,20}|TERM|COLORTERM", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_.:@,+/=-]{0,256}", re.ASCII)
_TERM = re.compile(r"[A-Za-z0-9_.+-]{1,64}", re.ASCII)


def passes(name: str, value: str) -> bool:
    """Whether a client's variable reaches the process: LANG, LC_*, TERM and COLORTERM, with a plain value."""
    return _ALLOWED.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def terminal(name: str) -> str:
    """The terminal type of a pty request, or "xterm" for one that is no name."""
    return name if _TERM.fullmatch(name) else "xterm"
