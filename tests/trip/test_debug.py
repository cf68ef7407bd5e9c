"""A container without a shell: a role may open one beside it, and everybody else is told who could allow that."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from bastion.model import WindowSize
from support.grounds import IMAGE
from support.terminal import Terminal
from support.trips import POLICY, started, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.trips import Bastion, Starter


SIZE = WindowSize(cols=132, rows=24)
DISTROLESS = "/api/v1/namespaces/default/pods/distroless"


def ephemeral(bastion: Bastion) -> list[dict[str, Any]]:
    pod = bastion.kubernetes("GET", DISTROLESS)
    return list(pod["spec"].get("ephemeralContainers") or [])


def shell(bastion: Bastion) -> Terminal:
    return Terminal([str(word) for word in bastion.ssh_argv("-t", "distroless.default@b", person="dora")], SIZE)


def test_a_shell_opens_in_a_container_beside_it_which_is_used_again(bastion: Bastion) -> None:
    image = bastion.ground.policy(IMAGE)  # as the policy has it in this cluster
    made = []
    for _ in range(2):
        with shell(bastion) as terminal:
            terminal.expect(rf"this is a debug container \({re.escape(image)}\)")
            terminal.expect("/proc/1/root")
            terminal.type("echo $((6*7))\r")
            terminal.expect("42")
            terminal.type("exit 5\r")
            assert terminal.wait() == 5
        made.append(ephemeral(bastion))

    first, second = made  # other tests may have opened some of their own beside it, which stay in the pod
    assert first == second
    ours = [one for one in first if one["name"].startswith("bastion-debug-")]
    assert (image, "main") in {(one["image"], one["targetContainerName"]) for one in ours}
    session = bastion.last_session()
    assert (session["action"], session["outcome"], session["status"]) == ("shell", "exited", 5)
    events = [one for one in bastion.audit("events", "--limit", "20") if one["type"] == "session.debug"]
    assert events[0]["session"] == session["id"]
    assert (events[0]["action"], events[0]["rule"]) == ("debug", "debugger/allow[0]")
    assert image in events[0]["reason"]


def test_what_is_left_in_the_debug_container_ends_with_the_session(bastion: Bastion) -> None:
    with shell(bastion) as terminal:
        terminal.expect("/proc/1/root")
        terminal.type("setsid sleep 98765 </dev/null >/dev/null 2>&1 & echo be''gun\r")
        terminal.expect("begun")
        wait_until(lambda: bastion.running("98765"))
        terminal.type("exit\r")
        terminal.wait()

    wait_until(lambda: not bastion.running("98765"))


def test_a_program_left_where_there_is_no_shell_is_told_of(bastion: Bastion) -> None:
    before = pids(bastion)
    with shell(bastion) as terminal:
        terminal.expect("/proc/1/root")
        program = bastion.ssh_argv("distroless.default@b", "app --wait", person="dora")
        with started(program) as ssh:
            left = wait_until(lambda: pids(bastion) - before)
            ssh.kill()
        try:
            told = wait_until(lambda: not_reaped(bastion))
            assert pids(bastion) - before == left
        finally:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        terminal.type("exit\r")
        terminal.wait()

    assert (told["outcome"], told["container"]) == ("failed", "main")
    assert told["reason"].startswith("no_shell: this container has no shell")


def pids(bastion: Bastion) -> set[int]:
    """The processes that wait until they are ended."""
    return {process["pid"] for process in bastion.running("sleep infinity")}


def not_reaped(bastion: Bastion) -> dict[str, Any] | None:
    """What is told of the newest command's session."""
    session = bastion.audit("commands", "--limit", "1")[0]["session"]
    events = bastion.audit("events", "--limit", "20")
    return next((one for one in events if (one["session"], one["type"]) == (session, "session.not_reaped")), None)


@pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
def test_it_runs_as_the_user_of_the_role_where_the_cluster_does_not_say_whom_the_other_runs_as(
    bastion: Bastion, start: Starter, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    images = f'images: ["{IMAGE}"]'
    assert images in POLICY
    policy.write_text(bastion.ground.policy(POLICY.replace(images, f"{images}, user: 65532")))
    with start(settings={"BASTION_POLICY_FILE": str(policy)}) as own:
        before = ephemeral(own)
        with shell(own) as terminal:
            terminal.expect("/proc/1/root")
            terminal.type("exit 5\r")
            assert terminal.wait() == 5

        (made,) = (one for one in ephemeral(own) if one not in before)
        status = own.kubernetes("GET", DISTROLESS)["status"]["containerStatuses"][0]
        said = status.get("user", {}).get("linux")  # an embedded cluster does not, as before KEP-3619
        known = {"runAsUser": said["uid"], "runAsGroup": said["gid"]} if said else {"runAsUser": 65532}
        assert made["securityContext"] == known


def test_a_role_without_debug_is_told_who_could_allow_it(bastion: Bastion) -> None:
    done = bastion.ssh("distroless.default@b")

    assert done.returncode == 126
    assert b"this container has no shell" in done.stderr
    assert b"Those who keep the bastion's policy can allow the action debug" in done.stderr
    assert bastion.last_session()["outcome"] == "not_started"
