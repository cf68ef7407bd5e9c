"""How the processes of a session are found in a container, as lines of POSIX sh; used by pods.reaper and pods.signals.

A session's processes carry its id in their environment, where every child
inherits it. Nothing but sh, kill and either grep -z or tr and grep is needed:
no ps, no pgrep. What clears its environment is not found.
"""

from __future__ import annotations

VARIABLE = "BASTION_SESSION"
LEADER = "BASTION_SESSION_LEADER"
"""Holds the pid of the session's first process: what is in another process session than that left on purpose."""

NO_PROC = "no proc"
"""What a script prints where /proc cannot be read."""

# One grep reads all environments where grep knows -z; elsewhere (busybox) it is one tr and grep for each.
# pids -e NAME=VALUE ...: the processes with one of them in their environment, a line each.
FIND = f"""
[ -r /proc/self/environ ] || {{ echo '{NO_PROC}'; exit 0; }}
if printf 'a\\0b\\0' | grep -qzx b 2>/dev/null; then
  look() {{ grep -lszxF "$@" /proc/[0-9]*/environ 2>/dev/null; }}
else
  look() {{ for e in /proc/[0-9]*/environ; do
    if {{ tr '\\0' '\\n' <"$e" | grep -qxF "$@"; }} 2>/dev/null; then echo "$e"; fi; done; }}
fi
pids() {{ look "$@" | while IFS= read -r e; do e=${{e#/proc/}}; echo "${{e%/environ}}"; done; }}
"""
