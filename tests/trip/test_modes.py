"""Who the API server takes a session for: the person, with the session's id, or the bastion itself where it must be."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion, Starter

ITSELF = "system:serviceaccount:bastion:bastion"
RIGHTS = [
    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]


@pytest.fixture(scope="module")
def itself(start: Starter) -> Iterator[Bastion]:
    """A bastion that impersonates nobody, in a cluster that grants no impersonation."""
    settings = {"BASTION_KUBERNETES_MODE": "serviceaccount", "BASTION_METRICS_PORT": "0"}
    with start(settings=settings) as bastion:
        yield bastion


def allow(bastion: Bastion) -> None:
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": "people"}, "rules": RIGHTS}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "people"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "people"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "bastion", "name": "bastion"}],
    }
    for given in (role, binding):
        bastion.kubectl("apply", "--validate=false", "-f", "-", given=given)


def test_where_nobody_is_impersonated_the_bastions_own_rights_decide(itself: Bastion) -> None:
    refused = itself.ssh("web.default@b", "true")
    assert (refused.returncode, refused.stdout) == (254, b"")
    assert b"the cluster's own RBAC does not let the bastion get pods/exec" in refused.stderr

    allow(itself)

    done = itself.ssh("web.default@b", "echo ran; sleep 1000 >/dev/null 2>&1 & exit 3")
    assert (done.returncode, done.stdout) == (3, b"ran\n")
    session = itself.last_session()
    assert session["person"] == "alice"
    assert ITSELF in session["reason"] or "people" in session["reason"]
    wait_until(lambda: not itself.running("1000"))


def test_the_cluster_is_told_of_the_person_and_of_the_session(bastion: Bastion) -> None:
    done = bastion.ssh("web.default@b", "echo ran")
    assert done.returncode == 0
    session = bastion.last_session()["id"]

    asked = [
        one for one in bastion.control({"do": "asked"})["requests"] if one["extra"].get("bastion-session") == [session]
    ]
    assert {one["user"] for one in asked} <= {"bastion:alice", "bastion:reaper"}
    groups = {tuple(one["groups"]) for one in asked if one["user"] == "bastion:alice"}
    assert groups == {("bastion:engineer", "system:authenticated")}


# --- the API server is busy ----------------------------------------------------------------


def test_somebody_who_waits_at_a_terminal_sees_it_and_a_pipe_stays_clean(itself: Bastion) -> None:
    allow(itself)
    fail = {"do": "fail", "times": 2, "status": 503, "match": "selfsubjectaccessreviews"}
    itself.control(fail)
    argv = [str(word) for word in itself.ssh_argv("-t", "web.default@b", "echo d''one")]
    with Terminal(argv, WindowSize(cols=80, rows=24)) as terminal:
        terminal.expect(r"bastion: waiting for the API server, retry 1 in 1 s")
        terminal.expect(r"\x1b\[K.*done")
        assert terminal.wait() == 0

    itself.control(fail)
    done = itself.ssh("web.default@b", "echo done")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")

    assert any(line["event"] == "api.retry" for line in itself.log)
    text = metrics(itself)
    assert metric(text, "bastion_api_retries_total") >= 2
    assert metric(text, 'bastion_reaped_processes_total{became="ended"}') >= 1
    assert metric(text, "bastion_catalog_stale_seconds") == 0


def metrics(bastion: Bastion) -> str:
    port = next(line["port"] for line in bastion.log if line["event"] == "metrics")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def metric(text: str, name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))
