"""The production program on an embedded cluster, both as processes of their own, and the ssh client people have."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bastion.identity import keys
from bastion.model import Outcome
from bastion.records import AuditEvent
from bastion.store import open_store
from bastion.system import SystemClock, new_id
from support.grounds import Embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from support.grounds import Ground, Prepared

PATIENCE_S = 30.0
BIN = Path(sys.executable).parent
PEOPLE = {"alice": "engineers", "carl": "contractors", "ines": "inputs", "lena": "lingerers", "dora": "debuggers"}

POLICY = """\
roles:
  engineer:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - namespaces: [default, shop, prod]
        actions: [shell, exec, logs, describe, events, top, pods]
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
  lingerer:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - {namespaces: [default], actions: [shell, exec]}
    session: {lingering: true}
  debugger:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - {namespaces: [default], actions: [shell, exec, debug]}
    debug: {images: ["local/debian:1"]}
bindings:
  - {role: engineer, subjects: ["group:engineers"]}
  - {role: contractor, subjects: ["group:contractors"]}
  - {role: unbacked, subjects: ["person:carl"]}
  - {role: inputs, subjects: ["group:inputs"]}
  - {role: lingerer, subjects: ["group:lingerers"]}
  - {role: debugger, subjects: ["group:debuggers"]}
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

LOGIN = re.compile(r"[^ ]+\.(default|shop|prod)(\+[^ ]*)?")
"""What an argument after `-l` looks like, and none that is a command does."""

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
    found: Prepared | None = None
    """The cluster, if it is not an embedded one that was started for this bastion."""
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ground(self) -> Ground:
        """The cluster."""
        return self.found or Embedded(folder=self.folder / "cluster")

    def login(self, text: str) -> str:
        """A login as the cluster has it, for clients that are not started by `ssh`."""
        return self.ground.there(text)

    def ssh_argv(self, *arguments: str | bytes, person: str = "alice") -> list[str | bytes]:
        """Arguments as for ssh; the host `b` (`LOGIN@b`, or `b` after -l) is the bastion, with that person's key."""
        named = [self._named(argument, person) if isinstance(argument, str) else argument for argument in arguments]
        # Each from an address of its own: refusals from one source are counted after the tenth in a minute.
        self.calls += 1
        address = f"127.0.{self.calls // 250 + 1}.{self.calls % 250 + 1}"
        return ["ssh", "-F", str(self.folder / "ssh_config"), "-b", address, *named]

    def _named(self, argument: str, person: str) -> str:
        """An argument that is a login or the host, as this bastion's ssh_config and cluster have it."""
        login, at, host = argument.rpartition("@")
        if host == "b":
            return f"{self.login(login)}{at}bastion-{person}"
        return self.login(argument) if LOGIN.fullmatch(argument) else argument

    def ssh(
        self, *arguments: str | bytes, person: str = "alice", stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ssh to its end."""
        argv = self.ssh_argv(*arguments, person=person)
        return self._here(subprocess.run(argv, input=stdin, capture_output=True, timeout=60, check=False))

    def _here(self, done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
        done.stdout, done.stderr = self.ground.here(done.stdout), self.ground.here(done.stderr)
        return done

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
        done = subprocess.run(argv, env=self.env, input=stdin, capture_output=True, timeout=60, check=False)
        return self._here(done)

    def kubernetes(self, method: str, path: str) -> Any:
        """Ask the cluster's API as its admin."""
        return self.ground.kubernetes(method, path)

    def kubectl(self, *arguments: str, given: Mapping[str, Any] | None = None) -> str:
        """What kubectl says to the embedded cluster's admin; `given` is its standard input, as JSON."""
        argv = ["kubectl", "--kubeconfig", str(self.folder / "cluster" / "kubeconfig"), *arguments]
        text = "" if given is None else json.dumps(given)
        return subprocess.run(argv, input=text, text=True, check=True, capture_output=True, timeout=60).stdout

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the cluster's control socket."""
        return self.ground.control(request)

    def running(self, word: str) -> list[dict[str, Any]]:
        """The containers' processes that have a word among their arguments."""
        return self.ground.running(word)


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
    folder: Path,
    database_url: str,
    *cluster_arguments: str,
    settings: Mapping[str, str] | None = None,
    found: Prepared | None = None,
) -> Iterator[Bastion]:
    """Start a cluster and `bastion serve` on a migrated database, with people, keys and an ssh_config.

    settings: variables (BASTION_...) beside or instead of those of every test.
    found: a cluster that is there already, instead of one that is started.
    """
    with tempfile.TemporaryDirectory(prefix="mux") as sockets:
        there = {} if found is None else {"BASTION_KUBERNETES_KUBECONFIG": str(found.bastion_kubeconfig)}
        env = _environment(folder, database_url) | there | dict(settings or {})
        bastion = Bastion(folder=folder, env=env, sockets=Path(sockets), found=found)
        _prepare(bastion)
        with ExitStack() as stack:
            if found is None:
                stack.enter_context(_cluster(bastion, cluster_arguments))
            else:
                assert not cluster_arguments, f"{cluster_arguments} are for an embedded cluster; see EMBEDDED_ONLY"
            stack.enter_context(_serving(bastion))
            yield bastion


def _prepare(bastion: Bastion) -> None:
    folder = bastion.folder
    (folder / "policy.yaml").write_text(bastion.ground.policy(POLICY))
    for name in ("host", "stranger", *PEOPLE):
        _keygen(folder / name)
    asyncio.run(add_people(folder, bastion.env["BASTION_DATABASE_URL"]))


async def add_people(folder: Path, url: str) -> None:
    """Add everybody with their key, as `bastion people` and `bastion keys` do, without a process for each."""
    clock = SystemClock()
    async with open_store(url, name="test", clock=clock, new_id=new_id) as store:
        for person, group in PEOPLE.items():
            told = AuditEvent(
                id=new_id(),
                at=clock.now(),
                type="person.added",
                outcome=Outcome.SUCCESS,
                actor="cli:test",
                person=person,
            )
            await store.access.add_person(person, frozenset({group}), told)
            credential, comment = keys.parse((folder / f"{person}.pub").read_text())
            await store.access.add_key(
                person, credential, comment, dataclasses.replace(told, id=new_id(), type="key.added")
            )


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
