"""The cluster below a running bastion: an embedded one of its own, or any other with names of its own; used by trips.

Tests name three namespaces, default, shop and prod, and the pods that the embedded cluster has in them. On another
cluster (tests/e2e prepares it) these namespaces are called otherwise, and only this module knows.
"""

from __future__ import annotations

import base64
import concurrent.futures
import json
import os
import re
import socket
import ssl
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACES = ("default", "shop", "prod")

IMAGE = "local/debian:1"
"""The image with a shell that tests name."""

VARIABLE = "BASTION_TEST_CLUSTER"
"""Names a file that says how to reach a cluster that was prepared (Prepared.write)."""

_PROCESSES = r"""
for process in /proc/[0-9]*; do
    if { tr '\0' '\n' <"$process/environ" | grep -qx "HOME=$HOME"; } 2>/dev/null; then
        { tr '\n\0' '  ' <"$process/cmdline" && echo "${process#/proc/}"; } 2>/dev/null
    fi
done | sed -n 's/^\(.*\) \([0-9]*\)$/\2 \1/p'
"""
"""A line for each process of a container: its number and its arguments.

HOME tells the containers of an embedded cluster apart, which see each other's processes.
"""


class Ground(Protocol):
    """What a test may ask of the cluster."""

    def there(self, text: str) -> str:
        """A login, or a path of the API, as the cluster's own namespaces have it."""

    def here(self, data: bytes) -> bytes:
        """Output with the namespaces that tests know."""

    def policy(self, text: str) -> str:
        """A policy file with the cluster's own namespaces and images."""

    def kubernetes(self, method: str, path: str) -> Any:
        """Ask the API as an admin."""

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the control socket of an embedded cluster."""

    def running(self, word: str) -> list[dict[str, Any]]:
        """The containers' processes that have a word among their arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A cluster that was started for the bastion, with its files in `folder`."""

    folder: Path

    def there(self, text: str) -> str:
        """The names are those of the tests."""
        return text

    def here(self, data: bytes) -> bytes:
        """The names are those of the tests."""
        return data

    def policy(self, text: str) -> str:
        """The names are those of the tests."""
        return text

    def kubernetes(self, method: str, path: str) -> Any:
        """Ask the API as the admin."""
        config = yaml.safe_load((self.folder / "kubeconfig").read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        request = urllib.request.Request(  # noqa: S310 - the URL is of a cluster this test started
            cluster["server"] + path, method=method, headers={"Authorization": f"Bearer {user['token']}"}
        )
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the control socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.folder / "control.sock"))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile() as lines:
                return dict(json.loads(lines.readline()))

    def running(self, word: str) -> list[dict[str, Any]]:
        """The processes that streams started and that have a word among their arguments."""
        return [process for process in self.control({"do": "ps"})["processes"] if word in " ".join(process["argv"])]


class KubectlError(Exception):
    """kubectl failed; str() is what it was asked and what it said."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with a kubeconfig: it knows every way to log in that one may name."""

    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What it says. Raises KubectlError."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        command = ["kubectl", *arguments]
        done = subprocess.run(command, input=stdin.encode(), capture_output=True, check=False, env=environment)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Namespaces, pods and rights that tests/e2e made in some cluster.

    kubeconfig: of whoever made them. suffix: what their names end with. It is in nothing else that is ever printed.
    image: of the pods that have a shell.
    """

    kubeconfig: Path
    bastion_kubeconfig: Path
    suffix: str
    image: str

    @classmethod
    def read(cls, path: Path) -> Prepared:
        """What `write` wrote."""
        value = json.loads(path.read_bytes())
        return cls(
            kubeconfig=Path(value["kubeconfig"]),
            bastion_kubeconfig=Path(value["bastion_kubeconfig"]),
            suffix=value["suffix"],
            image=value["image"],
        )

    def write(self, path: Path) -> None:
        """Keep it for another process."""
        value = {"kubeconfig": str(self.kubeconfig), "bastion_kubeconfig": str(self.bastion_kubeconfig)}
        path.write_text(json.dumps({**value, "suffix": self.suffix, "image": self.image}))

    def namespace(self, name: str) -> str:
        """What one of NAMESPACES is called there."""
        return f"{name}-{self.suffix}"

    def there(self, text: str) -> str:
        """A login, or a path of the API, as the cluster's own namespaces have it."""
        return re.sub(rf"(?<=[./])({'|'.join(NAMESPACES)})(?=$|[+/])", lambda found: self.namespace(found[1]), text)

    def here(self, data: bytes) -> bytes:
        """Output with the namespaces that tests know."""
        return data.replace(f"-{self.suffix}".encode(), b"")

    def policy(self, text: str) -> str:
        """A policy file with the cluster's own namespaces and images."""

        def named(found: re.Match[str]) -> str:
            return f"namespaces: [{', '.join(self.namespace(name) for name in found[1].split(', '))}]"

        return re.sub(r"namespaces: \[(.*?)\]", named, text).replace(IMAGE, self.image)

    def kubernetes(self, method: str, path: str) -> Any:
        """GET or DELETE as whoever prepared the cluster."""
        verb = {"GET": "get", "DELETE": "delete"}[method]
        return json.loads(Kubectl(self.kubeconfig)(verb, "--raw", self.there(path)))

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """There is no such socket: tests that need it are left out (tests/e2e/__main__.py)."""
        raise AssertionError(f"{request} needs the embedded cluster; name this test in EMBEDDED_ONLY")

    def running(self, word: str) -> list[dict[str, Any]]:
        """The processes that have a word among their arguments, in containers that have a shell."""
        containers = list(self._containers())
        with concurrent.futures.ThreadPoolExecutor(len(containers)) as pool:
            listed = pool.map(lambda one: self._processes(*one), containers)
        return [process for processes in listed for process in processes if word in " ".join(process["argv"])]

    def _containers(self) -> Iterator[tuple[str, str, str]]:
        """Namespace, pod and container of everything that runs."""
        for namespace in NAMESPACES:
            for pod in self.kubernetes("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]:
                name = pod["metadata"]["name"]
                own = () if name == "distroless" else pod["status"].get("containerStatuses", ())
                for status in (*own, *pod["status"].get("ephemeralContainerStatuses", ())):
                    if "running" in status["state"]:
                        yield namespace, name, status["name"]

    def _processes(self, namespace: str, pod: str, container: str) -> list[dict[str, Any]]:
        where = ("-n", self.namespace(namespace), pod, "-c", container)
        try:
            lines = Kubectl(self.kubeconfig)("exec", *where, "--", "sh", "-c", _PROCESSES)
        except KubectlError:  # the pod is gone meanwhile
            return []
        found = [line.split() for line in lines.splitlines()]
        return [
            {"pod": f"{namespace}/{pod}", "container": container, "pid": int(pid), "argv": argv} for pid, *argv in found
        ]
