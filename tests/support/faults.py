"""A running bastion with a fault proxy on every side of it, and an auditor past them; used by tests/failures.

ssh -> door -> bastion -> api -> cluster
                  |
               database (PostgreSQL)
"""

from __future__ import annotations

import asyncio
import math
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import yaml
from sqlalchemy import make_url

from bastion.integrity import Verifier
from bastion.store import open_reader
from bastion.store.migrate import upgrade
from bastion.store.views import Filter
from bastion.wire.transcript import Kind, frames_of
from support import trips
from support.faultproxy import fault_proxy
from support.trips import BIN, Bastion, started, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from bastion.records import AuditEvent, SessionEnd
    from bastion.store.reader import Reader
    from support.faultproxy import FaultProxy, Upstream

TIMEOUT_S = 2
"""How long a commit may take in these bastions, and an API server be waited for, so that no test waits for long."""

SETTINGS = {
    "BASTION_RECORDING_TIMEOUT_S": str(TIMEOUT_S),
    "BASTION_KUBERNETES_PATIENCE_S": "2",
    "BASTION_SSH_EXEMPT_SOURCES": "127.0.0.0/8",  # everybody comes from the address of the door's proxy
}

TOLD_WITHIN_S = 30.0
"""How soon after a fault the person has the cause: what is promised."""

SLOWER_BY_S = 15.0
"""What a busy machine may add to that: the timers behind it are all ours, and add up to little less."""

MOST_LOST = 64 * 1024
"""How many bytes may have been forwarded that the record does not hold."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the record says of a session that ended. `output` is stdout as it was recorded; the chain is verified."""

    id: str
    end: SessionEnd
    seconds: float
    output: bytes
    events: tuple[AuditEvent, ...]


@dataclass(frozen=True, slots=True)
class Auditor:
    """Reads the record as `bastion audit` does, but in this process, which is quicker."""

    url: str

    def ended(self, word: str) -> Ended:
        """The session whose command line holds a word, once it has ended."""
        return wait_until(lambda: self._ask(lambda reader: _ended(reader, word)))

    def holds(self, word: str) -> bool:
        """Whether a command line with a word is in the record."""

        async def look(reader: Reader) -> bool:
            return any(word.encode() in one.record.text for one in await reader.commands(Filter(), limit=50))

        return self._ask(look)

    def events(self, kind: str, *, person: str = "alice") -> list[AuditEvent]:
        """The newest events of a kind."""

        async def look(reader: Reader) -> list[AuditEvent]:
            found = await reader.events(Filter(person=person), limit=50)
            return [event.record for event in found if event.record.type == kind]

        return self._ask(look)

    def _ask(self, question: Callable[[Reader], Awaitable[Answer]]) -> Answer:
        async def asked() -> Answer:
            async with open_reader(self.url) as reader:
                return await question(reader)

        return asyncio.run(asked())


async def _ended(reader: Reader, word: str) -> Ended | None:
    for command in await reader.commands(Filter(), limit=50):
        if word.encode() in command.record.text:
            break
    else:
        return None
    view = await reader.session(command.record.session)
    if view.end is None:
        return None
    verifier = Verifier(view.record.id)
    async for link in reader.session_chain(view.record.id):
        verifier.add(link)
    assert verifier.verdict().intact, verifier.verdict()
    output, seq = b"", 0
    async for chunk in reader.chunks(view.record.id):
        output += b"".join(frame.data for frame in frames_of(chunk, seq) if frame.kind is Kind.STDOUT)
        seq += 1
    events = [event.record for event in await reader.events(Filter(), limit=50)]
    return Ended(
        id=view.record.id,
        end=view.end,
        seconds=(view.end.ended_at - view.record.started_at).total_seconds(),
        output=output,
        events=tuple(event for event in events if event.session == view.record.id),
    )


@dataclass
class Faulty:
    """A bastion, the proxies around it, and its record. `database` is None for SQLite."""

    bastion: Bastion
    auditor: Auditor
    door: FaultProxy
    api: FaultProxy
    database: FaultProxy | None

    def argv(self, *arguments: str) -> list[str | bytes]:
        """Arguments for ssh, through the door's proxy, and over the master if there is one and no other is named."""
        options = ("-p", str(self.door.port))
        return self.bastion.ssh_argv(*options, *arguments[:-2], "-o", f"ControlPath={self._master}", *arguments[-2:])

    def ssh(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run ssh to its end."""
        return subprocess.run(self.argv(*arguments), input=b"", capture_output=True, timeout=90, check=False)

    @contextmanager
    def master(self) -> Iterator[None]:
        """A connection that is there before something fails; every ssh shares it meanwhile."""
        try:
            with started(self.argv("-M", "-N", "web.default@b")):
                wait_until(self._master.exists)
                yield
        finally:
            self._master.unlink(missing_ok=True)  # a client that is killed leaves it

    @property
    def _master(self) -> Path:
        return self.bastion.sockets / "master"

    @contextmanager
    def printing(self, command: str, *options: str, login: str = "web.default") -> Iterator[Printing]:
        """An ssh client whose command prints in the pod; its output is read as it comes."""
        word = new_word()
        with started(self.argv(*options, f"{login}@b", f"{command}; : {word}")) as ssh:
            printing = Printing(ssh, word)
            wait_until(lambda: printing.received or ssh.poll() is not None)
            assert printing.received, printing.ended()
            yield printing

    def resume(self) -> None:
        """Every proxy is well again."""
        for proxy in (self.door, self.api, self.database):
            if proxy is not None:
                proxy.resume()

    def is_whole(self, word: str = "") -> None:
        """Assert that who comes now gets what they ask for, recorded, and that a word's session left nothing."""
        fresh = new_word()
        # What was refused while the cause lasted is told until it is gone.
        done = wait_until(lambda: _if_well(self.ssh("web.default@b", f"echo {fresh}")))
        assert done.stdout.decode() == f"{fresh}\n"
        ended = self.auditor.ended(fresh)
        assert (ended.end.complete, ended.output) == (True, done.stdout)
        if word:
            wait_until(lambda: not self.bastion.running(word))


def _if_well(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes] | None:
    return done if done.returncode == 0 else None


class Printing:
    """A running ssh client, and what it has printed so far.

    ended_at: when it ended, by `time.monotonic`; infinity until it has.
    """

    def __init__(self, ssh: subprocess.Popen[bytes], word: str) -> None:
        """Reads stdout until it ends."""
        self.ssh = ssh
        self.word = word
        self.ended_at = math.inf
        self._received = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def received(self) -> bytes:
        """What came on stdout."""
        return bytes(self._received)

    def quiet(self) -> int:
        """How many bytes had come when nothing came any more for a quarter of a second."""

        def is_quiet() -> bool:
            before = len(self._received)
            time.sleep(0.25)
            return len(self._received) == before

        wait_until(is_quiet)
        return len(self._received)

    def type(self, data: bytes) -> None:
        """Send input."""
        assert self.ssh.stdin is not None
        self.ssh.stdin.write(data)
        self.ssh.stdin.flush()

    def ended(self) -> tuple[int, bytes]:
        """The exit status and stderr, once it ends."""
        self.ssh.wait(2 * trips.PATIENCE_S)
        self._reader.join(trips.PATIENCE_S)
        assert self.ssh.stderr is not None
        return self.ssh.returncode, self.ssh.stderr.read()

    def _read(self) -> None:
        assert self.ssh.stdout is not None
        while piece := self.ssh.stdout.read1(65536):  # type: ignore[attr-defined] # IO[bytes] is a BufferedReader here
            self._received += piece
        self.ssh.wait()
        self.ended_at = time.monotonic()


def new_word() -> str:
    """A word that no other test uses."""
    return f"word-{uuid.uuid4().hex}"


@contextmanager
def faulty_bastion(folder: Path, url: str, **settings: str) -> Iterator[Faulty]:
    """A serving bastion on a fresh database, with proxies around it."""
    with prepared(folder, url, **settings) as faulty, serving(faulty):
        yield faulty


@contextmanager
def prepared(folder: Path, url: str, **settings: str) -> Iterator[Faulty]:
    """All but the bastion itself: a database with people, a cluster, and proxies; see `serving`."""
    asyncio.run(upgrade(url))
    env = trips._environment(folder, url) | SETTINGS | settings
    upstream = database_address(url)
    with tempfile.TemporaryDirectory(prefix="mux") as sockets:
        bastion = Bastion(folder=folder, env=env, sockets=Path(sockets))
        _prepare(bastion, url)
        with (
            trips._cluster(bastion, ()),
            fault_proxy(_address_in(folder / "cluster" / "bastion.kubeconfig")) as api,
            _maybe(upstream) as database,
            fault_proxy(("127.0.0.1", 1)) as door,  # it leads on when the bastion's port is known
        ):
            yield Faulty(bastion=bastion, auditor=Auditor(url), door=door, api=api, database=database)


@contextmanager
def serving(faulty: Faulty) -> Iterator[subprocess.Popen[str]]:
    """`bastion serve` of a prepared bastion; it must end well, unless a test killed it."""
    bastion = faulty.bastion
    bastion.log.clear()
    argv = [str(BIN / "bastion"), "serve"]
    with subprocess.Popen(
        argv, env=environment(faulty), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        reader = threading.Thread(target=trips._read_log, args=(process, bastion.log), daemon=True)
        reader.start()
        try:
            bastion.port = wait_until(lambda: _port(bastion, process))
            bastion.pid = process.pid
            faulty.door.upstream = ("127.0.0.1", bastion.port)
            trips._write_ssh_config(bastion)
            yield process
        finally:
            faulty.resume()
            process.terminate()
            try:
                status = process.wait(60)
            finally:
                process.kill()
                reader.join(10)
    assert status in {0, -signal.SIGKILL}, bastion.log


def environment(faulty: Faulty) -> dict[str, str]:
    """What the bastion sees: its cluster and its database through the proxies."""
    cluster = faulty.bastion.folder / "cluster"
    env = faulty.bastion.env | {"BASTION_KUBERNETES_KUBECONFIG": str(_rewritten(cluster, faulty.api.port))}
    if faulty.database is not None:
        proxied = make_url(faulty.auditor.url).set(host="127.0.0.1", port=faulty.database.port, query={})
        env["BASTION_DATABASE_URL"] = proxied.render_as_string(hide_password=False)
    return env


def _prepare(bastion: Bastion, url: str) -> None:
    """What trips._prepare does, without a process for each command."""
    (bastion.folder / "policy.yaml").write_text(trips.POLICY)
    for name in ("host", "stranger", *trips.PEOPLE):
        trips._keygen(bastion.folder / name)
    asyncio.run(trips.add_people(bastion.folder, url))


def _port(bastion: Bastion, process: subprocess.Popen[str]) -> int | None:
    assert process.poll() is None, bastion.log
    return next((entry["port"] for entry in bastion.log if entry["event"] == "listening"), None)


def database_address(url: str) -> Upstream | None:
    """Where a PostgreSQL listens; None for SQLite."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return None
    host = str(parsed.query.get("host") or parsed.host or "127.0.0.1")
    port = parsed.port or int(str(parsed.query.get("port", 5432)))
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


@contextmanager
def _maybe(upstream: Upstream | None) -> Iterator[FaultProxy | None]:
    if upstream is None:
        yield None
        return
    with fault_proxy(upstream) as proxy:
        yield proxy


def _address_in(kubeconfig: Path) -> tuple[str, int]:
    server = urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    assert server.hostname is not None
    assert server.port is not None
    return server.hostname, server.port


def _rewritten(cluster: Path, port: int) -> Path:
    """The bastion's kubeconfig, its server at another port of 127.0.0.1, which the certificate covers too."""
    config = yaml.safe_load((cluster / "bastion.kubeconfig").read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path = cluster / "proxied.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
