"""The production program on an embedded cluster, both as processes of their own, and the ssh client people have."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PATIENCE_S = 30.0
BIN = Path(sys.executable).parent
PEOPLE = {"alice": "engineers", "carl": "contractors", "ines": "inputs"}

POLICY = """\
roles:
  engineer:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - namespaces: [default, shop, prod]
        actions: [shell, exec, logs, describe]
    deny:
      - namespaces: [prod]
        actions: [shell]
  contractor:
    kubernetes: {groups: ["bastion:contractor"]}
    allow:
      - namespaces: [shop]
        actions: [logs, describe]
  unbacked:
    # allowed here, but the cluster's own RBAC gives this group nothing of the kind
    kubernetes: {groups: ["bastion:contractor"]}
    allow:
      - {namespaces: [shop], actions: [exec], pods: {matchLabels: {app: api}}}
  inputs:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - {namespaces: [default], actions: [shell, exec]}
    record: {input: true}
bindings:
  - {role: engineer, subjects: ["group:engineers"]}
  - {role: contractor, subjects: ["group:contractors"]}
  - {role: unbacked, subjects: ["person:carl"]}
  - {role: inputs, subjects: ["group:inputs"]}
"""

SSH_CONFIG = """\
Host bastion-*
    HostName 127.0.0.1
    Port {port}
    User console
    HostKeyAlias bastion
    UserKnownHostsFile "{folder}/known_hosts"
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    IdentitiesOnly yes
    IdentityAgent none
    LogLevel ERROR
"""

Answer = TypeVar("Answer")


@dataclass
class Bastion:
    """A running bastion and its cluster."""

    folder: Path
    env: dict[str, str]
    sockets: Path
    """A folder with a short name: a socket's path must fit 107 bytes."""
    port: int = 0
    pid: int = 0
    calls: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)

    def ssh_argv(self, *arguments: str | bytes, person: str = "alice") -> list[str | bytes]:
        """Arguments as for ssh; the host `b` (`LOGIN@b`, or `b` after -l) is the bastion, with that person's key."""
        named = [
            f"{argument}astion-{person}" if isinstance(argument, str) and re.search(r"(^|@)b$", argument) else argument
            for argument in arguments
        ]
        # Each from an address of its own: refusals from one source are counted after the tenth in a minute.
        self.calls += 1
        address = f"127.0.{self.calls // 250 + 1}.{self.calls % 250 + 1}"
        return ["ssh", "-F", str(self.folder / "ssh_config"), "-b", address, *named]

    def ssh(
        self, *arguments: str | bytes, person: str = "alice", stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ssh to its end."""
        argv = self.ssh_argv(*arguments, person=person)
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=60, check=False)

    def audit(self, *arguments: str) -> list[dict[str, Any]]:
        """What `bastion audit … --json` prints."""
        done = self.command("audit", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def last_session(self) -> dict[str, Any]:
        """The newest session, once it has ended."""
        return wait_until(lambda: next((s for s in self.audit("sessions", "--limit", "1") if s["ended_at"]), None))

    def command(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a `bastion` command with this one's settings."""
        argv = [str(BIN / "bastion"), *arguments]
        return subprocess.run(argv, env=self.env, input=stdin, capture_output=True, timeout=60, check=False)

    def kubernetes(self, method: str, path: str) -> Any:
        """Ask the cluster's API as its admin."""
        config = yaml.safe_load((self.folder / "cluster" / "kubeconfig").read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        request = urllib.request.Request(  # noqa: S310 - the URL is of a cluster this test started
            cluster["server"] + path, method=method, headers={"Authorization": f"Bearer {user['token']}"}
        )
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the cluster's control socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.folder / "cluster" / "control.sock"))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile() as lines:
                return dict(json.loads(lines.readline()))

    def running(self, word: str) -> list[dict[str, Any]]:
        """The containers' processes that have a word among their arguments."""
        return [process for process in self.control({"do": "ps"})["processes"] if word in " ".join(process["argv"])]


class Starter(Protocol):
    """Starts a bastion on SQLite, its cluster with some arguments."""

    def __call__(
        self, *cluster_arguments: str, settings: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Bastion]: ...


@contextmanager
def started(argv: Sequence[str | bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A program with pipes; killed at the end if it still runs."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(look: Callable[[], Answer | None]) -> Answer:
    """Wait until something is there (not None, not empty, not False); fails when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {PATIENCE_S:.0f} s")
        time.sleep(0.02)


@contextmanager
def running_bastion(
    folder: Path, database_url: str, *cluster_arguments: str, settings: Mapping[str, str] | None = None
) -> Iterator[Bastion]:
    """Start a cluster and `bastion serve` on a migrated database, with people, keys and an ssh_config.

    settings: variables (BASTION_...) beside or instead of those of every test.
    """
    with tempfile.TemporaryDirectory(prefix="mux") as sockets:
        env = _environment(folder, database_url) | dict(settings or {})
        bastion = Bastion(folder=folder, env=env, sockets=Path(sockets))
        _prepare(bastion)
        with _cluster(bastion, cluster_arguments), _serving(bastion):
            yield bastion


def _prepare(bastion: Bastion) -> None:
    folder = bastion.folder
    (folder / "policy.yaml").write_text(POLICY)
    for name in ("host", "stranger", *PEOPLE):
        _keygen(folder / name)
    for person, group in PEOPLE.items():
        _must(bastion.command("people", "add", person, "--group", group))
        _must(bastion.command("keys", "add", person, stdin=(folder / f"{person}.pub").read_bytes()))


@contextmanager
def _cluster(bastion: Bastion, arguments: Sequence[str]) -> Iterator[None]:
    folder = bastion.folder / "cluster"
    folder.mkdir()
    argv = [sys.executable, "-m", "bastion.localcluster", "--dir", str(folder), "--until-eof", *arguments]
    with _process(argv, bastion.env) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        yield


@contextmanager
def _serving(bastion: Bastion) -> Iterator[None]:
    with _process([str(BIN / "bastion"), "serve"], bastion.env) as process:
        reader = threading.Thread(target=_read_log, args=(process, bastion.log), daemon=True)
        reader.start()
        bastion.port = wait_until(lambda: next((e["port"] for e in bastion.log if e["event"] == "listening"), None))
        bastion.pid = process.pid
        _write_ssh_config(bastion)
        yield
    reader.join(10)


@contextmanager
def _process(argv: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            status = process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        assert status == 0, f"{argv} ended with {status}"


def _read_log(process: subprocess.Popen[str], log: list[dict[str, Any]]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            try:
                log.append(json.loads(line))
            except ValueError:
                log.append({"event": line.rstrip("\n")})
    except ValueError:  # closed by the one who started it
        return


def _environment(folder: Path, database_url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "BASTION_DATABASE_URL": database_url,
        "BASTION_SSH_PORT": "0",
        "BASTION_SSH_HOST_KEY": str(folder / "host"),
        "BASTION_SSH_KEEPALIVE_INTERVAL_S": "1",
        "BASTION_POLICY_FILE": str(folder / "policy.yaml"),
        "BASTION_KUBERNETES_KUBECONFIG": str(folder / "cluster" / "bastion.kubeconfig"),
        "BASTION_LOG_FORMAT": "json",
    }


def _write_ssh_config(bastion: Bastion) -> None:
    folder = bastion.folder
    hosts = "".join(f'\nHost bastion-{name}\n    IdentityFile "{folder}/{name}"\n' for name in (*PEOPLE, "stranger"))
    (folder / "ssh_config").write_text(SSH_CONFIG.format(port=bastion.port, folder=folder) + hosts)
    (folder / "known_hosts").write_text(f"bastion {(folder / 'host.pub').read_text()}")


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)


def _must(done: subprocess.CompletedProcess[bytes]) -> None:
    assert done.returncode == 0, f"{shlex.join(map(str, done.args))}: {done.stderr!r}"
