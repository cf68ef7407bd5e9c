"""`python -m bastion.localcluster`: how it starts, what it keeps and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from support.cluster import running_cluster, running_cluster_sync
from support.rawclient import bearer, connect

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 10
KEPT = ("ca.crt", "ca.key", "server.crt", "server.key", "tokens.json")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bastion.localcluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])  # noqa: S104 - what must be refused
def test_a_host_that_others_can_reach_is_refused(tmp_path: Path, host: str) -> None:
    result = run("--dir", str(tmp_path), "--host", host)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"localcluster: --host {host}: only a loopback address is served; use --host 127.0.0.1\n"


def test_stdin_must_be_a_pipe_to_wait_for_its_end(tmp_path: Path) -> None:
    result = run("--dir", str(tmp_path), "--until-eof")
    assert (result.returncode, result.stderr) == (2, "localcluster: --until-eof: stdin must be a pipe\n")


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon"])
def test_bookmarks_come_at_a_positive_interval(tmp_path: Path, seconds: str) -> None:
    result = run("--dir", str(tmp_path), f"--bookmarks-every={seconds}")
    assert result.returncode == 2
    assert f"argument --bookmarks-every: {seconds}: a number of seconds above 0 is wanted" in result.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--dir", str(tmp_path), "--port", str(port))
    assert result.returncode == 2
    assert result.stderr.startswith(f"localcluster: --port {port}: ")
    assert result.stderr.count("\n") == 1


def test_a_directory_serves_one_cluster_at_a_time(tmp_path: Path) -> None:
    with running_cluster_sync(tmp_path) as cluster:
        result = run("--dir", str(cluster.dir))
    assert result.returncode == 2
    assert "another embedded cluster is running there" in result.stderr


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--dir", str(tmp_path / "file" / "below"))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert str(tmp_path / "file" / "below") in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_one_line_and_ends_cleanly_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "bastion.localcluster", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=LIMIT)
    assert first.startswith("ready https://127.0.0.1:")
    assert (process.returncode, rest, errors) == (0, "", "")


async def test_the_kubeconfigs_reach_it(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        for path, user in (
            (cluster.kubeconfig, "kubernetes-admin"),
            (cluster.bastion_kubeconfig, "system:serviceaccount:bastion:bastion"),
        ):
            config = yaml.safe_load(path.read_text())
            assert config["clusters"][0]["cluster"]["server"] == cluster.url
            assert config["users"][0]["user"]["token"] == cluster.token(user)
            assert config["contexts"][0]["context"]["user"] == config["users"][0]["name"]


async def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        assert stat.S_IMODE(cluster.dir.stat().st_mode) == 0o700
        for name in (*KEPT, "kubeconfig", "bastion.kubeconfig", "control.sock"):
            assert stat.S_IMODE((cluster.dir / name).stat().st_mode) == 0o600, name


async def test_a_restart_keeps_ca_certificate_and_tokens(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        before = {name: (cluster.dir / name).read_bytes() for name in KEPT}
    async with running_cluster(tmp_path) as cluster:
        assert {name: (cluster.dir / name).read_bytes() for name in KEPT} == before
        async with connect(cluster) as client:
            assert (await client.request("GET", "/version", headers=[bearer(cluster)])).status == 200


@pytest.mark.parametrize(("broken", "kept"), [("server.crt", True), ("server.key", True), ("ca.crt", False)])
async def test_a_broken_certificate_is_made_anew(tmp_path: Path, broken: str, *, kept: bool) -> None:
    async with running_cluster(tmp_path) as cluster:
        ca = cluster.ca.read_bytes()
        (cluster.dir / broken).write_text("not a certificate")
    async with running_cluster(tmp_path) as cluster:
        assert (cluster.ca.read_bytes() == ca) is kept
        async with connect(cluster) as client:  # which checks the chain
            assert (await client.request("GET", "/version", headers=[bearer(cluster)])).status == 200


@pytest.mark.parametrize(
    "request_", [{"do": "nothing"}, {}, {"do": "crash", "pod": "default/none", "container": "x"}, []]
)
async def test_the_control_socket_says_what_it_cannot_do(tmp_path: Path, request_: object) -> None:
    async with running_cluster(tmp_path) as cluster:
        path = os.open(cluster.dir, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT)
            client.connect(f"/proc/self/fd/{path}/control.sock")
            os.close(path)
            client.sendall(json.dumps(request_).encode() + b"\n")
            answer = json.loads(client.makefile().readline())
        assert answer["ok"] is False
        assert answer["error"]
