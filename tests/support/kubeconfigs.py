"""Kubeconfig files for tests, and what a process finds around it; used by tests of pods and cli."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
import yaml

from bastion.pods.configuration import Surroundings
from support.records import SettableClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bastion.ports import Clock


def write_kubeconfig(
    path: Path, server: str, *, cluster: Mapping[str, Any] | None = None, user: Mapping[str, Any] | None = None
) -> Path:
    """One cluster, one user, one context, each called `test`; what else is to stand in them is given."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "test", "user": {"token": "secret"} if user is None else dict(user)}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path


def surroundings(home: Path, clock: Clock | None = None, /, **environ: str) -> Surroundings:
    """A process with that home and nothing but these variables; its pod's account would be in `home`/account."""
    return Surroundings(
        environ=environ,
        home=home,
        clock=clock or SettableClock(),
        log=structlog.get_logger("bastion"),
        account=home / "account",
    )
