"""What the demo keeps in its folder: keys, people, policy, ssh_config, env; made once, found again; used by demo."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bastion.cli import output
from bastion.errors import BastionError, Code
from bastion.identity import keys
from bastion.model import Outcome
from bastion.records import AuditEvent
from bastion.settings import Settings
from bastion.store import migrate, open_store
from bastion.system import SystemClock, new_id

if TYPE_CHECKING:
    from bastion.store.access import Access

PEOPLE = {"alice": "engineers", "carl": "contractors"}
"""Who there is, and in which group. Whoever has the key "stranger" is nobody."""

HOSTS = {"bastion": "alice", "bastion-contractor": "carl", "bastion-stranger": "stranger"}
"""The host names of ssh_config, and the key each offers."""

POLICY = """\
# Who may do what where. `bastion policy check FILE` reads it as the bastion does.
roles:
  engineer:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - namespaces: [default, shop, prod]
        actions: [shell, exec, debug, logs, describe, events, top, pods]
    debug: {images: ["local/debian:1"]}
  contractor:
    kubernetes: {groups: ["bastion:contractor"]}
    allow:
      - namespaces: [shop]
        actions: [logs, describe, events, top, pods]
bindings:
  - {role: engineer, subjects: ["group:engineers"]}
  - {role: contractor, subjects: ["group:contractors"]}
"""

_COMMON = """\
Host {hosts}
    HostName 127.0.0.1
    Port {port}
    User console
    HostKeyAlias bastion
    UserKnownHostsFile "{folder}/known_hosts"
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    IdentitiesOnly yes
    IdentityAgent none
"""
_HOST = """
Host {host}
    IdentityFile "{folder}/keys/{key}"
"""


async def prepare(folder: Path, port: int) -> Settings:
    """Make what is missing in the folder and say with which settings to serve from it.

    Raises BastionError(INVALID) if the folder cannot be written.
    """
    try:
        public = {name: _key(folder / "keys" / name) for name in (*PEOPLE, "stranger", "host")}
        _write(folder / "policy.yaml", POLICY, keep=True)
    except OSError as error:
        raise BastionError(Code.INVALID, f"--dir {folder}: {error.strerror}") from error
    url = f"sqlite:///{folder}/bastion.db"
    await migrate.upgrade(url)
    async with open_store(url, name="demo", clock=SystemClock(), new_id=new_id) as store:
        await _add_people(store.access, public)
    _write(folder / "known_hosts", f"bastion {public['host']}\n")
    _write(folder / "env", _env(url))
    return Settings.model_validate(
        {
            "database": {"url": url},
            "ssh": {
                "host": "127.0.0.1",
                "port": port,
                "host_key": str(folder / "keys" / "host"),
                "exempt_sources": "127.0.0.0/8",  # strangers and friends come from one address here
            },
            "kubernetes": {"kubeconfig": str(folder / "cluster" / "bastion.kubeconfig")},
            "policy": {"file": str(folder / "policy.yaml")},
            "log": {"level": "warning"},
        }
    )


def welcome(folder: Path, port: int) -> str:
    """Write what holds the port, and return what to print: what runs, and lines to paste."""
    hosts = "".join(_HOST.format(host=host, folder=folder, key=key) for host, key in HOSTS.items())
    _write(folder / "ssh_config", _COMMON.format(hosts=" ".join(HOSTS), port=port, folder=folder) + hosts)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.unlink(missing_ok=True)
    kubeconfig.symlink_to(folder / "cluster" / "kubeconfig")
    shown = Path(os.path.relpath(folder)) if folder.is_relative_to(Path.cwd()) else folder
    ssh, env = (
        f"ssh -F {shlex.quote(str(shown / 'ssh_config'))}",
        shlex.quote(f"./{shown}/env" if not shown.is_absolute() else f"{shown}/env"),
    )
    return f"""\
The bastion listens on 127.0.0.1 port {port}; an embedded cluster runs behind it. Its files are in {shown}/.
In another terminal:

  {ssh} web.default@bastion                  a shell, as alice, an engineer
  {ssh} web.default@bastion 'ls -l; exit 3'  a command, and its status
  {ssh} multi.default+sidecar@bastion        another container of a pod
  {ssh} deploy_api.shop@bastion              a ready pod of a Deployment
  {ssh} web.default@bastion-contractor       refused: carl may look at namespace shop only
  {ssh} web.default@bastion-stranger         a key that nobody knows

  . {env}; bastion audit sessions      what happened, and bastion audit --help

Ctrl-C ends it all; what was recorded is found again by the next start.
"""


async def _add_people(access: Access, public: dict[str, str]) -> None:
    there = {person.subject async for person in access.people()}
    for subject, group in PEOPLE.items():
        if subject in there:
            continue
        credential, comment = keys.parse(public[subject])
        await access.add_person(subject, frozenset({group}), _told("person.added", subject))
        await access.add_key(subject, credential, comment, _told("key.added", subject, credential.id))


def _told(kind: str, subject: str, credential: str = "") -> AuditEvent:
    return AuditEvent(
        id=new_id(),
        at=SystemClock().now(),
        type=kind,
        outcome=Outcome.SUCCESS,
        actor=output.actor(),
        person=subject,
        credential=credential,
    )


def _key(path: Path) -> str:
    """The public line of an ed25519 key, which is made if it is not there."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        _write(path.with_suffix(".pub"), f"{public.decode()} {path.name}@demo\n")
        _write(path, private.decode())
    return path.with_suffix(".pub").read_text().strip()


def _env(url: str) -> str:
    binaries = Path(sys.executable).parent
    return f'export BASTION_DATABASE_URL={shlex.quote(url)}\nexport PATH={shlex.quote(str(binaries))}:"$PATH"\n'


def _write(path: Path, text: str, *, keep: bool = False) -> None:
    """Write a file that only its owner may read; `keep` leaves one that is there."""
    if keep and path.exists():
        return
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
