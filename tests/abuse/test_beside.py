"""Abuse of what stands beside a container: its processes and files are those of the container itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal
from support.trips import wait_until

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
  shells:
    kubernetes: {groups: ["bastion:engineer"]}
    allow: [{namespaces: [default], actions: [shell]}]
    session: {lingering: true}
  watched:
    kubernetes: {groups: ["bastion:engineer"]}
    allow: [{namespaces: [default], actions: [debug]}]
    debug: {images: ["local/debian:1"]}
    record: {input: true}
  only-main:
    kubernetes: {groups: ["bastion:engineer"]}
    allow: [{namespaces: [default], containers: [main], actions: [shell, debug]}]
    deny: [{namespaces: [default], containers: ["bastion-debug-*"], actions: [shell]}]
    debug: {images: ["local/debian:1"]}
  unbacked:
    kubernetes: {groups: ["bastion:nobody-knows-it"]}
    allow: [{namespaces: [default], actions: [debug]}]
    debug: {images: ["local/busybox:1"]}
bindings:
  - {role: shells, subjects: ["person:alice", "person:lena"]}
  - {role: watched, subjects: ["person:alice"]}
  - {role: only-main, subjects: ["person:rita"]}
  - {role: unbacked, subjects: ["person:lena"]}
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
        bastion.kubectl("patch", "pod", "distroless", "--subresource=ephemeralcontainers", "-p", patch)
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


def test_who_has_two_roles_is_recorded_and_swept_up_after_as_the_stricter_of_them_says(debugged: Bastion) -> None:
    """The shell of one role, led to a debug container by the other."""
    argv = [str(word) for word in debugged.ssh_argv("-t", "distroless.default@b", person="alice")]
    with Terminal(argv, SIZE) as terminal:
        terminal.expect("this is a debug container")
        terminal.expect("[$#] ")
        terminal.type("setsid sleep 97531 </dev/null >/dev/null 2>&1 & echo be''gun\r")
        terminal.expect("begun")
        wait_until(lambda: debugged.running("97531"))
        terminal.type("exit\r")
        terminal.wait()

    wait_until(lambda: not debugged.running("97531"))
    session = debugged.last_session()
    assert session["role"] == "shells"
    events = [one for one in debugged.audit("events", "--limit", "50") if one["session"] == session["id"]]
    (entered,) = (one for one in events if one["type"] == "session.debug.entered")
    assert (entered["rule"], entered["detail"]["record_input"]) == ("watched/allow[0]", True)
    lines = debugged.command("audit", "export", session["id"], "--format", "asciicast").stdout.splitlines()
    typed = [json.loads(line)[2] for line in lines[1:] if json.loads(line)[1] == "i"]
    assert any("sleep 97531" in one for one in typed)


def test_a_rule_that_shuts_out_debug_containers_shuts_out_the_one_that_would_stand_in(debugged: Bastion) -> None:
    added = debugged.command("people", "add", "rita")
    assert added.returncode == 0, added.stderr
    key = (debugged.folder / "stranger").with_suffix(".pub").read_bytes()
    assert debugged.command("keys", "add", "rita", stdin=key).returncode == 0

    refused = debugged.ssh("distroless.default@b", person="stranger")

    assert (refused.returncode, refused.stdout) == (126, b"")
    assert b"this container has no shell" in refused.stderr
    assert debugged.last_session()["outcome"] == "not_started"


def test_the_cluster_is_asked_before_a_container_is_added_that_nobody_could_take_away(debugged: Bastion) -> None:
    before = debugged.kubernetes("GET", POD)["spec"]["ephemeralContainers"]

    refused = debugged.ssh("distroless.default@b", person="lena")

    assert (refused.returncode, refused.stdout) == (254, b"")
    assert b"the cluster's own RBAC does not let you get pods/exec for pod distroless" in refused.stderr
    assert debugged.kubernetes("GET", POD)["spec"]["ephemeralContainers"] == before
