"""Abuse of what stands beside a container: its processes and files are those of the container itself."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion, Starter

SIZE = WindowSize(cols=132, rows=24)
POD = "/api/v1/namespaces/default/pods/distroless"
FOREIGN = "debugger-x7z"

POLICY = """\
roles:
  keeper:
    kubernetes: {groups: ["bastion:engineer"]}
    allow: [{namespaces: [default], actions: [shell, exec, debug]}]
    debug: {images: ["local/debian:1"]}
  outside:
    kubernetes: {groups: ["bastion:engineer"]}
    allow: [{namespaces: [default], containers: ["*", "!main"], actions: [shell, exec, debug]}]
    debug: {images: ["local/debian:1"]}
  named:
    kubernetes: {groups: ["bastion:engineer"]}
    allow: [{namespaces: [default], containers: [main, debugger-x7z], actions: [shell, exec]}]
bindings:
  - {role: keeper, subjects: ["person:dora"]}
  - {role: outside, subjects: ["person:carl"]}
  - {role: named, subjects: ["person:ines"]}
"""


@pytest.fixture(scope="module")
def debugged(start: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """A pod beside whose container somebody who may has a debug container, and somebody else an ephemeral one."""
    policy = tmp_path_factory.mktemp("beside") / "policy.yaml"
    policy.write_text(POLICY)
    with start(settings={"BASTION_POLICY_FILE": str(policy)}) as bastion:
        foreign = {
            "name": FOREIGN,
            "image": "local/debian:1",
            "command": ["sleep", "infinity"],
            "targetContainerName": "main",
        }
        patch = json.dumps({"spec": {"ephemeralContainers": [foreign]}})
        config = str(bastion.folder / "cluster" / "kubeconfig")
        argv = ["kubectl", "--kubeconfig", config, "patch", "pod", "distroless", "--subresource=ephemeralcontainers"]
        subprocess.run([*argv, "-p", patch], check=True, capture_output=True, timeout=60)
        opens = [str(word) for word in bastion.ssh_argv("-t", "distroless.default@b", person="dora")]
        with Terminal(opens, SIZE) as terminal:
            terminal.expect("this is a debug container")
            terminal.expect("[$#] ")
            yield bastion
            terminal.type("exit\r")
            terminal.wait()


def ours(bastion: Bastion) -> str:
    """The name of the debug container."""
    pod: dict[str, Any] = bastion.kubernetes("GET", POD)
    (name,) = {one["name"] for one in pod["spec"]["ephemeralContainers"]} - {FOREIGN}
    return str(name)


def test_who_may_not_enter_a_container_does_not_enter_the_debug_container_beside_it(debugged: Bastion) -> None:
    name = ours(debugged)

    there = debugged.ssh("distroless.default@b", "true", person="carl")
    beside = debugged.ssh(f"distroless.default+{name}@b", "cat /proc/1/cmdline", person="carl")

    assert (there.returncode, there.stdout) == (253, b"")
    assert (beside.returncode, beside.stdout) == (253, b"")
    assert b"your roles do not reach it" in beside.stderr
    assert debugged.ssh(f"distroless.default+{name}@b", "echo in", person="dora").stdout == b"in\n"


def test_an_ephemeral_container_that_is_not_the_bastions_has_to_be_named(debugged: Bastion) -> None:
    login = f"distroless.default+{FOREIGN}@b"

    for person in ("dora", "carl"):
        refused = debugged.ssh(login, "true", person=person)
        assert (refused.returncode, refused.stdout) == (253, b"")
        assert b"your roles do not reach it" in refused.stderr
    assert debugged.ssh(login, "echo in", person="ines").stdout == b"in\n"
