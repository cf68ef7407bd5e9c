"""What sessions left is found by their markers and ended, that of several with one look."""

from __future__ import annotations

import asyncio
import subprocess
import uuid

import pytest

from bastion.errors import BastionError, Code
from bastion.model import Reaped, Target
from bastion.pods import reaper
from support.trips import started

POD = Target(namespace="shop", pod="web", pod_uid="u1", container="app", labels={}, node="")
OTHER = Target(namespace="shop", pod="web", pod_uid="u2", container="app", labels={}, node="")
IGNORES = "trap '' HUP TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture(params=[(), ("busybox",)], ids=["sh", "busybox"])
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return tuple(request.param)


def fresh() -> str:
    return f"sess-{uuid.uuid4().hex}"


def marked(marker: str, *argv: str) -> list[str]:
    return ["env", f"BASTION_SESSION={marker}", *argv]


def test_the_processes_of_each_marker_are_ended_and_counted(shell: tuple[str, ...]) -> None:
    quiet, stubborn, nothing, untouched = fresh(), fresh(), fresh(), fresh()
    with (
        started(marked(quiet, "sleep", "1000")) as first,
        started(marked(quiet, "sleep", "1000")) as second,
        started(marked(stubborn, "sh", "-c", IGNORES)) as third,
        started(marked(untouched, "sleep", "1000")) as other,
    ):
        assert third.stdout is not None
        assert third.stdout.readline() == b"ready\n"
        markers = (quiet, nothing, stubborn)
        said = subprocess.run([*shell, *reaper.argv(markers)], capture_output=True, timeout=60, check=True)
        found = reaper.answers(said.stdout, markers)
        assert found is not None
        assert found[:2] == [Reaped(ended=2, left=0), Reaped(ended=0, left=0)]
        assert found[2].left == 0
        assert found[2].ended >= 1  # and perhaps the sleep that it was in
        for process in (first, second, third):
            assert process.wait(10) < 0
        assert other.poll() is None


def test_where_nothing_is_left_it_says_so(shell: tuple[str, ...]) -> None:
    markers = (fresh(), fresh())
    said = subprocess.run([*shell, *reaper.argv(markers)], capture_output=True, timeout=60, check=True)

    assert reaper.answers(said.stdout, markers) == [Reaped(ended=0, left=0)] * 2


@pytest.mark.parametrize("said", [b"", b"reaped 1 left 0\n", b"reaped 1 left 0\nreaped x left 0\n", b"a\nb\n"])
def test_an_answer_that_is_not_whole_is_none(said: bytes) -> None:
    assert reaper.answers(said, ("a", "b")) is None


class Looked:
    """Looks into containers, and remembers for what."""

    def __init__(self, error: BastionError | None = None) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self._error = error

    async def __call__(self, target: Target, markers: tuple[str, ...]) -> list[Reaped]:
        self.calls.append((target.pod_uid, markers))
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        return [Reaped(ended=int(marker), left=0) for marker in markers]


async def test_markers_of_one_container_share_a_look_and_each_gets_its_own_answer() -> None:
    look = Looked()
    gathering = reaper.Reaper(look)

    found = await asyncio.gather(
        gathering.reap(POD, "1"), gathering.reap(OTHER, "2"), gathering.reap(POD, "3"), gathering.reap(POD, "4")
    )

    assert [one.ended for one in found] == [1, 2, 3, 4]
    assert sorted(look.calls) == [("u1", ("1", "3", "4")), ("u2", ("2",))]


async def test_no_look_is_for_more_markers_than_fit() -> None:
    look = Looked()
    gathering = reaper.Reaper(look)
    count = reaper.MOST_AT_ONCE + 5

    found = await asyncio.gather(*(gathering.reap(POD, str(number)) for number in range(count)))

    assert [one.ended for one in found] == list(range(count))
    assert [len(markers) for _, markers in look.calls] == [reaper.MOST_AT_ONCE, 5]


async def test_whoever_waits_is_told_that_it_failed_and_whoever_left_changes_nothing() -> None:
    gathering = reaper.Reaper(Looked(BastionError(Code.NO_SHELL, "no shell")))
    impatient = asyncio.ensure_future(gathering.reap(POD, "1"))
    patient = asyncio.ensure_future(gathering.reap(POD, "2"))
    await asyncio.sleep(0)
    impatient.cancel()

    with pytest.raises(BastionError, match="no shell"):
        await patient
    assert impatient.cancelled()
