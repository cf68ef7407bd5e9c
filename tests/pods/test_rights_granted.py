"""The printed rights, applied to a cluster: a stock kubectl lists exactly what the account may do."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bastion.model import Action
from bastion.pods.manifests import manifests
from bastion.pods.rights import MODES, needed
from bastion.policy import Binding, Policy, Role, Rule
from support.cluster import running_cluster_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent.parent / "data" / "rbac"
LIMIT = 30
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n"

POLICY = Policy(
    roles=(
        Role(
            name="keeper",
            kubernetes_groups=("bastion:keeper",),
            allow=(Rule(name="keeper/allow[0]", namespaces=("garden",), actions=frozenset(Action)),),
        ),
    ),
    bindings=(Binding(role="keeper", subjects=frozenset({"group:keepers"})),),
    digest="",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """Runs kubectl with the admin's kubeconfig, and nothing of the person who runs the tests."""

    kubeconfig: Path
    home: Path

    def run(self, *arguments: str, stdin: str = "") -> str:
        environment = {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def listed(self, account: str, namespace: str) -> list[str]:
        """What an account may do in a namespace: the lines of `auth can-i --list` about resources, in order."""
        subject = (f"--as=system:serviceaccount:{account}:{account}", f"--as-group=system:serviceaccounts:{account}")
        text = self.run("auth", "can-i", "--list", "--namespace", namespace, *subject)
        return sorted(" ".join(line.split()) for line in text.splitlines()[1:] if not line.startswith(" "))


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """With both modes' rights applied, each to an account of its own."""
    with running_cluster_sync(tmp_path_factory.mktemp("cluster")) as cluster:
        admin = Kubectl(kubeconfig=cluster.kubeconfig, home=tmp_path_factory.mktemp("home"))
        for name in ("garden", *MODES):
            admin.run("apply", "--validate=false", "-f", "-", stdin=NAMESPACE.format(name))
        for mode in MODES:
            grants = needed(mode, POLICY, account=mode)
            admin.run("apply", "--validate=false", "-f", "-", stdin=manifests(grants, (mode, mode)))
        yield admin


@pytest.mark.parametrize("mode", MODES)
def test_the_account_may_do_what_the_golden_list_says_and_nothing_else(kubectl: Kubectl, mode: str) -> None:
    for namespace in ("garden", "default"):
        golden = (GOLDEN / f"can-i-{mode}-{namespace}.txt").read_text().splitlines()

        assert kubectl.listed(mode, namespace) == golden


def test_people_may_do_what_their_group_is_given_where_it_is_given(kubectl: Kubectl) -> None:
    person = ("--as=bastion:alice", "--as-group=bastion:keeper")

    for subresource in ("exec", "portforward"):
        asked = ("auth", "can-i", "create", "pods", f"--subresource={subresource}", *person, "--namespace")
        assert kubectl.run(*asked, "garden").strip() == "yes"


def test_the_reaper_may_exec_and_no_more(kubectl: Kubectl) -> None:
    listed = kubectl.run("auth", "can-i", "--list", "--namespace", "garden", "--as=bastion:reaper")

    assert [line.split()[0] for line in listed.splitlines() if line.startswith("pods")] == ["pods/exec"]
