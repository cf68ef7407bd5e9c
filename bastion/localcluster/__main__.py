"""The embedded cluster as a process of its own; started by cli for the demo and by tests.

Prints one line, `ready https://127.0.0.1:PORT`, and serves until SIGTERM or SIGINT, or, with --until-eof, until stdin
ends.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import ipaddress
import math
import os
import secrets
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from bastion.errors import BastionError, Code
from bastion.localcluster import certificates, kubeconfig, seed, subprotocols
from bastion.localcluster.accounttokens import AccountTokens
from bastion.localcluster.api import Api
from bastion.localcluster.auditlog import AuditLog
from bastion.localcluster.control import Control
from bastion.localcluster.controllers import Controllers
from bastion.localcluster.execs import Execs
from bastion.localcluster.faults import Faults
from bastion.localcluster.happenings import Happenings
from bastion.localcluster.kubelet import Kubelet
from bastion.localcluster.objects import Objects
from bastion.localcluster.podmetrics import PodMetrics
from bastion.localcluster.runtime import Runtime
from bastion.localcluster.server import Server
from bastion.localcluster.store import Store
from bastion.localcluster.subresources import Subresources
from bastion.system import told_to_stop

USAGE = 2
_STDIN = 0


def main() -> int:
    """Run the embedded cluster; returns the exit status."""
    arguments = _parser().parse_args()
    try:
        asyncio.run(_run(arguments))
    except BastionError as error:
        print(f"localcluster: {error.user_message}", file=sys.stderr)  # noqa: T201 - its log
        return USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bastion.localcluster",
        description="A small Kubernetes whose containers are local processes, for the demo and for tests.",
    )
    parser.add_argument("--dir", type=Path, required=True, help="where keys, kubeconfigs and container files are kept")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 is any (default)")
    parser.add_argument("--subprotocols", default="v5,v4", choices=("v5,v4", "v4"), help="v4 makes an old server")
    parser.add_argument("--no-metrics", action="store_true", help="a cluster without a metrics server")
    parser.add_argument(
        "--bookmarks-every", type=_seconds, default=60.0, metavar="S", help="of watches that want them (%(default)s s)"
    )
    parser.add_argument("--until-eof", action="store_true", help="end when stdin, a pipe, ends")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: a number of seconds above 0 is wanted")
    return seconds


async def _run(arguments: argparse.Namespace) -> None:
    with told_to_stop() as stop:
        if arguments.until_eof:
            _stop_at_eof(stop)
        await _serve(arguments, stop)


async def _serve(arguments: argparse.Namespace, stop: asyncio.Event) -> None:
    host = _loopback(arguments.host)
    directory = _own(arguments.dir)
    store = Store(now=_now, new_uid=lambda: str(uuid.uuid4()))
    seed.fill(store)
    runtime = Runtime(directory / "containers")
    runtime.open()
    known = subprotocols.NEW_SERVER if arguments.subprotocols == "v5,v4" else subprotocols.OLD_SERVER
    execs = Execs(runtime, known, new_exec_id=lambda: secrets.token_hex(32))
    happenings = Happenings(store, new_suffix=lambda: f"{time.time_ns():016x}")
    kubelet = Kubelet(store=store, runtime=runtime, happenings=happenings, now=_now)
    controllers = Controllers(store, kubelet, new_suffix=_suffix)
    tokens = kubeconfig.ensure_tokens(directory, lambda: secrets.token_urlsafe(32))
    files = certificates.ensure(directory, _now())
    account_tokens = AccountTokens(now=_now, new_id=lambda: str(uuid.uuid4()))
    objects = Objects(store=store, kubelet=kubelet, new_suffix=_suffix, bookmarks_every_s=arguments.bookmarks_every)
    subresources = Subresources(
        store=store, objects=objects, kubelet=kubelet, execs=execs, account_tokens=account_tokens
    )
    faults = Faults()
    audit = AuditLog()
    api = Api(
        store=store,
        tokens=tokens,
        account_tokens=account_tokens,
        objects=objects,
        subresources=subresources,
        pod_metrics=None if arguments.no_metrics else PodMetrics(store, runtime),
        faults=faults,
        audit=audit,
    )
    server = Server(api, files)
    control = await Control(
        execs=execs, kubelet=kubelet, runtime=runtime, store=store, server=server, faults=faults, audit=audit
    ).listen(directory)
    loops: list[asyncio.Task[None]] = []
    try:
        kubelet.sync()
        controllers.sync()
        store.forget_changes()
        loops = [asyncio.create_task(kubelet.run()), asyncio.create_task(controllers.run())]
        url = f"https://{host}:{await _listen(server, arguments)}"
        kubeconfig.write(directory, url, files.ca.read_bytes(), tokens)
        print(f"ready {url}", flush=True)  # noqa: T201 - what its parent waits for
        await stop.wait()
    finally:
        control.close()
        await server.close()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await kubelet.close()
        await runtime.close()


def _loopback(host: str) -> str:
    """The address as it stands in a URL. Raises BastionError if others could reach it."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise BastionError(Code.INVALID, f"--host {host}: only a loopback address is served; use --host 127.0.0.1")
    return f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6


def _own(directory: Path) -> Path:
    """Make the directory ours alone for as long as this process runs."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = directory.resolve()
        directory.chmod(0o700)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)  # the kernel lets it go when we end
    except OSError as error:
        raise BastionError(Code.INVALID, f"--dir {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BastionError(Code.INVALID, f"--dir {directory}: another embedded cluster is running there") from error
    return directory


async def _listen(server: Server, arguments: argparse.Namespace) -> int:
    try:
        return await server.listen(arguments.host, arguments.port)
    except (OSError, OverflowError) as error:
        raise BastionError(Code.INVALID, f"--port {arguments.port}: {error}") from error


def _stop_at_eof(stop: asyncio.Event) -> None:
    try:
        asyncio.get_running_loop().add_reader(_STDIN, _read_stdin, stop)
    except PermissionError as error:  # a file: epoll cannot watch one
        raise BastionError(Code.INVALID, "--until-eof: stdin must be a pipe") from error


def _read_stdin(stop: asyncio.Event) -> None:
    if not os.read(_STDIN, 4096):
        asyncio.get_running_loop().remove_reader(_STDIN)
        stop.set()


def _suffix() -> str:
    """As Kubernetes makes them: no vowels, and nothing that looks like another character."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    raise SystemExit(main())
