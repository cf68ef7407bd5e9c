"""Everything side by side on this machine: a cluster, bastions on it, sshd and kubectl; set up by __main__."""

from __future__ import annotations

import asyncio
import getpass
import random
import shutil
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from bench import bastions, cluster, processes, sshd
from bench.cluster import Pod
from bench.figures import KUBECTL, POSTGRESQL, SQLITE, SSHD, UNRECORDED, WEBSOCKET
from bench.processes import StepFailedError, timed
from support.databases import fresh_postgresql, sqlite_url, started_postgresql

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from bench.bastions import Bastion
    from bench.sshd import Sshd

BLOCK = 1_000_000
"""Bytes of log text that lie in the pod, and are read as often as a measure wants."""

_SSH_CONFIG = """\
Host *
    HostName 127.0.0.1
    HostKeyAlias bench
    UserKnownHostsFile "{folder}/known_hosts"
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    IdentityFile "{folder}/person"
    IdentitiesOnly yes
    IdentityAgent none
    LogLevel ERROR
    {cipher}
"""


_HINT = """
People are impersonated as the group {group} (GROUP=), and leftovers ended as the user bastion:reaper.
If that is what the cluster refuses:
  kubectl -n {namespace} create role bastion-bench --verb=get,create --resource=pods/exec
  kubectl -n {namespace} create rolebinding bastion-bench --role=bastion-bench --group={group} --user=bastion:reaper"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be set up.

    who: some of figures.EVERYBODY. kubeconfig: of a cluster that runs already; None starts an embedded one.
    pod: NAMESPACE/NAME[+CONTAINER]. group: the Kubernetes group that people are impersonated with.
    cipher: for all ssh clients; "" leaves it to them.
    """

    who: frozenset[str]
    kubeconfig: Path | None
    pod: str
    group: str
    cipher: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What runs, and how to reach it."""

    folder: Path
    pod: Pod
    block: str
    """The path of the block, the same in the pod and on this machine."""
    sshd: Sshd | None
    bastions: dict[str, Bastion]
    clients: tuple[str, ...]
    """Those that need no server of their own: the raw WebSocket and kubectl."""
    missing: tuple[str, ...]
    """What to tell about programs that are not there."""

    @property
    def contenders(self) -> list[str]:
        """Who is measured, sshd first."""
        return [*self.ssh_contenders, *self.clients]

    @property
    def ssh_contenders(self) -> list[str]:
        """Those that speak ssh."""
        return [*([SSHD] if self.sshd else []), *self.bastions]

    def port(self, who: str) -> int:
        """Where it listens for ssh."""
        return self.sshd.port if who == SSHD and self.sshd else self.bastions[who].port

    def pid(self, who: str) -> int:
        """Its process."""
        return self.sshd.pid if who == SSHD and self.sshd else self.bastions[who].pid

    def settle(self, who: str) -> None:
        """Wait until it has nothing left to do; of those that have no process here there is nothing to wait for."""
        if who in self.ssh_contenders:
            processes.settle(self.pid(who))

    def user(self, who: str) -> str:
        """The ssh user name that leads to a shell there."""
        return getpass.getuser() if who == SSHD else self.pod.login

    def argv(self, who: str, command: str, *options: str, tty: bool = False) -> list[str]:
        """The program that runs a command there, as people would.

        options: more for ssh. tty: on a terminal, for all but kubectl, which wants one of its own.
        """
        if who == WEBSOCKET:
            pod = self.pod
            where = [str(pod.kubeconfig), pod.namespace, pod.name, pod.container]
            return [sys.executable, "-m", "bench.websocket", *where, command, *(["tty"] if tty else [])]
        if who == KUBECTL:
            kubectl = ["kubectl", "--kubeconfig", str(self.pod.kubeconfig), "-n", self.pod.namespace]
            container = ["-c", self.pod.container] if self.pod.container else []
            return [*kubectl, "exec", "-i", self.pod.name, *container, "--", "sh", "-c", command]
        ssh = ["ssh", "-F", str(self.folder / "ssh_config"), "-p", str(self.port(who)), "-l", self.user(who)]
        return [*ssh, *(["-tt"] if tty else []), *options, "bench", command]

    def remove(self, path: str) -> None:
        """Remove a file in the pod, and on this machine, where sshd's sessions are."""
        Path(path).unlink(missing_ok=True)
        _in_pod(self.pod, f"rm -f {path}")

    def blocks(self, count: int) -> str:
        """The command that prints so many blocks."""
        return " ".join(["cat", *[self.block] * count])


@contextmanager
def prepared(wanted: Wanted) -> Iterator[Stage]:
    """Start it all; everything ends with the block. Raises StepFailedError if that cannot be."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        _make_keys(folder, wanted.cipher)
        pod = stack.enter_context(_pod(wanted, folder))
        block = stack.enter_context(_block(pod))
        sshd_path = sshd.path() if SSHD in wanted.who else None
        stage = Stage(
            folder=folder,
            pod=pod,
            block=block,
            sshd=stack.enter_context(sshd.serving(sshd_path, folder)) if sshd_path else None,
            bastions={
                who: stack.enter_context(bastions.serving(folder / who.replace(" ", "-"), name=who, url=url, pod=pod))
                for who, url in _databases(folder, wanted.who, stack).items()
            },
            clients=_clients(wanted.who),
            missing=_missing(wanted.who),
        )
        _try(stage)
        yield stage


@contextmanager
def _pod(wanted: Wanted, folder: Path) -> Iterator[Pod]:
    """The pod that was named, or one of an embedded cluster."""
    namespace, _, rest = wanted.pod.partition("/")
    name, _, container = rest.partition("+")
    with ExitStack() as stack:
        if wanted.kubeconfig is not None:
            admins = own = wanted.kubeconfig
        else:
            cluster_folder = stack.enter_context(_embedded_cluster(folder / "cluster"))
            admins, own = cluster_folder / "kubeconfig", cluster_folder / "bastion.kubeconfig"
        yield Pod(
            kubeconfig=admins,
            bastion_kubeconfig=own,
            group=wanted.group,
            namespace=namespace,
            name=name,
            container=container,
        )


@contextmanager
def _embedded_cluster(folder: Path) -> Iterator[Path]:
    """A cluster of our own; its kubeconfigs are in the folder."""
    argv = [sys.executable, "-m", "bastion.localcluster", "--dir", str(folder), "--until-eof"]
    with processes.started(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline().startswith(b"ready "):
            raise StepFailedError("the embedded cluster did not start")
        yield folder


def _clients(who: Container[str]) -> tuple[str, ...]:
    there = {WEBSOCKET: True, KUBECTL: shutil.which("kubectl") is not None}
    return tuple(client for client, is_there in there.items() if is_there and client in who)


def _missing(who: Container[str]) -> tuple[str, ...]:
    """What to tell about programs that are wanted and not there."""
    missing = []
    if SSHD in who and sshd.path() is None:
        missing.append(
            "sshd is missing, so nothing is compared with it. Install it: sudo apt-get install openssh-server"
        )
    if KUBECTL in who and KUBECTL not in _clients(who):
        missing.append(
            "kubectl is missing and left out. Install it: sudo apt-get install kubectl"
            "  (1.30 or newer: Debian 13 has it)"
        )
    return tuple(missing)


def _try(stage: Stage) -> None:
    """One session on each server, so that what cannot work at all is said at once, and how to mend it."""
    for who in stage.ssh_contenders:
        try:
            timed(stage.argv(who, "true"))
        except StepFailedError as error:
            hint = "" if who == SSHD else _HINT.format(namespace=stage.pod.namespace, group=stage.pod.group)
            raise StepFailedError(f"{who}: {error}{hint}") from error


def _databases(folder: Path, names: Container[str], stack: ExitStack) -> dict[str, str]:
    """A database for each of the bastions."""
    urls = {who: sqlite_url(folder / f"{who}.db") for who in (UNRECORDED, SQLITE) if who in names}
    if POSTGRESQL in names:
        server = stack.enter_context(started_postgresql(folder / "postgresql"))
        urls[POSTGRESQL] = stack.enter_context(fresh_postgresql(server))
    return urls


def _make_keys(folder: Path, cipher: str) -> None:
    for name in ("host", "person"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    (folder / "known_hosts").write_text(f"bench {(folder / 'host.pub').read_text()}")
    (folder / "ssh_config").write_text(_SSH_CONFIG.format(folder=folder, cipher=f"Ciphers {cipher}" if cipher else ""))


@contextmanager
def _block(pod: Pod) -> Iterator[str]:
    """The block, in the pod and on this machine (which sshd serves); /dev/shm is where every container may write."""
    path = Path(f"/dev/shm/bastion-bench-{uuid.uuid4().hex}")
    data = log_text(BLOCK)
    _in_pod(pod, f"cat > {path}", data)
    try:
        path.write_bytes(data)
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
        _in_pod(pod, f"rm -f {path}")


def _in_pod(pod: Pod, command: str, data: bytes = b"") -> None:
    """Run a command in the pod. Raises StepFailedError."""
    try:
        asyncio.run(cluster.run(pod, command, data))
    except (aiohttp.ClientError, OSError, StepFailedError) as error:
        several = " (if it has several containers, name one: POD=NAMESPACE/NAME+CONTAINER)" if not pod.container else ""
        raise StepFailedError(f"{command!r} failed in pod {pod.namespace}/{pod.name}{several}: {error}") from error


def log_text(size: int) -> bytes:
    """So many bytes of lines as logs have them: zstd makes about 0.4 of it."""
    chance = random.Random(1)  # noqa: S311 - the same text every time
    paths = ("/api/orders", "/api/items", "/healthz", "/login", "/static/app.js")
    lines, made = [], 0
    while made < size:
        line = (
            f"2026-01-{chance.randrange(1, 29):02} {chance.randrange(24):02}:{chance.randrange(60):02}:"
            f"{chance.random() * 60:09.6f} INFO request id={chance.getrandbits(64):016x} "
            f"GET {chance.choice(paths)}?user={chance.randrange(100_000)} "
            f"status={chance.choice((200, 200, 200, 404, 500))} ms={chance.randrange(2000)}\n"
        ).encode()
        lines.append(line)
        made += len(line)
    return b"".join(lines)[: size - 1] + b"\n"
