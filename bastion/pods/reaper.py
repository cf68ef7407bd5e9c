"""Ends what a session left in its container, by its marker; used by pods.kube.

Closing an exec ends nothing: no signal is sent, a tty's processes live on for
ever (recorded from a real 1.36; kubernetes#89031). So a second exec looks for
the marker in /proc/*/environ and sends HUP, then TERM, then KILL.
"""

from __future__ import annotations

import re

from bastion.model import Reaped

# $1 marker. One grep reads all environments where grep knows -z; elsewhere (busybox) it is one tr and grep for each.
_SCRIPT = r"""
m=BASTION_SESSION=$1
if printf 'a\0b\0' | grep -qzx b 2>/dev/null; then
  look() { grep -lszxF "$m" /proc/[0-9]*/environ 2>/dev/null; }
else
  look() { for e in /proc/[0-9]*/environ; do
    if { tr '\0' '\n' <"$e" | grep -qxF "$m"; } 2>/dev/null; then echo "$e"; fi; done; }
fi
pids() { look | while IFS= read -r e; do e=${e#/proc/}; echo "${e%/environ}"; done; }
n=0
for signal in HUP TERM KILL; do
  found=$(pids)
  [ -n "$found" ] || break
  if [ "$n" = 0 ]; then for p in $found; do n=$((n+1)); done; fi
  kill -$signal $found 2>/dev/null
  kill -CONT $found 2>/dev/null
  for i in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$(pids)" ] || break
    sleep 0.1 2>/dev/null || sleep 1
  done
done
left=0
for p in $(pids); do left=$((left+1)); done
echo "reaped $n left $left"
"""

_ANSWER = re.compile(rb"reaped ([0-9]{1,6}) left ([0-9]{1,6})\s*")


def argv(marker: str) -> tuple[str, ...]:
    """What to execute in the container to end every process that carries the marker."""
    return ("sh", "-c", _SCRIPT, "sh", marker)


def answer(stdout: bytes) -> Reaped | None:
    """What the script said; None if it did not finish."""
    match = _ANSWER.fullmatch(stdout.strip())
    if match is None:
        return None
    ended, left = int(match[1]), int(match[2])
    return Reaped(ended=ended - left if ended >= left else 0, left=left)
