"""`make e2e` against an embedded cluster that it knows by its kubeconfig alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from e2e import stage
from e2e.__main__ import BASH_ONLY, EMBEDDED_ONLY
from support.cluster import running_cluster_sync
from support.grounds import Kubectl, Prepared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster

ROOT = Path(__file__).parent.parent.parent
IMAGES = ("--image", "local/debian:1", "--shell-less-image", "local/distroless:1")
LIMIT_S = 300

SELECTED = (
    "tests/trip/test_record.py",
    "tests/trip/test_refusals.py::test_deny_wins_and_the_rule_is_named",
    "tests/trip/test_refusals.py::test_the_clusters_own_rbac_has_the_last_word",
    "tests/trip/test_exec.py::test_a_login_leads_to_its_pod",
    "tests/trip/test_endings.py::test_the_process_ends_when_the_client_is_killed",
    "tests/trip/test_endings.py::test_what_a_command_leaves_behind_is_ended_too",
)
"""A few of every kind, because all of them run on an embedded cluster of their own already."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Where nobody of the bastion's has any right before a run gives it."""
    with running_cluster_sync(tmp_path_factory.mktemp("cluster")) as running:
        kubectl = Kubectl(running.kubeconfig)
        names = kubectl("get", "clusterrolebindings", "-o", "name").split()
        kubectl("delete", *(name for name in names if "/bastion:" in name))
        yield running


@contextmanager
def e2e(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The program, killed at the end if it still runs."""
    argv = [sys.executable, "-m", "e2e", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(
        argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: str) -> tuple[int, str]:
    """Its status and all that it said."""
    with e2e(*arguments) as process:
        said, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, said


def left_in(cluster: Cluster) -> list[str]:
    """What is there that some run made."""
    kubectl = Kubectl(cluster.kubeconfig)
    kinds = "namespaces,clusterroles,clusterrolebindings,pods,deployments,roles,rolebindings,serviceaccounts"
    return kubectl("get", kinds, "-A", "-l", stage.LABEL, "-o", "name").split()


def test_the_trip_tests_pass_on_a_cluster_that_was_not_made_for_them(cluster: Cluster, tmp_path: Path) -> None:
    given = ("--kubeconfig", str(cluster.kubeconfig), *IMAGES)
    status, said = run(
        *given, "--", f"--basetemp={tmp_path}/inner", "-q", "-k", "not postgresql and not stock", *SELECTED
    )

    assert status == 0, said
    found = re.search(r"(\d+) passed", said)
    assert found, said
    assert int(found[1]) == 15
    assert "skipped" not in said
    assert "creating the pods of tests/e2e/pods.yaml" in said
    assert "removing namespace/bastion-e2e-" in said
    assert left_in(cluster) == []


def test_a_run_that_fails_says_so_and_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    given = ("--kubeconfig", str(cluster.kubeconfig), "--image", "local/busybox:1", *IMAGES[2:])
    status, said = run(*given, "--", f"--basetemp={tmp_path}/inner", "-q", "tests/trip/no_such_test.py")

    assert status == pytest.ExitCode.USAGE_ERROR
    assert "local/busybox:1 has no bash: 2 tests that need one are left out" in said
    assert "no_such_test.py" in said
    assert left_in(cluster) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_nothing(cluster: Cluster, number: signal.Signals) -> None:
    with e2e("--kubeconfig", str(cluster.kubeconfig), *IMAGES) as process:
        read_to(process, "creating the pods")
        process.send_signal(number)
        said, _ = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 1
    assert "removing" in said
    assert "Traceback" not in said
    assert left_in(cluster) == []


def test_what_a_killed_run_left_can_be_removed(cluster: Cluster) -> None:
    with e2e("--kubeconfig", str(cluster.kubeconfig), *IMAGES) as process:
        read_to(process, "creating the pods")
        process.kill()
    assert left_in(cluster) != []

    status, said = run("--clean", "--kubeconfig", str(cluster.kubeconfig))

    assert status == 0, said
    assert left_in(cluster) == []


def read_to(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    said = ""
    while words not in said:
        line = process.stdout.readline()
        assert line, said
        said += line


def test_a_kubeconfig_that_is_not_there_is_named() -> None:
    status, said = run("--kubeconfig", "/no/such/file")

    assert status == 2
    assert "/no/such/file: there is no such file" in said


def test_a_cluster_that_does_not_answer_is_told_in_its_words(tmp_path: Path) -> None:
    server = {"clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}]}
    user = {"users": [{"name": "gone", "user": {"token": "none"}}]}
    context = {
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "gone"}}],
        "current-context": "gone",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **server, **user, **context}))

    status, said = run("--kubeconfig", str(path))

    assert status == 1
    assert "kubectl create" in said
    assert "127.0.0.1:1" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("test", [*EMBEDDED_ONLY, *BASH_ONLY])
def test_what_is_left_out_is_there(test: str) -> None:
    path, _, name = test.partition("::")

    assert f"def {name}" in (ROOT / path).read_text()


@pytest.mark.parametrize("path", sorted(stage.MANIFESTS.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_everything_that_is_made_is_labelled_and_named_apart(path: Path) -> None:
    items = yaml.safe_load(path.read_text())["items"]
    assert items
    for item in items:
        metadata = item["metadata"]
        assert metadata["labels"][stage.LABEL] == "${suffix}"
        assert str(metadata.get("namespace", metadata["name"])).endswith("-${suffix}")


def test_the_rights_are_the_printed_ones_labelled_and_named_apart() -> None:
    ground = Prepared(kubeconfig=Path(), bastion_kubeconfig=Path(), suffix="e2e-1", image="debian")
    objects = stage.rights_for(ground)
    groups = {
        (one["subjects"][0]["name"], one["metadata"]["namespace"])
        for one in objects
        if one["kind"] == "RoleBinding" and one["subjects"][0]["kind"] == "Group"
    }
    (contractor,) = (one for one in objects if one["kind"] == "Role" and "contractor" in one["metadata"]["name"])

    for one in objects:
        metadata = one["metadata"]
        assert metadata["labels"] == {stage.LABEL: "e2e-1"}
        assert str(metadata.get("namespace", metadata["name"])).endswith("-e2e-1")
    assert groups == {
        *(("bastion:engineer", f"{name}-e2e-1") for name in ("default", "shop", "prod")),
        ("bastion:contractor", "shop-e2e-1"),
    }
    assert "pods/exec" not in [resource for rule in contractor["rules"] for resource in rule["resources"]]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("web.default", "web.default-e2e-1"),
        ("multi.default+sidecar", "multi.default-e2e-1+sidecar"),
        ("deploy/api.shop", "deploy/api.shop-e2e-1"),
        ("/api/v1/namespaces/shop/pods", "/api/v1/namespaces/shop-e2e-1/pods"),
        ("console", "console"),
        ("web.defaults", "web.defaults"),
        ("../../x.default", "../../x.default-e2e-1"),
    ],
)
def test_names_have_one_form_here_and_one_there(here: str, there: str) -> None:
    ground = Prepared(kubeconfig=Path(), bastion_kubeconfig=Path(), suffix="e2e-1", image="debian")

    assert ground.there(here) == there
    assert ground.here(there.encode()) == here.encode()


def test_a_policy_is_about_the_names_there() -> None:
    ground = Prepared(kubeconfig=Path(), bastion_kubeconfig=Path(), suffix="e2e-1", image="debian")
    text = 'namespaces: [default, shop]\n{namespaces: [prod], images: ["local/debian:1"]}'

    assert ground.policy(text) == (
        'namespaces: [default-e2e-1, shop-e2e-1]\n{namespaces: [prod-e2e-1], images: ["debian"]}'
    )
