"""Ends what sessions left in their containers, by their markers; used by pods.kube.

Closing an exec ends nothing: no signal is sent, a tty's processes live on for
ever (recorded from a real 1.36; kubernetes#89031). So a second exec looks for
the marker in /proc/*/environ and sends HUP, then TERM, then KILL. Sessions that
end in one container within a moment share that exec, so that many short
commands cost the API server little more than themselves.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.model import Reaped
from bastion.pods.markers import FIND, NO_PROC

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bastion.model import Target

    Look = Callable[[Target, tuple[str, ...], bool], Awaitable[list[Reaped]]]

GATHER_S = 0.25
"""For how long markers are gathered before a container is looked into."""

MOST_AT_ONCE = 100
"""Markers that one exec looks for."""

# $1 "lingering" or "", then markers. All of /proc is gone through once before each signal and once at the end, for
# children made meanwhile; in between only what was found is looked at. The second KILL is for
# what was made until its maker was dead. There are at most 40 such rounds, or 12 of a second where sleep knows no
# fractions.
# Of what is found, `others` are processes of another user beside them, which can be neither read nor ended. Where
# nothing of a session is found they are not counted: nothing tells them from the container's own daemons then.
# With lingering, those that left the session's own process session (setsid) are not touched, and nobody is killed.
_SCRIPT = (
    FIND
    + """
lingering=$1
shift
wanted=
for m; do wanted="$wanted$m$end"; done
ours() { if [ -n "$lingering" ]; then set -- $inside; else set -- $here; fi; for p; do printf ' %s' "${p%%:*}"; done; }
dirs() { for p in $known; do printf ' %s' "/proc/${p%%:*}"; done; }
count() { n=0; for p in $2; do [ "${p#*:}" != "$1" ] || n=$((n+1)); done; }
others() {
  n=0
  set -f
  IFS=$end
  set -- $said
  IFS=$blanks
  set +f
  for line; do
    case $line in [0-9]*) stat "$line" ;; *) continue ;; esac
    [ ! -r "/proc/$pid/environ" ] && [ -e "/proc/$pid/environ" ] || continue
    case $family in *" $ppid "*|*" $sid "*) n=$((n+1)) ;; esac
  done; }
n=0
look /proc/[0-9]*
[ "$here" = ' ' ] || others
beside=$n
if sleep 0.1 2>/dev/null; then nap=0.1 rounds='1 2 3 4 5 6 7 8 9 10'; else nap=1 rounds='1 2 3'; fi
signals='HUP TERM KILL KILL'
[ -z "$lingering" ] || signals=HUP
for signal in $signals; do
  found=$(ours)
  [ -n "$found" ] || break
  kill -$signal $found 2>/dev/null
  kill -CONT $found 2>/dev/null
  for i in $rounds; do
    look $(dirs)
    [ -n "$(ours)" ] || break
    sleep $nap
  done
  look /proc/[0-9]*
done
for m; do
  count "$m" "$known"
  found=$n
  count "$m" "$here"
  echo "reaped $found left $n others $beside"
done
"""
)

_ANSWER = re.compile(rb"reaped ([0-9]{1,6}) left ([0-9]{1,6}) others ([0-9]{1,6})")


def argv(markers: Sequence[str], *, lingering: bool = False) -> tuple[str, ...]:
    """What to execute in the container to end every process that carries one of the markers (at least one).

    lingering: hang up only, and leave what was started to outlive its session.
    """
    return ("sh", "-c", _SCRIPT, "sh", "lingering" if lingering else "", *markers)


def answers(stdout: bytes, markers: Sequence[str]) -> list[Reaped] | None:
    """What the script said of each marker; None if it did not finish.

    Raises BastionError(NO_SHELL) where there is no /proc to look into.
    """
    if stdout.strip() == NO_PROC.encode():
        raise BastionError(Code.NO_SHELL, "the container has no /proc that can be read")
    matches = [_ANSWER.fullmatch(line.strip()) for line in stdout.splitlines()]
    said = [(int(match[1]), int(match[2]), int(match[3])) for match in matches if match is not None]
    if len(said) != len(matches) or len(said) != len(markers):
        return None
    return [Reaped(ended=max(found - left, 0), left=left, unseen=others) for found, left, others in said]


class Reaper:
    """Gathers markers by container. `look` looks into one (True: lingering) and says for each marker what it found."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._gathering: dict[tuple[str, str, bool], _Batch] = {}

    async def reap(self, target: Target, marker: str, *, lingering: bool) -> Reaped:
        """End every process in the target that carries the marker. Raises what `look` raises."""
        key = (target.pod_uid, target.container, lingering)
        batch = self._gathering.get(key)
        if batch is None or len(batch.markers) >= MOST_AT_ONCE:
            batch = self._gathering[key] = _Batch()
            batch.task = asyncio.create_task(self._after_a_moment(key, target, batch), name="reap")
            batch.task.add_done_callback(_is_told_elsewhere)
        place = len(batch.markers)
        batch.markers.append(marker)
        found = await asyncio.shield(batch.task)
        return found[place]

    async def _after_a_moment(self, key: tuple[str, str, bool], target: Target, batch: _Batch) -> list[Reaped]:
        await asyncio.sleep(GATHER_S)
        if self._gathering.get(key) is batch:
            del self._gathering[key]
        return await self._look(target, tuple(batch.markers), key[2])


class _Batch:
    """Markers that will be looked for together."""

    task: asyncio.Task[list[Reaped]]

    def __init__(self) -> None:
        self.markers: list[str] = []


def _is_told_elsewhere(task: asyncio.Task[list[Reaped]]) -> None:
    """Whoever waits is told what went wrong; nobody may wait any more."""
    if not task.cancelled():
        task.exception()
