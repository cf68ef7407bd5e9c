"""What sessions left is found by their markers and ended, that of several with one look."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bastion.errors import BastionError, Code
from bastion.model import Reaped, Target
from bastion.pods import kube, reaper
from bastion.pods.kube import REAP_WITHIN_S
from bastion.pods.markers import SOME
from support.apis import api_by, kubeconfig_at, pods_by
from support.podobjects import RUNNING, pod, terminated
from support.rawexec import raw_exec, response
from support.trips import started, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.podobjects import Object
    from support.rawexec import Peer

POD = Target(namespace="shop", pod="web", pod_uid="u1", container="app", labels={}, node="")
OTHER = Target(namespace="shop", pod="web", pod_uid="u2", container="app", labels={}, node="")
NAMES = ("plain", "nohup", "setsid")
IGNORES = "trap '' HUP TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def applets() -> Iterator[Path]:
    """A folder where everything is busybox, as in its image; whoever else a test runs as may look into it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        subprocess.run(["busybox", "--install", "-s", folder], check=True)
        yield path


@pytest.fixture(params=["sh", "bash", "busybox"])
def shell(request: pytest.FixtureRequest, applets: Path) -> tuple[str, ...]:
    """What the script's argv is put behind."""
    if request.param == "busybox":
        return ("env", f"PATH={applets}", "sh", "-c", 'exec "$@"', "sh")
    return ("bash", "-c", 'shift; exec bash --posix "$@"', "bash") if request.param == "bash" else ()


def fresh() -> str:
    return f"sess-{uuid.uuid4().hex}"


def found(marker: str) -> list[int]:
    """The processes that carry the marker."""
    wanted, pids = f"BASTION_SESSION={marker}".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in environ.read_bytes().split(b"\0"):
                pids.append(int(environ.parent.name))
    return pids


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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


def test_what_was_left_on_purpose_goes_on_where_that_is_allowed(shell: tuple[str, ...], tmp_path: Path) -> None:
    """As a session leaves them: sh as the leader, a child in its process session, nohup, and one that left it."""
    marker, pids = fresh(), tmp_path / "pids"
    script = (
        "sleep 1000 & echo $! >plain; "
        "nohup sleep 1000 >/dev/null 2>&1 & echo $! >nohup; "
        "setsid sh -c 'echo $$ >setsid; exec sleep 1000' & wait"
    )
    pids.mkdir()
    argv = marked(marker, "sh", "-c", 'export BASTION_SESSION_LEADER=$$; exec sh -c "$1"', "sh", script)
    with subprocess.Popen(argv, cwd=pids, start_new_session=True) as leader:
        wait_until(lambda: all((pids / name).exists() and (pids / name).read_text() for name in NAMES))
        numbers = {name: int((pids / name).read_text()) for name in NAMES}
        try:
            argv = [*shell, *reaper.argv((marker,), lingering=True)]
            said = subprocess.run(argv, capture_output=True, timeout=60, check=True)

            assert reaper.answers(said.stdout, (marker,)) == [Reaped(ended=2, left=2)]
            assert leader.wait(10) < 0
            assert not lives(numbers["plain"])
            assert lives(numbers["nohup"])
            assert lives(numbers["setsid"])
        finally:
            argv = [*shell, *reaper.argv((marker,))]
            said = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    assert reaper.answers(said.stdout, (marker,)) == [Reaped(ended=2, left=0)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_what_belongs_to_another_user_beside_it_is_counted_and_never_claimed(shell: tuple[str, ...]) -> None:
    """A shell and a program of root in the process session of what a session without root's rights left."""
    marker = fresh()
    script = "setpriv --reuid=65533 --clear-groups sleep 1000 & sleep 1000"
    argv = marked(marker, "sh", "-c", script)
    with subprocess.Popen(argv, start_new_session=True) as leader:
        try:
            wait_until(lambda: len(found(marker)) == 3)
            without_rights = ["setpriv", "--reuid=65533", "--clear-groups", *shell, *reaper.argv((marker,))]
            said = subprocess.run(without_rights, capture_output=True, timeout=60, check=True)

            assert reaper.answers(said.stdout, (marker,)) == [Reaped(ended=1, left=0, unseen=2)]
            assert leader.poll() is None
        finally:
            subprocess.run([*shell, *reaper.argv((marker,))], capture_output=True, timeout=60, check=True)


def reap(shell: tuple[str, ...], *markers: str) -> list[Reaped] | None:
    said = subprocess.run([*shell, *reaper.argv(markers)], capture_output=True, timeout=60, check=True)
    return reaper.answers(said.stdout, markers)


def test_beside_many_processes_it_is_done_in_time(shell: tuple[str, ...]) -> None:
    """In half of what a look may take; programs started for each process would take more than that."""
    markers = [fresh() for _ in range(40)]
    with ExitStack() as running:
        for _ in range(300):
            running.enter_context(started(["sleep", "1000"]))
        for marker in markers:
            running.enter_context(started(marked(marker, "sleep", "1000")))
        wait_until(lambda: all(found(marker) for marker in markers))
        begun = time.monotonic()

        assert reap(shell, *markers) == [Reaped(ended=1, left=0)] * 40
        assert time.monotonic() - begun < REAP_WITHIN_S / 2


def test_a_zombie_is_not_counted(shell: tuple[str, ...]) -> None:
    marker = fresh()
    with subprocess.Popen(marked(marker, "true")) as ended:
        wait_until(lambda: not lives(ended.pid))

        assert reap(shell, marker) == [Reaped(ended=0, left=0)]


def test_a_variable_that_looks_like_another_process_ends_nobody_else(shell: tuple[str, ...]) -> None:
    marker = fresh()
    with started(["sleep", "1000"]) as victim:
        forged = f"A=\n{victim.pid} (sleep) S 0 1 1\nBASTION_SESSION={marker}"
        with started(["env", forged, "sleep", "1000"]) as forger:
            wait_until(lambda: b"sleep" in Path(f"/proc/{forger.pid}/cmdline").read_bytes()[:6])

            assert reap(shell, marker) == [Reaped(ended=0, left=0)]
            assert victim.poll() is None
            assert forger.poll() is None


@pytest.mark.parametrize("value", ["", " of somebody", "\n", "*"])
def test_only_the_whole_marker_counts(shell: tuple[str, ...], value: str) -> None:
    marker = fresh()
    other = f"{marker[:-1]}{value}" if not value.strip() else f"{marker}{value}"
    with started(marked(other, "sleep", "1000")) as process:
        wait_until(lambda: found(other) == [process.pid])

        assert reap(shell, marker) == [Reaped(ended=0, left=0)]
        assert process.poll() is None


def test_whether_anybody_carries_a_marker_is_seen_behind_other_variables(shell: tuple[str, ...]) -> None:
    with started(["env", "-i", "A=1", "BASTION_SESSION=x", "/usr/bin/sleep", "1000"]) as process:
        wait_until(lambda: found("x") == [process.pid])

        assert subprocess.run([*shell, "sh", "-c", SOME], timeout=60, check=False).returncode == 0


def test_where_proc_cannot_be_read_it_says_so() -> None:
    with pytest.raises(BastionError, match="no /proc"):
        reaper.answers(b"no proc\n", ("a",))


def test_where_nothing_is_left_it_says_so(shell: tuple[str, ...]) -> None:
    markers = (fresh(), fresh())
    said = subprocess.run([*shell, *reaper.argv(markers)], capture_output=True, timeout=60, check=True)

    assert reaper.answers(said.stdout, markers) == [Reaped(ended=0, left=0)] * 2


@pytest.mark.parametrize(
    "said", [b"", b"reaped 1 left 0 others 0\n", b"reaped 1 left 0 others 0\nreaped x left 0 others 0\n", b"a\nb\n"]
)
def test_an_answer_that_is_not_whole_is_none(said: bytes) -> None:
    assert reaper.answers(said, ("a", "b")) is None


class Looked:
    """Looks into containers, and remembers for what."""

    def __init__(self, error: BastionError | None = None) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self._error = error

    async def __call__(self, target: Target, markers: tuple[str, ...], lingering: bool) -> list[Reaped]:  # noqa: FBT001 - as Reaper calls it
        del lingering
        self.calls.append((target.pod_uid, markers))
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        return [Reaped(ended=int(marker), left=0) for marker in markers]


async def test_markers_of_one_container_share_a_look_and_each_gets_its_own_answer() -> None:
    look = Looked()
    gathering = reaper.Reaper(look)

    found = await asyncio.gather(
        gathering.reap(POD, "1", lingering=False),
        gathering.reap(OTHER, "2", lingering=False),
        gathering.reap(POD, "3", lingering=False),
        gathering.reap(POD, "4", lingering=False),
    )

    assert [one.ended for one in found] == [1, 2, 3, 4]
    assert sorted(look.calls) == [("u1", ("1", "3", "4")), ("u2", ("2",))]


async def test_no_look_is_for_more_markers_than_fit() -> None:
    look = Looked()
    gathering = reaper.Reaper(look)
    count = reaper.MOST_AT_ONCE + 5

    found = await asyncio.gather(*(gathering.reap(POD, str(number), lingering=False) for number in range(count)))

    assert [one.ended for one in found] == list(range(count))
    assert [len(markers) for _, markers in look.calls] == [reaper.MOST_AT_ONCE, 5]


async def test_whoever_waits_is_told_that_it_failed_and_whoever_left_changes_nothing() -> None:
    gathering = reaper.Reaper(Looked(BastionError(Code.NO_SHELL, "no shell")))
    impatient = asyncio.ensure_future(gathering.reap(POD, "1", lingering=False))
    patient = asyncio.ensure_future(gathering.reap(POD, "2", lingering=False))
    await asyncio.sleep(0)
    impatient.cancel()

    with pytest.raises(BastionError, match="no shell"):
        await patient
    assert impatient.cancelled()


# --- which container is looked into, and what is believed of one that is not ---------------------

WEB = Target(namespace="shop", pod="web", pod_uid="uid-web", container="app")
RUNS = pod("web")
ENDED = pod("web", containers={"app": terminated("Error", 137)})
ANOTHER = pod("web", metadata={"uid": "uid-other"})

NOT_FOUND = "404 Not Found"
NO_CONTAINER = 'unable to upgrade connection: container not found ("app")'


async def is_silent(_peer: Peer) -> None:
    await asyncio.Event().wait()


async def refused_look(
    folder: Path, *pods: Object, status: str = "", message: str = "no", target: Target = WEB
) -> tuple[BastionError, list[str]]:
    """How looking into a container fails, and what was asked beside the pod; the exec is refused with a status."""
    refusal = response(status, json.dumps({"message": message}).encode()) if status else None
    async with raw_exec(folder, is_silent, lambda _: refusal, pods) as server:
        async with api_by(kubeconfig_at(folder, server.url, server.ca)) as api:
            with pytest.raises(BastionError) as caught:
                await pods_by(api).reap(target, fresh(), lingering=False)
        return caught.value, server.requests


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "SHOWS_AFTER_S", (0.01, 0.01))


async def test_a_pod_that_came_in_its_place_is_not_looked_into(tmp_path: Path) -> None:
    error, asked = await refused_look(tmp_path, ANOTHER)

    assert error.code is Code.TARGET_MISSING
    assert "replaced by another of that name; what the session left could not be looked for" in error.user_message
    assert asked == []


async def test_a_pod_that_is_gone_is_not_looked_into(tmp_path: Path) -> None:
    gone = Target(namespace="shop", pod="gone", pod_uid="uid-gone", container="app")
    error, asked = await refused_look(tmp_path, status=NOT_FOUND, target=gone)

    assert (error.code, "was deleted" in error.user_message) == (Code.TARGET_MISSING, True)
    assert [one.split()[1] for one in asked] == ["/api/v1/namespaces/shop/pods/gone"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("pods", "code"),
    [
        ([RUNS], Code.STREAM_BROKEN),
        ([RUNS, RUNS, ENDED], Code.TARGET_NOT_RUNNING),  # the node knows of an end before the pod shows it
        ([RUNS, pod("web", phase="Failed")], Code.TARGET_NOT_RUNNING),
        ([RUNS, pod("web", containers={"other": RUNNING})], Code.TARGET_NOT_RUNNING),
        ([RUNS, ANOTHER], Code.TARGET_MISSING),
    ],
)
@pytest.mark.parametrize(
    ("status", "message"),
    [(NOT_FOUND, "no"), ("400 Bad Request", "no"), ("500 Internal Server Error", NO_CONTAINER)],
)
async def test_that_nothing_can_be_left_is_believed_only_where_the_pod_shows_it(
    tmp_path: Path, pods: list[Object], code: Code, status: str, message: str
) -> None:
    """A proxy on the way answers with the same statuses."""
    error, asked = await refused_look(tmp_path, *pods, status=status, message=message)

    assert error.code is code
    assert len(asked) == 1


async def test_a_container_that_does_not_answer_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "REAP_WITHIN_S", 1.0)
    error, _ = await refused_look(tmp_path, RUNS)

    assert error.code is Code.STREAM_BROKEN
    assert error.user_message == "what the session left could not be looked for: no answer within 1 s"
