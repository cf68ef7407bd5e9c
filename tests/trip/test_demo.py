"""The demo, as somebody who has just cloned the project meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`bastion demo` in a folder with a space in its name, ended by Ctrl-C."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    argv = [str(BIN / "bastion"), "demo", "--dir", "my demo", "--port", "0"]
    config = folder / "my demo" / "ssh_config"
    config.unlink(missing_ok=True)
    with subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: config.exists() or process.poll() is not None)
            yield process
            process.send_signal(signal.SIGINT)
            process.wait(40)
        finally:
            process.kill()


def ssh(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = ["ssh", "-F", str(folder / "my demo" / "ssh_config"), *arguments]
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=60, check=False)


def audit(folder: Path, command: str) -> list[dict[str, object]]:
    """A line as the demo says to paste it."""
    line = f". './my demo/env'; bastion audit {command} --json"
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, check=True)
    return [json.loads(text) for text in done.stdout.splitlines()]


def test_the_demo_works_as_it_says_and_finds_its_data_again(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        done = ssh(tmp_path, "web.default@bastion", "echo out; echo err >&2; exit 3")
        contractor = ssh(tmp_path, "web.default@bastion-contractor", "true")
        stranger = ssh(tmp_path, "web.default@bastion-stranger", "true")
        commands = audit(tmp_path, "commands")
        refused = {event["type"] for event in audit(tmp_path, "events") if event["outcome"] == "denied"}
    assert process.stdout is not None
    assert process.returncode == 0

    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    assert contractor.returncode == 254
    assert contractor.stderr.count(b"\n") == 1
    assert b"Permission denied (publickey)" in stranger.stderr
    assert [(one["person"], one["pod"], one["status"]) for one in commands] == [("alice", "web", 3)]
    assert refused == {"session.refused", "login.refused"}

    with demo(tmp_path):
        assert ssh(tmp_path, "deploy_api.shop@bastion", "exit 4").returncode == 4
        assert [one["status"] for one in audit(tmp_path, "commands")] == [4, 3]
        kubeconfig = (tmp_path / "my demo" / "kubeconfig").read_text()
    assert "https://127.0.0.1:" in kubeconfig


def test_nothing_of_the_demo_is_left_when_it_is_killed(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        argv = ["ssh", "-F", str(tmp_path / "my demo" / "ssh_config"), "web.default@bastion", "sleep 98765"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as client:
            wait_until(lambda: _running("sleep 98765"))
            process.kill()
            client.wait(30)
        wait_until(lambda: not _running("sleep 98765"))


def test_a_port_that_is_taken_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    with demo(tmp_path):
        port = next(
            line.split()[1] for line in (tmp_path / "my demo" / "ssh_config").read_text().splitlines() if "Port" in line
        )
        argv = [str(BIN / "bastion"), "demo", "--dir", "other", "--port", port]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=60, check=False)

    assert done.returncode == 2
    assert b"--port" in done.stderr
    assert done.stderr.count(b"\n") == 1


def _running(word: str) -> bool:
    """Whether a process has a command line that ends so, ssh clients aside."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if argv == word:
            return True
    return False
