"""What operators count and watch, for Prometheus; built by app, told by the rooms, served where the settings say."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bastion.model import Reaped


class Metrics:
    """One process's counters, in a registry of their own. None holds a name of a person, a pod or a file."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._retries = Counter(
            "bastion_api_retries", "Requests to the API server that were made again.", registry=self._registry
        )
        self._reaped = Counter(
            "bastion_reaped_processes",
            "Processes that sessions left in their containers, by what became of them.",
            ["became"],
            registry=self._registry,
        )
        self._not_reaped = Counter(
            "bastion_reaps_failed", "Containers that could not be looked into.", registry=self._registry
        )
        self._age = Gauge(
            "bastion_catalog_stale_seconds",
            "For how long the list of pods has been out of date; 0 while it is not.",
            registry=self._registry,
        )
        for became in ("ended", "left"):
            self._reaped.labels(became)  # so that both are there from the beginning

    def api_retried(self) -> None:
        """A request failed in a way that may pass, and will be made again."""
        self._retries.inc()

    def reaped(self, reaped: Reaped) -> None:
        """What a session left was looked for."""
        self._reaped.labels("ended").inc(reaped.ended)
        self._reaped.labels("left").inc(reaped.left)

    def not_reaped(self) -> None:
        """What a session left could not be looked for."""
        self._not_reaped.inc()

    def watch_catalog(self, stale_s: Callable[[], float]) -> None:
        """Ask `stale_s` at each reading for how long the catalogue has been out of date."""
        self._age.set_function(stale_s)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[int]:
        """Answer GET /metrics on a port (0: any) while entered; which. Raises BastionError(INVALID) if it is taken."""
        try:
            server, thread = start_http_server(port, host, registry=self._registry)
        except OSError as error:
            raise BastionError(
                Code.INVALID,
                f"cannot listen on {host} port {port} for metrics: {error.strerror} (BASTION_METRICS_PORT)",
            ) from error
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
