"""The way to an API server for a test: a pods.api.Api, and what it needs; used by tests of pods and of the trip."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from bastion.metrics import Metrics
from bastion.model import ExecRequest
from bastion.pods.api import Api
from bastion.pods.catalog import Catalog
from bastion.pods.configuration import Surroundings, configured
from bastion.pods.kube import KubePods
from bastion.pods.retry import Retries
from bastion.system import SystemClock
from support.kubeconfigs import write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bastion.model import Pty
    from bastion.pods.configuration import ClusterConfiguration
    from bastion.ports import Clock


def told_to_nobody(_text: str) -> None:
    """A `ports.Tell` where nobody waits at a terminal."""


def retries(patience_s: float = 0.0, *, clock: Clock | None = None, metrics: Metrics | None = None) -> Retries:
    """How often to try; by default once."""
    return Retries(
        patience_s=patience_s,
        clock=clock or SystemClock(),
        chance=lambda: 0.5,
        log=structlog.get_logger("test"),
        metrics=metrics or Metrics(),
    )


async def configuration_by(kubeconfig: Path) -> ClusterConfiguration:
    """What a kubeconfig file says."""
    surroundings = Surroundings(
        environ={}, home=kubeconfig.parent, clock=SystemClock(), log=structlog.get_logger("test")
    )
    return await configured(str(kubeconfig), None, surroundings)


async def api_for(kubeconfig: Path, tries: Retries | None = None, *, impersonating: bool = True) -> Api:
    """An Api by a kubeconfig file; to be closed."""
    return Api(await configuration_by(kubeconfig), tries or retries(), impersonating=impersonating)


@asynccontextmanager
async def api_by(kubeconfig: Path, tries: Retries | None = None, *, impersonating: bool = True) -> AsyncIterator[Api]:
    """An Api by a kubeconfig file, until left."""
    api = await api_for(kubeconfig, tries, impersonating=impersonating)
    try:
        yield api
    finally:
        await api.aclose()


def kubeconfig_at(folder: Path, url: str, ca: Path | None = None) -> Path:
    """A kubeconfig, in the folder, for a server that wants no credentials."""
    cluster = {"certificate-authority": str(ca)} if ca else {}
    return write_kubeconfig(folder / "at.kubeconfig", url, cluster=cluster, user={})


def unsynced(api: Api) -> Catalog:
    """A catalogue that knows nothing, so that everything is asked for."""
    return Catalog(api, (), clock=SystemClock(), chance=lambda: 0.5, log=structlog.get_logger("test"))


def pods_by(api: Api, *, clock: Clock | None = None, catalog: Catalog | None = None) -> KubePods:
    """The pods of a cluster, by default without a catalogue that knows anything."""
    log = structlog.get_logger("test")
    return KubePods(api, catalog or unsynced(api), clock=clock or SystemClock(), log=log)


def exec_request(
    command: bytes | None = b"true", pty: Pty | None = None, marker: str = "00112233445566778899"
) -> ExecRequest:
    """Something to be started."""
    return ExecRequest(command=command, pty=pty, env=(), marker=marker)


@asynccontextmanager
async def kept_up(api: Api, *namespaces: str) -> AsyncIterator[Catalog]:
    """A catalogue that keeps up with the cluster."""
    catalog = Catalog(api, namespaces, clock=SystemClock(), chance=lambda: 0.5, log=structlog.get_logger("test"))
    running = asyncio.create_task(catalog.run())
    try:
        yield catalog
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
