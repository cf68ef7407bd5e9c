"""A bastion under measurement: its database, its person and its process; started by bench.stage."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bastion.identity import keys
from bastion.model import Outcome
from bastion.records import AuditEvent
from bastion.store import migrate, open_store
from bastion.system import SystemClock, new_id
from bench.figures import UNRECORDED
from bench.processes import StepFailedError, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.cluster import Pod

PERSON = "bench"

_POLICY = """\
roles:
  bench:
    kubernetes: {{groups: ["{group}"]}}
    allow:
      - {{namespaces: ["{namespace}"], actions: [shell, exec]}}
bindings:
  - {{role: bench, subjects: ["person:{person}"]}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bastion:
    """A running bastion."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process, the one whose CPU and memory are measured."""
        return self.process.pid

    def tell(self, word: str) -> None:
        """Say a word of bench.runner that has no answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, word: str) -> dict[str, Any]:
        """Say a word of bench.runner, and return its answer."""
        self.tell(word)
        return _answer(self.process)


@contextmanager
def serving(folder: Path, *, name: str, url: str, pod: Pod) -> Iterator[Bastion]:
    """Serve on a fresh database; the person's key and the host's are `person` and `host` in the folder above."""
    folder.mkdir()
    keyfile, policy = folder.parent / "person.pub", folder / "policy.yaml"
    asyncio.run(_enrol(url, keyfile.read_text()))
    policy.write_text(_POLICY.format(group=pod.group, namespace=pod.namespace, person=PERSON))
    env = {name: value for name, value in os.environ.items() if not name.startswith("BASTION_")} | {
        "BASTION_DATABASE_URL": url,
        "BASTION_SSH_PORT": "0",
        "BASTION_SSH_HOST_KEY": str(folder.parent / "host"),
        "BASTION_POLICY_FILE": str(policy),
        "BASTION_KUBERNETES_KUBECONFIG": str(pod.bastion_kubeconfig),
        "BASTION_LOG_FORMAT": "json",
        "BASTION_LOG_LEVEL": "warning",
    }
    argv = [sys.executable, "-m", "bench.runner", *(["--unrecorded"] if name == UNRECORDED else [])]
    with (
        (folder / "log").open("wb") as log,
        started(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            port = _answer(process)["port"]
        except StepFailedError as error:
            raise StepFailedError(f"{name} did not start: {(folder / 'log').read_text()}") from error
        yield Bastion(name=name, port=port, process=process)


def _answer(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise StepFailedError("the bastion ended")
    return dict(json.loads(line))


async def _enrol(url: str, line: str) -> None:
    """Make the tables and one person with one key."""
    await migrate.upgrade(url)
    credential, comment = keys.parse(line)
    async with open_store(url, name="bench", clock=SystemClock(), new_id=new_id) as store:
        await store.access.add_person(PERSON, frozenset(), _told("person.added"))
        await store.access.add_key(PERSON, credential, comment, _told("key.added"))


def _told(kind: str) -> AuditEvent:
    return AuditEvent(
        id=new_id(), at=SystemClock().now(), type=kind, outcome=Outcome.SUCCESS, actor="bench", person=PERSON
    )
