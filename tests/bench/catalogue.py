"""(h) What it costs to know a cluster's pods; called by __main__. As a program it is either side of that.

python -m bench.catalogue serve PODS    an API server with so many pods; says its URL, ends with its input
python -m bench.catalogue know URL      the bastion's catalogue of it; says what it took, as JSON
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bastion.login import parse
from bastion.model import TargetLogin
from bastion.pods.resolve import Resolver
from bench import processes
from bench.figures import (
    CATALOG,
    CATALOG_LAG,
    CATALOG_MEMORY,
    CATALOG_SYNC,
    POD_MEMORY,
    RESOLVE_P50,
    RESOLVE_P99,
    Figure,
    percentile,
)
from bench.processes import rss_bytes
from bench.rounds import measured
from support.apis import told_to_nobody
from support.catalogs import connected_to, keeping_up, sees_all
from support.listserver import list_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bastion.podfacts import PodFacts
    from bench.options import Options
    from bench.stage import Stage

TEMPLATE = Path(__file__).parent.parent / "data" / "kube-wire" / "pods-list-namespace.json"
"""A pod of a real Deployment, 5.7 KB of JSON."""

EACH = 5
"""Pods in a ReplicaSet."""

NAMESPACES = 50
RESOLVES = 2000
TICK_S = 0.002


def knowing(_stage: Stage, options: Options) -> Iterator[Figure]:
    """(h) Memory of the process for so many pods, time until they are known, and times of resolving, ms."""
    units = {
        CATALOG_MEMORY: "MB",
        POD_MEMORY: "KiB",
        CATALOG_SYNC: "s",
        CATALOG_LAG: "ms",
        RESOLVE_P50: "ms",
        RESOLVE_P99: "ms",
    }
    once = {CATALOG: partial(_known, options.pods)}
    yield from measured(options, f"{options.pods} pods", units, once, rounds=options.rounds)


def _known(pods: int) -> Mapping[str, list[float]]:
    program = [sys.executable, "-m", "bench.catalogue"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with processes.started([*program, "serve", str(pods)], **pipes) as server:
        assert server.stdout is not None
        url = server.stdout.readline().decode().strip()
        with processes.client([*program, "know", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise processes.failed(process, "it did not get to know the pods")
    found: dict[str, float] = json.loads(said)
    return {what: [value] for what, value in found.items()}


async def _serve(pods: int) -> None:
    template = json.loads(TEMPLATE.read_text())["response"]["json"]["items"][0]
    async with list_server() as server:
        for number in range(0, pods, EACH):
            namespace, name = f"team-{number // EACH % NAMESPACES}", f"service-{number // EACH}"
            owner = [{"kind": "Deployment", "name": name, "uid": f"deploy-{number}", "controller": True}]
            place = {"namespace": namespace, "creationTimestamp": "2026-11-23T06:56:46Z"}
            server.put("deployments", {"metadata": {**place, "name": name, "uid": f"deploy-{number}"}, "spec": {}})
            replica_set = {**place, "name": f"{name}-788b6f4684", "uid": f"rs-{number}", "ownerReferences": owner}
            server.put("replicasets", {"metadata": replica_set, "spec": {}})
            for pod in range(min(EACH, pods - number)):
                server.put("pods", _pod(template, namespace, name, number, pod))
        print(server.url, flush=True)  # noqa: T201 - what `_known` reads
        await asyncio.to_thread(sys.stdin.read)


def _pod(template: Mapping[str, Any], namespace: str, name: str, service: int, number: int) -> dict[str, Any]:
    """A pod as the template, with what is each one's own."""
    pod: dict[str, Any] = json.loads(json.dumps(template))
    owner = {"kind": "ReplicaSet", "name": f"{name}-788b6f4684", "uid": f"rs-{service}", "controller": True}
    pod["metadata"] |= {
        "name": f"{name}-788b6f4684-{number:05}",
        "namespace": namespace,
        "uid": f"{service:08x}-bbbd-4b27-86d2-{number:012x}",
        "labels": {"app": name, "pod-template-hash": "788b6f4684", "team": namespace},
        "ownerReferences": [owner],
    }
    for status in pod["status"]["containerStatuses"]:
        status["containerID"] = f"containerd://{service:032x}{number:032x}"
    return pod


async def _know(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with connected_to(url, Path(folder)) as way:
            before, begin, lags = rss_bytes(os.getpid()), time.perf_counter(), list[float]()
            watching = asyncio.create_task(_watch_loop(lags))
            async with keeping_up(way) as catalog:
                sync_s = time.perf_counter() - begin
                watching.cancel()
                pods = catalog.pods()
                resolver = Resolver(way, catalog)
                chosen = random.Random(1).choices(pods, k=RESOLVES)  # noqa: S311 - the same every time
                times = [await _timed(resolver, login) for pod in chosen for login in _logins(pod)]
                grown = rss_bytes(os.getpid()) - before
    found = {
        CATALOG_MEMORY: grown / 1e6,
        POD_MEMORY: grown / len(pods) / 1024,
        CATALOG_SYNC: sync_s,
        CATALOG_LAG: max(lags),
        RESOLVE_P50: percentile(times, 50),
        RESOLVE_P99: percentile(times, 99),
    }
    print(json.dumps(found))  # noqa: T201 - what `_known` reads


def _logins(pod: PodFacts) -> tuple[str, str]:
    """A pod by its name, and some pod of its Deployment."""
    return f"{pod.name}.{pod.namespace}", f"deploy_{pod.labels['app']}.{pod.namespace}"


async def _timed(resolver: Resolver, login: str) -> float:
    """Milliseconds that it takes to find out what a login means."""
    begin = time.perf_counter()
    where = parse(login)
    assert isinstance(where, TargetLogin)
    await resolver.resolve(where, person="alice", sees=sees_all, enters=sees_all, tell=told_to_nobody)
    return (time.perf_counter() - begin) * 1000


async def _watch_loop(lags: list[float]) -> None:
    """How late the event loop is, ms, again and again."""
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(TICK_S)
        lags.append((time.perf_counter() - begin - TICK_S) * 1000)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    side, given = sys.argv[1:]
    asyncio.run(_serve(int(given)) if side == "serve" else _know(given))
