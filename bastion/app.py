"""Builds everything from settings, runs it until told to stop, lets go of it in order; called by cli.serve, cli.demo.

    store -> pods -> recorder -> trips -> ssh

It ends the other way round: nobody new is let in, sessions end and say why,
what they still have to write is written, then the store closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bastion import admission, policyfile
from bastion.errors import BastionError, Code
from bastion.pods import api
from bastion.pods.kube import KubePods
from bastion.recorder import Recorder
from bastion.refusals import Refusals
from bastion.session import Trips
from bastion.ssh.connection import Rooms
from bastion.ssh.doorkeeper import Doorkeeper
from bastion.ssh.listener import Address, listen
from bastion.store import open_store
from bastion.system import SystemClock, new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from bastion.policy import Policy
    from bastion.settings import Settings, SshSettings
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
    clock, tasks = SystemClock(), Tasks()
    async with (
        open_store(
            settings.database.url,
            name=socket.gethostname(),
            clock=clock,
            new_id=new_id,
            timeout=settings.recording.timeout_s,
        ) as store,
        api.connect(settings.kubernetes.kubeconfig, settings.kubernetes.context) as cluster,
    ):
        closed = await store.writer.begin()
        if closed:
            log.warning("sessions.incomplete", count=len(closed))
        recorder = Recorder(store.writer)
        refusals = Refusals(store.writer, clock=clock, new_id=new_id, log=log, start=tasks.start)
        trips = Trips(
            pods=KubePods(cluster),
            audit=store.writer,
            refusals=refusals,
            recorder=recorder,
            policy=policy,
            clock=clock,
            new_id=new_id,
            log=log,
            later=tasks.start,
        )
        for session in closed:
            tasks.start(trips.clean_up(session), f"reap-{session.id}")
        rooms = Rooms(
            identities=store.access,
            audit=store.writer,
            refusals=refusals,
            trips=trips,
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


async def serve(settings: Settings, ready: Callable[[Listener], None]) -> None:
    """Run until SIGTERM or SIGINT; `ready` is called once people can come in."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as listener:
        ready(listener)
        await stop.wait()


def _policy(settings: Settings) -> Policy:
    if settings.policy.file is None:
        raise BastionError(Code.INVALID, "no policy file is named, so nobody could be let in: set BASTION_POLICY_FILE")
    return policyfile.load(Path(settings.policy.file))


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
