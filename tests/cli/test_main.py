"""The command itself: quick, one line for every failure, and never a traceback."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from bastion.cli import main
from bastion.errors import BastionError, Code
from support.commands import LIMIT, PROGRAM, Bastion

if TYPE_CHECKING:
    from pathlib import Path


def test_every_code_has_an_exit_status() -> None:
    assert set(main.EXIT_OF) == set(Code)


def test_every_command_of_the_help_can_be_called(tmp_path: Path) -> None:
    for name in main._COMMANDS:
        assert Bastion(folder=tmp_path).run(name, "--help").stdout.startswith(f"Usage: bastion {name}")


def test_help_imports_nothing_slow() -> None:
    script = "import sys; sys.argv[1:] = ['--help']\nfrom bastion.cli.main import main; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}

    assert "click" in loaded
    assert not loaded & {"pydantic", "sqlalchemy", "asyncssh", "aiohttp", "kubernetes_asyncio", "cryptography", "rich"}


def test_the_version_is_the_package_s(tmp_path: Path) -> None:
    assert Bastion(folder=tmp_path).ok("--version") == "bastion, version 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["policy", "check", "gone.yaml"], 2, "bastion: cannot read the policy file gone.yaml: No such file"),
        (["people", "list"], 2, "bastion: There is no database at"),
        (["--config", "gone.yaml", "people", "list"], 2, "bastion: cannot read the settings file gone.yaml (--config"),
    ],
)
def test_a_failure_is_one_line_and_a_status(tmp_path: Path, arguments: list[str], status: int, says: str) -> None:
    done = Bastion(folder=tmp_path).run(*arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


def test_policy_check_says_what_debug_containers_are_made_of(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    role = "{allow: [{namespaces: [shop], actions: [debug]}], debug: {images: [busybox:1.36], user: 65532}"
    policy.write_text(f'roles:\n  dbg: {role}}}\nbindings:\n  - {{role: dbg, subjects: ["group:x"]}}\n')

    done = Bastion(folder=tmp_path).run("policy", "check", str(policy))

    assert done.returncode == 0, done.stderr
    assert (
        "role dbg makes debug containers of busybox:1.36, as user 65532 where the pod does not say which\n"
        in done.stderr
    )


def test_policy_check_warns_of_a_debug_that_makes_nothing(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    role = "{allow: [{namespaces: [shop], actions: [debug]}]}"
    policy.write_text(f'roles:\n  dbg: {role}\nbindings:\n  - {{role: dbg, subjects: ["group:x"]}}\n')

    done = Bastion(folder=tmp_path).run("policy", "check", str(policy))

    assert done.returncode == 0, done.stderr
    assert "warning: role dbg allows debug and names no image, so it makes no debug container" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["peopel"], ["people", "add"], ["people", "add", "a b"], ["--nonsense"]])
def test_a_wrong_command_line_is_status_2_with_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = Bastion(folder=tmp_path).run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: bastion")


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    done = Bastion(folder=tmp_path).run("people", "list", BASTION_SSH_PRT="22")

    assert (done.returncode, done.stderr) == (
        2,
        "bastion: unknown variable BASTION_SSH_PRT in the environment; did you mean 'BASTION_SSH_PORT'?\n",
    )


def test_ctrl_c_ends_it_with_130_and_no_traceback(tmp_path: Path) -> None:
    bastion = Bastion(folder=tmp_path)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "keys", "add", "alice"], stdin=slave, stderr=subprocess.PIPE, env=bastion.environment, text=True
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "Paste the public key, then Ctrl-D:\n"
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=LIMIT)[1]
    finally:
        process.kill()
        os.close(slave)
        os.close(master)

    assert (process.returncode, rest.strip()) == (130, "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [PROGRAM, "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=Bastion(folder=tmp_path).environment,
            check=False,
            timeout=LIMIT,
        )
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (BastionError(Code.CLUSTER_DENIED, "the cluster says no"), 254, "bastion: the cluster says no\n"),
        (BastionError(Code.NOT_FOUND, "nobody", detail="secret"), 1, "bastion: nobody\n"),
        (click.Abort(), 130, ""),
        (KeyError("x"), 70, "bastion: this is a bug (KeyError). Run it again with BASTION_LOG_LEVEL=debug and report "),
    ],
    ids=repr,
)
def test_what_was_raised_decides_the_status(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, says: str
) -> None:
    monkeypatch.delenv("BASTION_LOG_LEVEL", raising=False)

    assert main._failed(error) == status
    said = capfd.readouterr().err
    assert said.startswith(says)
    assert said.count("\n") <= 1


def test_a_bug_shows_its_traceback_to_who_asks(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASTION_LOG_LEVEL", "debug")

    assert main._failed(KeyError("x")) == 70
    assert "KeyError: 'x'" in capfd.readouterr().err
