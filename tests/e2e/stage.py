"""Makes in a cluster what the trip tests need, and takes it away again; used by e2e.__main__.

Everything is labelled `bastion-e2e: SUFFIX`, so that what a killed run left behind can be found.
"""

from __future__ import annotations

import json
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import yaml

from bastion import policyfile
from bastion.pods import manifests, rights
from support.grounds import NAMESPACES, Kubectl, KubectlError, Prepared
from support.trips import POLICY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANIFESTS = Path(__file__).parent
LABEL = "bastion-e2e"

READY_WITHIN_S = 180
GONE_WITHIN_S = 180
TOKEN_LASTS = "4h"

UNBACKED = "unbacked"
"""The role of the tests' policy to which the cluster gives nothing, so that its RBAC has the last word."""

_CLUSTER_WIDE = "clusterrolebindings,clusterroles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """image: has sh. shell_less: has one program, which runs until it is told to end."""

    image: str
    shell_less: str


@contextmanager
def prepared(kubeconfig: Path, images: Images, folder: Path, say: Callable[[str], None]) -> Iterator[Prepared]:
    """Make everything, and take it away at the end, however that comes. folder: for the bastion's kubeconfig."""
    kubectl = Kubectl(kubeconfig)
    ground = Prepared(
        kubeconfig=kubeconfig,
        bastion_kubeconfig=folder / "bastion.kubeconfig",
        suffix=f"e2e-{secrets.token_hex(3)}",
        image=images.image,
    )
    try:
        _make(kubectl, ground, images, say)
        yield ground
    finally:
        clean(kubeconfig, say, ground.suffix)


def has_bash(ground: Prepared) -> bool:
    """Whether the image with a shell has a good one."""
    try:
        Kubectl(ground.kubeconfig)("exec", "-n", ground.namespace("default"), "web", "--", "bash", "-c", "true")
    except KubectlError:
        return False
    return True


def clean(kubeconfig: Path, say: Callable[[str], None], suffix: str = "") -> None:
    """Take away what a run made; suffix "" is every run's."""
    kubectl = Kubectl(kubeconfig)
    selector = f"{LABEL}={suffix}" if suffix else LABEL
    for kinds in ("namespaces", _CLUSTER_WIDE):
        names = kubectl("get", kinds, "-l", selector, "-o", "name").split()
        if names:
            say(f"removing {', '.join(names)}")
            kubectl("delete", *names, "--ignore-not-found", f"--timeout={GONE_WITHIN_S}s")


def rights_for(ground: Prepared) -> list[dict[str, Any]]:
    """What `bastion doctor --rbac` prints for the tests' policy, as objects; nothing else is granted to anybody.

    The groups get theirs in the tests' namespaces alone, so that nobody else's rights change.
    """
    policy = policyfile.parse(ground.policy(POLICY).encode(), "policy.yaml")
    backed = replace(policy, roles=tuple(role for role in policy.roles if role.name != UNBACKED))
    home = account(ground)
    grants = rights.needed(rights.IMPERSONATE, backed, account=home)
    objects = list(yaml.safe_load_all(manifests.manifests(grants, (home, home))))
    for one in objects:
        one["metadata"]["labels"] = {LABEL: ground.suffix}
    return objects


def account(ground: Prepared) -> str:
    """The name of the bastion's ServiceAccount, and of its namespace."""
    return f"bastion-{ground.suffix}"


def _make(kubectl: Kubectl, ground: Prepared, images: Images, say: Callable[[str], None]) -> None:
    values = {"suffix": ground.suffix, "image": images.image, "shell_less_image": images.shell_less}

    def make(name: str) -> None:
        say(f"creating the {name} of tests/e2e/{name}.yaml, named …-{ground.suffix}")
        text = Template((MANIFESTS / f"{name}.yaml").read_text()).substitute(values)
        kubectl("create", "--validate=false", "-f", "-", stdin=text)

    make("namespaces")
    say("creating the rights that `bastion doctor --rbac` prints for the tests' policy")
    listed = {"apiVersion": "v1", "kind": "List", "items": rights_for(ground)}
    kubectl("create", "--validate=false", "-f", "-", stdin=json.dumps(listed))
    make("pods")
    _write_kubeconfig(kubectl, ground)
    say("waiting until the pods are ready")
    timeout = f"--timeout={READY_WITHIN_S}s"
    kubectl("rollout", "status", "deployment/api", "-n", ground.namespace("shop"), timeout)
    for namespace in NAMESPACES:
        kubectl("wait", "--for=condition=Ready", "pods", "--all", "-n", ground.namespace(namespace), timeout)


def _write_kubeconfig(kubectl: Kubectl, ground: Prepared) -> None:
    """The bastion's way in: the cluster of the given kubeconfig, with a token of the bastion's ServiceAccount."""
    home = account(ground)
    token = kubectl("create", "token", home, "-n", home, f"--duration={TOKEN_LASTS}").strip()
    config = json.loads(kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
    cluster = config["clusters"][0]["name"]
    config["users"] = [{"name": "bastion", "user": {"token": token}}]
    config["contexts"] = [{"name": "bastion", "context": {"cluster": cluster, "user": "bastion"}}]
    config["current-context"] = "bastion"
    ground.bastion_kubeconfig.touch(mode=0o600)
    ground.bastion_kubeconfig.write_text(json.dumps(config))
