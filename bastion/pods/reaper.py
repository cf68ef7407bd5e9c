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

from bastion.model import Reaped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bastion.model import Target

    Look = Callable[[Target, tuple[str, ...]], Awaitable[list[Reaped]]]

GATHER_S = 0.25
"""For how long markers are gathered before a container is looked into."""

MOST_AT_ONCE = 100
"""Markers that one exec looks for."""

# $@ markers; they hold no blanks, being session ids.
# One grep reads all environments where grep knows -z; elsewhere (busybox) it is one tr and grep for each.
_SCRIPT = r"""
if printf 'a\0b\0' | grep -qzx b 2>/dev/null; then
  look() { grep -lszxF "$@" /proc/[0-9]*/environ 2>/dev/null; }
else
  look() { for e in /proc/[0-9]*/environ; do
    if { tr '\0' '\n' <"$e" | grep -qxF "$@"; } 2>/dev/null; then echo "$e"; fi; done; }
fi
pids() { look "$@" | while IFS= read -r e; do e=${e#/proc/}; echo "${e%/environ}"; done; }
count() { n=0; for p in $(pids -e "BASTION_SESSION=$1"); do n=$((n+1)); done; echo $n; }
all=
for m; do all="$all -e BASTION_SESSION=$m"; done
before=
if [ -n "$(pids $all)" ]; then for m; do before="$before$(count "$m") "; done; fi
for signal in HUP TERM KILL; do
  found=$(pids $all)
  [ -n "$found" ] || break
  kill -$signal $found 2>/dev/null
  kill -CONT $found 2>/dev/null
  for i in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$(pids $all)" ] || break
    sleep 0.1 2>/dev/null || sleep 1
  done
done
for m; do
  if [ -n "$before" ]; then echo "reaped ${before%% *} left $(count "$m")"; before=${before#* }
  else echo "reaped 0 left 0"; fi
done
"""

_ANSWER = re.compile(rb"reaped ([0-9]{1,6}) left ([0-9]{1,6})")


def argv(markers: Sequence[str]) -> tuple[str, ...]:
    """What to execute in the container to end every process that carries one of the markers (at least one)."""
    return ("sh", "-c", _SCRIPT, "sh", *markers)


def answers(stdout: bytes, markers: Sequence[str]) -> list[Reaped] | None:
    """What the script said of each marker; None if it did not finish."""
    matches = [_ANSWER.fullmatch(line.strip()) for line in stdout.splitlines()]
    said = [(int(match[1]), int(match[2])) for match in matches if match is not None]
    if len(said) != len(matches) or len(said) != len(markers):
        return None
    return [Reaped(ended=max(found - left, 0), left=left) for found, left in said]


class Reaper:
    """Gathers markers by container. `look` looks into one, and says for each marker what it found."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._gathering: dict[tuple[str, str], _Batch] = {}

    async def reap(self, target: Target, marker: str) -> Reaped:
        """End every process in the target that carries the marker. Raises what `look` raises."""
        key = (target.pod_uid, target.container)
        batch = self._gathering.get(key)
        if batch is None or len(batch.markers) >= MOST_AT_ONCE:
            batch = self._gathering[key] = _Batch()
            batch.task = asyncio.create_task(self._after_a_moment(key, target, batch), name="reap")
            batch.task.add_done_callback(_is_told_elsewhere)
        place = len(batch.markers)
        batch.markers.append(marker)
        found = await asyncio.shield(batch.task)
        return found[place]

    async def _after_a_moment(self, key: tuple[str, str], target: Target, batch: _Batch) -> list[Reaped]:
        await asyncio.sleep(GATHER_S)
        if self._gathering.get(key) is batch:
            del self._gathering[key]
        return await self._look(target, tuple(batch.markers))


class _Batch:
    """Markers that will be looked for together."""

    task: asyncio.Task[list[Reaped]]

    def __init__(self) -> None:
        self.markers: list[str] = []


def _is_told_elsewhere(task: asyncio.Task[list[Reaped]]) -> None:
    """Whoever waits is told what went wrong; nobody may wait any more."""
    if not task.cancelled():
        task.exception()
