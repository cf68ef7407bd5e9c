"""A stock kubectl, 1.30 or newer, works against the embedded cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster

LIMIT = 30
OLDEST = 30
MISSING = "kubectl 1.30 or newer is missing. As root, .ci/run installs it; on Debian 13: apt-get install kubectl"


class Kubectl:
    """Runs kubectl with the admin's kubeconfig, and nothing of the person who runs the tests."""

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        self.env = {"KUBECONFIG": str(kubeconfig), "HOME": str(home), "PATH": os.environ["PATH"], "TERM": "xterm"}

    def run(self, *arguments: str, stdin: bytes = b"", status: int = 0) -> bytes:
        """What it says on stdout; fails if it ends with another status."""
        command = ["kubectl", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=LIMIT, check=False, env=self.env)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def text(self, *arguments: str) -> str:
        return self.run(*arguments).decode()

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A kubectl that does not end by itself; whatever is waited for ends with it after LIMIT."""
        process = subprocess.Popen(["kubectl", *arguments], stdout=subprocess.PIPE, env=self.env)
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    if shutil.which("kubectl") is None:
        pytest.fail(MISSING)
    return Kubectl(cluster.kubeconfig, tmp_path_factory.mktemp("home"))


def test_it_is_new_enough_and_knows_the_server(kubectl: Kubectl) -> None:
    versions = json.loads(kubectl.run("version", "-o", "json"))
    found = re.fullmatch(r"v1\.(\d+)\..*", versions["clientVersion"]["gitVersion"])
    assert found, versions
    assert int(found[1]) >= OLDEST, MISSING
    assert versions["serverVersion"]["gitVersion"] == "v1.36.2"


def test_get_prints_the_servers_table(kubectl: Kubectl) -> None:
    lines = kubectl.text("get", "pods", "-A").splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    rows = {line.split()[1]: line.split()[2:4] for line in lines[1:]}
    assert rows["web"] == ["1/1", "Running"]
    assert rows["multi"] == ["2/2", "Running"]
    assert "No resources found" not in kubectl.text("get", "events,deployments,replicasets,namespaces,sa", "-A")


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_get_prints_an_object_whole(kubectl: Kubectl, form: str) -> None:
    said = kubectl.text("get", "pod", "web", "-o", form)
    assert re.search(r'"?kind"?: "?Pod"?', said)
    assert re.search(r'"?phase"?: "?Running"?', said)


def test_short_names_and_selectors_are_known(kubectl: Kubectl) -> None:
    assert kubectl.text("get", "po", "-A", "-l", "app=web", "-o", "name") == "pod/web\n"
    assert kubectl.text("get", "ns", "shop", "-o", "name") == "namespace/shop\n"
    assert "deployments" in kubectl.text("api-resources", "--namespaced=true", "-o", "name")


def test_describe_tells_what_happened(kubectl: Kubectl) -> None:
    said = kubectl.text("describe", "pod", "web")
    assert re.search(r"Status: +Running", said)
    assert "Successfully assigned default/web to local-node" in said
    assert "Container started" in said


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exec_ends_with_the_commands_status(kubectl: Kubectl, status: int) -> None:
    assert kubectl.run("exec", "web", "--", "sh", "-c", f"echo out; exit {status}", status=status) == b"out\n"


def test_exec_passes_stdin_and_its_end(kubectl: Kubectl) -> None:
    data = os.urandom(1_000_000)
    assert kubectl.run("exec", "-i", "web", "--", "cat", stdin=data) == data


def test_exec_speaks_websocket_and_does_not_fall_back(kubectl: Kubectl) -> None:
    command = ["kubectl", "-v=7", "exec", "web", "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True, env=kubectl.env)
    assert "v5.channel.k8s.io" in done.stderr
    assert "fallback" not in done.stderr


def test_exec_with_a_terminal_has_its_size_and_ctrl_c(kubectl: Kubectl) -> None:
    command = ["kubectl", "exec", "-it", "web", "--", "bash", "--norc"]
    with Terminal(command, WindowSize(cols=101, rows=43), env=kubectl.env) as terminal:
        terminal.expect(r"[$#] ")
        # kubectl sends its size beside what is typed, and not before it.
        terminal.type("until stty size | grep -x '43 101'; do sleep 0.05; done\r")
        terminal.expect("43 101\r\n")
        terminal.resize(WindowSize(cols=77, rows=22))
        terminal.type("until stty size | grep -x '22 77'; do sleep 0.05; done\r")
        terminal.expect("22 77\r\n")
        terminal.type("sh -c 'echo rea''dy; exec cat'\r")
        terminal.expect("ready\r\n")  # and not before: the shell's line editor has the terminal until then
        terminal.type("once\r")
        terminal.expect("once.*once\r\n")  # the terminal's echo, and the program's: it runs
        terminal.type(b"\x03")
        terminal.expect(r"[$#] ")
        terminal.type("exit 7\r")
        assert terminal.wait() == 7


def test_logs_are_printed_followed_and_kept_of_the_run_before(kubectl: Kubectl) -> None:
    script = "echo one; echo two; until [ -e stop ]; do sleep 0.05; done; echo three; rm stop; exit 1"
    kubectl.run("run", "talker", "--image=local/busybox:1", "--", "sh", "-c", script)
    try:
        kubectl.run("wait", "--for=condition=Ready", "pod/talker", f"--timeout={LIMIT}s")
        with kubectl.started("logs", "-f", "talker") as following:
            assert following.stdout is not None
            assert following.stdout.readline() == b"one\n"
            assert following.stdout.readline() == b"two\n"
            assert kubectl.text("logs", "talker", "--tail=1") == "two\n"
            assert re.fullmatch(
                r"\d{4}-\d\d-\d\dT[0-9:.]+Z two\n", kubectl.text("logs", "talker", "--tail=1", "--timestamps")
            )
            kubectl.run("exec", "talker", "--", "touch", "stop")
            assert following.stdout.read() == b"three\n"
            assert following.wait(LIMIT) == 0
        kubectl.run("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/talker")
        assert kubectl.text("logs", "talker", "--previous") == "one\ntwo\nthree\n"
    finally:
        kubectl.run("delete", "pod", "talker")


def test_cp_takes_a_file_there_and_back(kubectl: Kubectl, tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "there").write_bytes(data)
    kubectl.run("cp", str(tmp_path / "there"), "web:taken.bin")
    kubectl.run("cp", "web:taken.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_port_forward_carries_several_ports_and_connections(kubectl: Kubectl, websockets: str, tmp_path: Path) -> None:
    carrier = Kubectl(Path(kubectl.env["KUBECONFIG"]), tmp_path)
    carrier.env["KUBECTL_PORT_FORWARD_WEBSOCKETS"] = websockets
    with forwarding(carrier, "8080", "7000", "7003") as port:
        for _ in range(3):
            assert asked(port["8080"], b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nhello from web\n")
        assert asked(port["7003"], b"") == b"hello\n"
        with socket.create_connection(("127.0.0.1", port["7000"]), LIMIT) as first:
            with socket.create_connection(("127.0.0.1", port["7000"]), LIMIT) as second:
                data = os.urandom(300_000)
                assert echoed(second, data) == data
            assert echoed(first, b"still here") == b"still here"


def test_port_forward_to_a_port_that_nobody_listens_on_says_so(kubectl: Kubectl) -> None:
    with forwarding(kubectl, "9") as port:
        assert asked(port["9"], b"") == b""


@contextlib.contextmanager
def forwarding(kubectl: Kubectl, *ports: str) -> Iterator[dict[str, int]]:
    """Local ports by the pod's."""
    found: dict[str, int] = {}
    with kubectl.started("port-forward", "--address=127.0.0.1", "web", *(f":{port}" for port in ports)) as process:
        assert process.stdout is not None
        while len(found) < len(ports):
            line = process.stdout.readline().decode()
            match = re.fullmatch(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)\n", line)
            assert match, line
            found[match[2]] = int(match[1])
        yield found


def asked(port: int, request: bytes) -> bytes:
    """Everything that is said until the other end closes."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as peer:
        peer.sendall(request)
        return b"".join(iter(lambda: received(peer), b""))


def received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except ConnectionResetError:
        return b""


def echoed(peer: socket.socket, data: bytes) -> bytes:
    sending = threading.Thread(target=peer.sendall, args=(data,))
    sending.start()
    said = b""
    while len(said) < len(data) and (more := received(peer)):
        said += more
    sending.join()
    return said


def test_debug_enters_a_container_of_its_own(kubectl: Kubectl) -> None:
    command = ["debug", "-i", "distroless", "--image=local/busybox:1", "--target=main", "-c", "dbg", "--", "sh"]
    said = kubectl.run(*command, stdin=b"echo $((40+2)) in $HOSTNAME; exit\n")
    assert said.splitlines()[-1] == b"42 in distroless"
    states = json.loads(kubectl.run("get", "pod", "distroless", "-o", "json"))["status"]
    (status,) = states["ephemeralContainerStatuses"]
    assert status["name"] == "dbg"


def test_debug_with_a_terminal_is_a_shell(kubectl: Kubectl) -> None:
    command = ["kubectl", "debug", "-it", "distroless", "--image=local/busybox:1", "-c", "dbg-tty", "--", "sh"]
    with Terminal(command, WindowSize(cols=80, rows=24), env=kubectl.env) as terminal:
        terminal.expect("try pressing enter")  # a prompt from before the attach is not repeated
        terminal.type("\r")
        terminal.expect(r"[$#] ")
        terminal.type("echo $((40+2))\r")
        terminal.expect("\n42\r")
        terminal.type("exit\r")
        assert terminal.wait() == 0


def test_run_attaches_and_removes(kubectl: Kubectl) -> None:
    arguments = ["run", "-i", "--rm", "once", "--image=local/busybox:1", "--restart=Never", "--quiet"]
    said = kubectl.run(*arguments, "--", "sh", "-c", "read line; echo got $line", stdin=b"this\n")
    assert said == b"got this\n"
    kubectl.run("get", "pod", "once", status=1)


def test_auth_answers_for_oneself_and_for_others(kubectl: Kubectl) -> None:
    assert kubectl.text("auth", "can-i", "delete", "pods") == "yes\n"
    exec_in_shop = ("create", "pods", "--subresource=exec", "-n", "shop")
    assert kubectl.run("auth", "can-i", *exec_in_shop, "--as=alice") == b"yes\n"
    assert kubectl.run("auth", "can-i", *exec_in_shop, "--as=bob", status=1) == b"no\n"
    assert "pods/exec" in kubectl.text("auth", "can-i", "--list", "-n", "shop", "--as=alice")
    assert "kubernetes-admin" in kubectl.text("auth", "whoami")


def test_a_pod_of_a_deployment_is_replaced(kubectl: Kubectl) -> None:
    names = kubectl.text("get", "pods", "-n", "shop", "-l", "app=api", "-o", "name").split()
    kubectl.run("delete", "-n", "shop", names[0])
    kubectl.run("wait", "-n", "shop", "--for=jsonpath={.status.readyReplicas}=2", "deployment/api")
    kubectl.run("rollout", "status", "-n", "shop", "deployment/api", f"--timeout={LIMIT}s")
    after = kubectl.text("get", "pods", "-n", "shop", "-l", "app=api", "-o", "name").split()
    assert len(set(after) | set(names)) >= 2
    assert names[0] not in after


def test_get_watch_prints_changes(kubectl: Kubectl) -> None:
    with kubectl.started("get", "pods", "-w", "-o", "name", "-l", "run=passing") as watching:
        assert watching.stdout is not None
        kubectl.run("run", "passing", "--image=local/busybox:1", "--labels=run=passing")
        assert watching.stdout.readline() == b"pod/passing\n"
        kubectl.run("delete", "pod", "passing")


def test_top_prints_what_pods_use(kubectl: Kubectl) -> None:
    rows = [line.split() for line in kubectl.text("top", "pods").splitlines()]
    assert rows[0] == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert {row[0] for row in rows[1:]} >= {"web", "multi", "distroless"}
    assert all(re.fullmatch(r"\d+m", row[1]) and re.fullmatch(r"\d+Mi", row[2]) for row in rows[1:])


@pytest.fixture
def manifest(kubectl: Kubectl, tmp_path: Path) -> Iterator[Path]:
    """Whatever a test writes there, taken away after it."""
    path = tmp_path / "manifest.json"
    yield path
    kubectl.run("delete", "--ignore-not-found", "-f", str(path))


def main(*command: str) -> list[dict[str, object]]:
    return [{"name": "main", "image": "local/busybox:1", "command": list(command)}]


def test_a_deployment_is_scaled_and_rolled_out(kubectl: Kubectl, manifest: Path) -> None:
    template = {"metadata": {"labels": {"app": "site"}}, "spec": {"containers": main("sleep", "infinity")}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "site"}}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "site"}, "spec": spec}
    manifest.write_text(json.dumps(body))
    kubectl.run("create", "--validate=false", "-f", str(manifest))
    kubectl.run("rollout", "status", "deployment/site", f"--timeout={LIMIT}s")
    kubectl.run("patch", "deployment", "site", "-p", '{"spec":{"replicas":3}}')
    kubectl.run("wait", "--for=jsonpath={.status.readyReplicas}=3", "deployment/site", f"--timeout={LIMIT}s")
    kubectl.run("rollout", "restart", "deployment/site")
    kubectl.run("rollout", "status", "deployment/site", f"--timeout={LIMIT}s")
    replicas = kubectl.text("get", "rs", "-l", "app=site", "-o", "jsonpath={.items[*].spec.replicas}")
    assert sorted(replicas.split()) == ["0", "3"]


def test_sets_and_jobs_are_listed_with_their_counts(kubectl: Kubectl, manifest: Path) -> None:
    def template(policy: str, *command: str) -> dict[str, object]:
        spec = {"restartPolicy": policy, "containers": main(*command)}
        return {"metadata": {"labels": {"app": "counted"}}, "spec": spec}

    selected = {"selector": {"matchLabels": {"app": "counted"}}, "template": template("Always", "sleep", "infinity")}
    items = [
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "set"},
            "spec": {"replicas": 2} | selected,
        },
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": selected},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "job"},
            "spec": {"template": template("Never", "true")},
        },
    ]
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubectl.run("create", "--validate=false", "-f", str(manifest))
    kubectl.run("rollout", "status", "statefulset/set", f"--timeout={LIMIT}s")
    kubectl.run("rollout", "status", "daemonset/agent", f"--timeout={LIMIT}s")
    kubectl.run("wait", "--for=condition=Complete", "job/job", f"--timeout={LIMIT}s")
    rows = [line.split() for line in kubectl.text("get", "sts,ds,job", "--no-headers").splitlines()]
    assert [row[:3] for row in rows] == [
        ["statefulset.apps/set", "2/2", rows[0][2]],
        ["daemonset.apps/agent", "1", "1"],
        ["job.batch/job", "Complete", "1/1"],
    ]
    assert kubectl.text("logs", "job/job") == ""


def test_a_pod_is_deleted_with_its_grace_and_without(kubectl: Kubectl, manifest: Path) -> None:
    spec = {"terminationGracePeriodSeconds": 600, "containers": main("sleep", "infinity")}
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "leaves"}, "spec": spec}))
    kubectl.run("create", "--validate=false", "-f", str(manifest))
    kubectl.run("wait", "--for=condition=Ready", "pod/leaves", f"--timeout={LIMIT}s")
    kubectl.run("delete", "pod", "leaves", "--wait=false")
    assert kubectl.text("get", "pod", "leaves", "--no-headers").split()[2] == "Terminating"
    kubectl.run("delete", "pod", "leaves", "--grace-period=0", "--force")
    kubectl.run("get", "pod", "leaves", status=1)


def test_a_namespace_is_made_and_goes_with_what_is_in_it(kubectl: Kubectl) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "visit"}}
    kubectl.run("create", "--validate=false", "-f", "-", stdin=json.dumps(body).encode())
    kubectl.run("run", "-n", "visit", "guest", "--image=local/busybox:1")
    kubectl.run("wait", "-n", "visit", "--for=condition=Ready", "pod/guest", f"--timeout={LIMIT}s")
    kubectl.run("delete", "namespace", "visit", f"--timeout={LIMIT}s")
    kubectl.run("get", "namespace", "visit", status=1)
