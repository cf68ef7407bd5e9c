"""What operators get wrong outside of the command line: one line that names it and its cause, and never "a bug"."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from support.commands import LIMIT, PROGRAM, Bastion

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
roles: {dev: {allow: [{namespaces: [shop], actions: [shell]}]}}
bindings: [{role: dev, subjects: ["group:devs"]}]
"""

# Its user has no "user"; what stands there instead must not be repeated.
WITHOUT_A_USER = """\
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: v, user: {token: s3cret}}]
"""
WITHOUT_ITS_CA = """\
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1", certificate-authority: FOLDER/policy.yaml}}]
users: [{name: u, user: {token: s3cret}}]
"""


@pytest.fixture
def bastion(tmp_path: Path) -> Bastion:
    return Bastion(folder=tmp_path)


def refused(done: subprocess.CompletedProcess[str], status: int) -> str:
    """What a refused command said, in its one line."""
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith("bastion: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("bastion: ").rstrip()


# --- the database --------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_said_to_be_none(bastion: Bastion, tmp_path: Path) -> None:
    (tmp_path / "bastion.db").write_text("root:x:0:0:root:/root:/bin/bash\n" * 100)

    said = refused(bastion.run("audit", "sessions"), 1)
    assert said == "the database cannot be used: DatabaseError: file is not a database"


def test_a_database_that_does_not_answer_is_named_with_the_cause_and_without_its_password(
    bastion: Bastion, unused_tcp_port: int
) -> None:
    url = f"postgresql://someone:s3cret@127.0.0.1:{unused_tcp_port}/bastion"
    said = refused(bastion.run("audit", "sessions", BASTION_DATABASE_URL=url), 1)

    assert said.startswith("the database cannot be used: ")
    assert f"'127.0.0.1', {unused_tcp_port}" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("command", [("audit", "sessions"), ("db", "upgrade")])
def test_a_folder_in_place_of_a_database_is_said_to_be_one(
    bastion: Bastion, tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = refused(bastion.run(*command, BASTION_DATABASE_URL=f"sqlite:///{tmp_path}"), 2)

    assert said == f"{tmp_path} is a directory, not a database: name a file in it (BASTION_DATABASE_URL)."


# --- the cluster ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kubeconfig", "says"),
    [
        (None, "the kubeconfig FILE is missing"),
        ("root:x:0:0:root:/root:/bin/bash\n", "FILE:1: the document must be a mapping"),
        ("", "FILE: there is no configuration in it"),
        ("{", "FILE:1: expected the node content"),
        ("current-context: c\n", "FILE:1: there is no context 'c'"),
        (WITHOUT_A_USER, "u"),
        (WITHOUT_ITS_CA, "the certificate-authority is no list of certificates in PEM"),
    ],
    ids=["missing", "text", "empty", "broken", "no context", "no user", "no ca"],
)
def test_a_kubeconfig_that_cannot_be_used_is_named_with_the_cause(
    bastion: Bastion, tmp_path: Path, kubeconfig: str | None, says: str
) -> None:
    bastion.ok("db", "upgrade")
    (tmp_path / "policy.yaml").write_text(POLICY)
    path = tmp_path / "kubeconfig"
    if kubeconfig is not None:
        path.write_text(kubeconfig.replace("FOLDER", str(tmp_path)))

    done = bastion.run(
        "serve",
        BASTION_POLICY_FILE=str(tmp_path / "policy.yaml"),
        BASTION_SSH_HOST_KEY=str(tmp_path / "key"),
        BASTION_KUBERNETES_KUBECONFIG=str(path),
    )

    said = refused(done, 2)
    assert str(path) in said
    assert says.replace("FILE", str(path)) in said
    assert "s3cret" not in said


# --- folders and output --------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["/proc/nothing", "/dev/null/x", "/proc"])
def test_a_folder_of_the_demo_that_cannot_be_made_names_its_flag(bastion: Bastion, folder: str) -> None:
    assert refused(bastion.run("demo", "--dir", folder), 2).startswith(f"--dir {folder}: ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["audit", "events"]])
def test_output_that_cannot_be_written_is_one_line(bastion: Bastion, arguments: list[str], unbuffered: str) -> None:
    bastion.ok("db", "upgrade")
    bastion.ok("people", "add", "alice")
    with open("/dev/full", "w") as full:  # noqa: PTH123 - it is no file but a device that is always full
        done = subprocess.run(
            [PROGRAM, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            env=bastion.environment | {"PYTHONUNBUFFERED": unbuffered},
            check=False,
            timeout=LIMIT,
            text=True,
        )

    assert (done.returncode, done.stderr) == (1, "bastion: the output cannot be written: No space left on device\n")


def test_a_closed_output_is_refused_before_anything_else_takes_its_place(bastion: Bastion) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" db upgrade >&-', PROGRAM],
        capture_output=True,
        env=bastion.environment,
        check=False,
        timeout=LIMIT,
        text=True,
    )

    assert refused(done, 2).startswith("standard output is closed")
    assert list(bastion.folder.iterdir()) == []
