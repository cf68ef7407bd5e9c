"""How long an end by a signal is wondered at: as long as the cluster may have more to say of it, and no longer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from bastion.events import Exited
from bastion.model import Outcome
from bastion.podfacts import pod_facts, target_of
from bastion.pods import watchman
from bastion.pods.watchman import Watchman
from support import apis, podobjects
from support.rawexec import Peer, raw_exec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bastion.model import Target
    from support.rawexec import RawExec

RUN = {"containerID": "containerd://1"}
WELL = podobjects.pod("web", containers={"app": {**podobjects.RUNNING, **RUN}})
DELETING = podobjects.pod(
    "web", containers={"app": {**podobjects.RUNNING, **RUN}}, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}
)
STOPPED = podobjects.pod("web", containers={"app": {"state": {}, **RUN}})
KILLED = podobjects.pod("web", containers={"app": podobjects.terminated("OOMKilled", 137, **RUN)})
KILLED["status"]["containerStatuses"][0]["state"]["terminated"]["containerID"] = RUN["containerID"]
BEGUN = pod_facts(WELL)


async def nothing(_peer: Peer) -> None:
    raise AssertionError("nothing is started")


async def unasked(_target: Target) -> object:
    raise AssertionError("the node is not asked after")


@asynccontextmanager
async def watching(folder: Path, *looks: dict[str, Any]) -> AsyncIterator[tuple[Watchman, RawExec]]:
    """One who looks at a pod that is each of these in turn; the last one stays."""
    async with raw_exec(folder, nothing, pods=looks) as server:
        kubeconfig = apis.kubeconfig_at(folder, server.url, server.ca)
        async with apis.api_by(kubeconfig) as api:
            yield Watchman(api, apis.unsynced(api), unasked, structlog.get_logger("test")), server


async def explained(folder: Path, status: int, *looks: dict[str, Any]) -> tuple[Exited, int]:
    """What is said of a process that ended so, and how often the pod was looked at."""
    async with watching(folder, *looks) as (watchful, server):
        end = Exited(status, Outcome.EXITED)
        said = await watchful.explained(BEGUN, target_of(BEGUN, "app"), end, 0.0)
    return said, server.looks


async def test_a_process_that_was_terminated_in_a_container_that_is_well_was_its_own_doing(tmp_path: Path) -> None:
    assert await explained(tmp_path, 143, WELL) == (Exited(143, Outcome.EXITED), 1)


async def test_a_process_that_was_terminated_with_its_pod_says_so(tmp_path: Path) -> None:
    assert await explained(tmp_path, 143, DELETING) == (Exited(255, Outcome.BROKEN, "pod web was deleted"), 1)


@pytest.mark.parametrize("status", [137, 143])
async def test_what_became_of_a_container_that_does_not_run_is_waited_for(tmp_path: Path, status: int) -> None:
    said = Exited(255, Outcome.BROKEN, "container app was OOM-killed")
    assert await explained(tmp_path, status, STOPPED, KILLED) == (said, 2)


async def test_what_killed_a_process_may_be_told_late(tmp_path: Path) -> None:
    said = Exited(255, Outcome.BROKEN, "container app was OOM-killed")
    assert await explained(tmp_path, 137, WELL, WELL, KILLED) == (said, 3)


async def test_a_kill_that_nothing_explains_is_the_process_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchman, "WHY_KILLED_WITHIN_S", 1.2)
    end, looks = await explained(tmp_path, 137, WELL)

    assert end == Exited(137, Outcome.EXITED)
    assert looks > 1


async def test_any_other_end_is_not_asked_about(tmp_path: Path) -> None:
    assert await explained(tmp_path, 1, WELL) == (Exited(1, Outcome.EXITED), 0)


async def test_a_container_that_ended_with_its_pod_is_no_news_of_its_own(tmp_path: Path) -> None:
    killed = {**DELETING, "status": KILLED["status"]}

    class Frozen:
        """A stream that nothing ends but being told so."""

        unanswered_s = 0.0
        reason = ""

        def end(self, reason: str) -> None:
            self.reason = reason

    async with watching(tmp_path, killed) as (watchful, _server):
        stream = Frozen()
        await asyncio.wait_for(watchful.end_with_pod(stream, BEGUN, target_of(BEGUN, "app")), 30)  # type: ignore[arg-type]  # as much of one as is asked

    assert stream.reason == "pod web was deleted"
