"""Builds everything from settings, runs it until told to stop, lets go of it in order; called by cli.serve, cli.demo.

    store -> pods -> recorder -> trips -> ssh

It ends the other way round: nobody new is let in, sessions end and say why,
what they still have to write is written, then the store closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bastion import admission, policyfile
from bastion.console.door import Console
from bastion.console.visit import ConsoleRooms
from bastion.errors import BastionError, Code
from bastion.gate import Gate
from bastion.leftovers import Leftovers, in_turn
from bastion.metrics import Metrics
from bastion.pods import api
from bastion.pods.catalog import Catalog
from bastion.pods.configuration import ACCOUNT, Surroundings, configured
from bastion.pods.kube import KubePods
from bastion.pods.looking import KubeLooking
from bastion.pods.retry import Retries
from bastion.recorder import Recorder
from bastion.refusals import Refusals
from bastion.session import Trips
from bastion.settings import names_in
from bastion.ssh.doorkeeper import Doorkeeper
from bastion.ssh.listener import Address, listen
from bastion.ssh.rooms import Rooms
from bastion.store import open_store
from bastion.system import SystemClock, new_id, told_to_stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from structlog.typing import FilteringBoundLogger

    from bastion.pods.api import Api
    from bastion.policy import Policy
    from bastion.settings import KubernetesSettings, MetricsSettings, Settings, SshSettings
    from bastion.ssh.listener import Listener

DRAIN_WITHIN_S = 20.0
"""How long sessions and what they left to do may take to end."""


class Tasks:
    """Work that runs beside whoever started it, and is waited for at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine; it handles its own failures."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> int:
        """Wait for everything, also for what is started meanwhile; returns how many had to be cancelled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WITHIN_S):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Listener]:
    """The whole bastion, listening, until left. Raises BastionError when something it needs is not there."""
    log = structlog.get_logger("bastion")
    policy = _policy(settings)
    host_key = _host_key(settings)
    clock, tasks, metrics = SystemClock(), Tasks(), Metrics()
    async with (
        _metrics_served(settings.metrics, metrics, log=log),
        open_store(
            settings.database.url,
            name=socket.gethostname(),
            clock=clock,
            new_id=new_id,
            timeout=settings.recording.timeout_s,
        ) as store,
        _cluster(settings.kubernetes, clock=clock, log=log, metrics=metrics) as (cluster, catalog),
    ):
        earlier = await store.writer.begin()
        if earlier.closed:
            log.warning("sessions.incomplete", count=len(earlier.closed))
        recorder = Recorder(store.writer)
        refusals = Refusals(store.writer, clock=clock, new_id=new_id, log=log, start=tasks.start)
        pods = KubePods(cluster, catalog, clock=clock, log=log)
        trips = Trips(
            gate=Gate(pods=pods, policy=policy),
            pods=pods,
            audit=store.writer,
            refusals=refusals,
            recorder=recorder,
            leftovers=Leftovers(pods=pods, audit=store.writer, clock=clock, new_id=new_id, log=log, metrics=metrics),
            clock=clock,
            new_id=new_id,
            log=log,
            later=tasks.start,
        )
        lingering = {role.name for role in policy.roles if role.lingering}
        for after_s, left in in_turn(earlier.left, clock.now()):
            again = trips.leftovers.reap_again(left, lingering=left.roles <= lingering, after_s=after_s)
            tasks.start(again, f"reap-{left.session.id}")
        rooms = Rooms(
            identities=store.access,
            audit=store.writer,
            refusals=refusals,
            trips=trips,
            console=Console(
                ConsoleRooms(
                    trips=trips,
                    looking=KubeLooking(cluster, catalog, names_in(settings.kubernetes.namespaces)),
                    audit=store.writer,
                    policy=policy,
                    impersonating=cluster.impersonating,
                    clock=clock,
                    new_id=new_id,
                )
            ),
            clock=clock,
            new_id=new_id,
            log=log,
            start=tasks.start,
            doorkeeper=Doorkeeper(_admission(settings.ssh), clock=clock, chance=random.SystemRandom().random),
            max_auth_tries=settings.ssh.max_auth_tries,
            max_channels=settings.ssh.max_channels,
        )
        address = Address(
            host=settings.ssh.host,
            port=settings.ssh.port,
            host_key=host_key,
            login_timeout_s=settings.ssh.login_timeout_s,
            keepalive_interval_s=settings.ssh.keepalive_interval_s,
            keepalive_count=settings.ssh.keepalive_count,
            fast_path=settings.ssh.fast_path,
        )
        async with listen(address, rooms) as listener:
            log.info("listening", host=address.host, port=listener.port, roles=len(policy.roles), policy=policy.digest)
            try:
                yield listener
            finally:
                log.info("stopping")
                listener.stop("the bastion is stopping")
                unfinished = await tasks.drain()
                log.info("stopped", unfinished=unfinished)
        await tasks.drain()  # what ended with the last connections
        await refusals.close()
        await recorder.drain()


@asynccontextmanager
async def _cluster(
    settings: KubernetesSettings, *, clock: SystemClock, log: FilteringBoundLogger, metrics: Metrics
) -> AsyncIterator[tuple[Api, Catalog]]:
    """The way to the cluster, and what is known of it, kept up with until left."""
    chance = random.SystemRandom().random
    surroundings = Surroundings(environ=os.environ, home=Path(os.environ.get("HOME", "/")), clock=clock, log=log)
    configuration = await configured(settings.kubeconfig, settings.context, surroundings)
    retries = Retries(patience_s=settings.patience_s, clock=clock, chance=chance, log=log, metrics=metrics)
    impersonating = settings.mode == "impersonate"
    async with api.connect(configuration, retries, impersonating=impersonating) as cluster:
        catalog = Catalog(cluster, names_in(settings.namespaces), clock=clock, chance=chance, log=log)
        metrics.watch_catalog(lambda: catalog.stale_s)
        keeping_up = asyncio.create_task(_kept_up(catalog, log), name="catalog")
        try:
            yield cluster, catalog
        finally:
            keeping_up.cancel()
            await asyncio.gather(keeping_up, return_exceptions=True)


async def _kept_up(catalog: Catalog, log: FilteringBoundLogger) -> None:
    try:
        await catalog.run()
    except Exception:  # people are still let in: what is not known is asked for
        log.exception("catalog.bug")


@asynccontextmanager
async def _metrics_served(
    settings: MetricsSettings, metrics: Metrics, *, log: FilteringBoundLogger
) -> AsyncIterator[None]:
    if settings.port is None:
        yield
        return
    with metrics.served(settings.host, settings.port) as port:
        log.info("metrics", host=settings.host, port=port)
        yield


async def serve(settings: Settings, ready: Callable[[Listener], None]) -> None:
    """Run until SIGTERM or SIGINT; `ready` is called once people can come in."""
    with told_to_stop() as stop:
        async with running(settings) as listener:
            ready(listener)
            await stop.wait()


def _own_namespace() -> frozenset[str]:
    """The namespace this runs in, if it runs in a pod."""
    try:
        return frozenset({(ACCOUNT / "namespace").read_text().strip()})
    except OSError:
        return frozenset()


def _policy(settings: Settings) -> Policy:
    if settings.policy.file is None:
        raise BastionError(Code.INVALID, "no policy file is named, so nobody could be let in: set BASTION_POLICY_FILE")
    policy = policyfile.load(Path(settings.policy.file))
    return replace(policy, protected=policy.protected | _own_namespace())


def _admission(ssh: SshSettings) -> admission.Rules:
    return admission.Rules(
        max_startups=admission.parse_max_startups(ssh.max_startups),
        per_source=ssh.max_startups_per_source,
        penalties=admission.parse_penalties(ssh.penalties),
        exempt=admission.parse_networks(ssh.exempt_sources),
    )


def _host_key(settings: Settings) -> Path:
    if settings.ssh.host_key is None:
        raise BastionError(
            Code.INVALID,
            "no host key is named: set BASTION_SSH_HOST_KEY (make one with `ssh-keygen -t ed25519 -N '' -f FILE`)",
        )
    return Path(settings.ssh.host_key)
