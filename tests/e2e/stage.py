"""Makes in a cluster what the trip tests need, and takes it away again; used by e2e.__main__.

Everything is labelled `bastion-e2e: SUFFIX`, so that what a killed run left behind can be found.
"""

from __future__ import annotations

import json
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from support.grounds import NAMESPACES, Kubectl, KubectlError, Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANIFESTS = Path(__file__).parent
LABEL = "bastion-e2e"

READY_WITHIN_S = 180
GONE_WITHIN_S = 180
TOKEN_LASTS = "4h"

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


def _make(kubectl: Kubectl, ground: Prepared, images: Images, say: Callable[[str], None]) -> None:
    values = {"suffix": ground.suffix, "image": images.image, "shell_less_image": images.shell_less}
    for name in ("namespaces", "rights", "pods"):
        say(f"creating the {name} of tests/e2e/{name}.yaml, named …-{ground.suffix}")
        text = Template((MANIFESTS / f"{name}.yaml").read_text()).substitute(values)
        kubectl("create", "--validate=false", "-f", "-", stdin=text)
    _write_kubeconfig(kubectl, ground)
    say("waiting until the pods are ready")
    timeout = f"--timeout={READY_WITHIN_S}s"
    kubectl("rollout", "status", "deployment/api", "-n", ground.namespace("shop"), timeout)
    for namespace in NAMESPACES:
        kubectl("wait", "--for=condition=Ready", "pods", "--all", "-n", ground.namespace(namespace), timeout)


def _write_kubeconfig(kubectl: Kubectl, ground: Prepared) -> None:
    """The bastion's way in: the cluster of the given kubeconfig, with a token of the bastion's ServiceAccount."""
    home = f"bastion-{ground.suffix}"
    token = kubectl("create", "token", "bastion", "-n", home, f"--duration={TOKEN_LASTS}").strip()
    config = json.loads(kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
    cluster = config["clusters"][0]["name"]
    config["users"] = [{"name": "bastion", "user": {"token": token}}]
    config["contexts"] = [{"name": "bastion", "context": {"cluster": cluster, "user": "bastion"}}]
    config["current-context"] = "bastion"
    ground.bastion_kubeconfig.touch(mode=0o600)
    ground.bastion_kubeconfig.write_text(json.dumps(config))
