"""`bastion doctor`: against the embedded cluster, against servers that are not as they should be, against nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pty
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from bastion import policyfile
from bastion.cli import doctor as doctor_command
from bastion.cli import doctor_cluster, doctor_local
from bastion.localcluster import seed
from bastion.pods import api, manifests, probe, rights
from bastion.settings import KubernetesSettings
from bastion.store.migrate import upgrade
from support.cluster import running_cluster_sync
from support.commands import LIMIT, PROGRAM, Bastion
from support.kubeconfigs import write_kubeconfig
from support.tlsserver import new_authority, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bastion.cli.doctor_check import Check
    from support.cluster import Cluster

POLICY = """\
roles:
  keeper:
    kubernetes: {groups: ["bastion:keeper"]}
    allow:
      - {namespaces: [default], actions: [shell, logs]}
bindings:
  - {role: keeper, subjects: ["person:alice"]}
"""
GOLDEN = Path(__file__).parent.parent / "data" / "rbac"
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: doctor\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """The command in a folder that has what a bastion needs."""

    bastion: Bastion

    @property
    def variables(self) -> dict[str, str]:
        folder = self.bastion.folder
        return {
            "BASTION_POLICY_FILE": str(folder / "policy.yaml"),
            "BASTION_SSH_HOST_KEY": str(folder / "host_key"),
            "HOME": str(folder),
        }

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.bastion.run("doctor", *arguments, **(self.variables | variables))

    def checks(self, *arguments: str, status: int, **variables: str) -> list[dict[str, str]]:
        """What --json says."""
        done = self.run("--json", *arguments, **variables)
        assert done.returncode == status, (done.stdout, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def doctor(tmp_path_factory: pytest.TempPathFactory) -> Doctor:
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "policy.yaml").write_text(POLICY)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key"], check=True)
    bastion = Bastion(folder=folder)
    asyncio.run(upgrade(bastion.environment["BASTION_DATABASE_URL"]))
    return Doctor(bastion=bastion)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster_sync(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def account(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of a ServiceAccount that has just what is printed for the policy, and so have the others in it."""
    folder = tmp_path_factory.mktemp("account")
    grants = rights.needed(rights.IMPERSONATE, policyfile.parse(POLICY.encode(), "policy"), account="doctor")

    environment = {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(folder), "PATH": os.environ["PATH"]}
    delete = ["kubectl", "delete", "clusterrolebinding", "bastion:reaper"]
    subprocess.run(delete, env=environment, timeout=LIMIT, check=True)
    for objects in (NAMESPACE, manifests.manifests(grants, ("doctor", "doctor"))):
        command = ["kubectl", "apply", "--validate=false", "-f", "-"]
        subprocess.run(command, input=objects, env=environment, text=True, timeout=LIMIT, check=True)
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = "/api/v1/namespaces/doctor/serviceaccounts/doctor/token"
    headers = {"Authorization": f"Bearer {cluster.token()}", "Content-Type": "application/json"}
    connection = HTTPSConnection("127.0.0.1", cluster.port, context=ssl.create_default_context(cafile=cluster.ca))
    connection.request("POST", path, json.dumps(wanted), headers)
    token = json.load(connection.getresponse())["status"]["token"]
    connection.close()
    authority = {"certificate-authority": str(cluster.ca)}
    return write_kubeconfig(folder / "config", cluster.url, cluster=authority, user={"token": token})


async def exec_said(kubeconfig: Path, pod: tuple[str, str]) -> tuple[str, str]:
    """Message and advice about an exec in a pod, which does not work."""
    settings = KubernetesSettings(kubeconfig=str(kubeconfig))
    checks = [check async for check in doctor_cluster.cluster_checks(settings, (), pod)]
    (found,) = (check for check in checks if check.check == "exec")
    assert found.outcome == "failed"
    return found.message, found.advice


def of(checks: list[dict[str, str]], name: str) -> list[dict[str, str]]:
    return [check for check in checks if check["check"] == name]


class TestAgainstACluster:
    def test_all_is_well_with_the_rights_that_it_prints(self, doctor: Doctor, account: Path) -> None:
        checks = doctor.checks("--kubeconfig", str(account), "--pod", "default/web", status=0)

        assert [set(check) for check in checks] == [{"check", "outcome", "message", "advice"}] * len(checks)
        assert [check for check in checks if check["outcome"] == "failed"] == []
        said = {check["check"]: check for check in checks}
        assert said["api-server"]["message"] == "Kubernetes v1.36.2"
        assert said["exec"] == {
            "check": "exec",
            "outcome": "ok",
            "message": "v5.channel.k8s.io works",
            "advice": "",
        }
        assert said["host-key"]["message"].split(", ")[1].startswith("SHA256:")
        assert {said[name]["outcome"] for name in ("tls", "database", "migrations", "policy")} == {"ok"}
        rights_said = {check["message"] for check in of(checks, "rights")}
        assert {"may watch pods", "may impersonate users bastion:alice"} <= rights_said
        assert {"bastion:reaper may create pods/exec in default", "bastion:keeper may get pods/log in default"} <= (
            rights_said
        )
        assert {"may not get secrets, and should not", "may not do anything, and should not"} <= rights_said

    def test_it_says_first_which_file_each_key_is_from_and_never_a_secret(self, doctor: Doctor, account: Path) -> None:
        done = doctor.run("--kubeconfig", str(account))
        token = account.read_text().partition("token: ")[2].split()[0]

        keys = [line for line in done.stdout.splitlines() if line.startswith("ok      configuration ")]
        assert done.stdout.splitlines()[: len(keys)] == keys
        assert any(f"users.test is from {account}:" in line for line in keys)
        assert token not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout

    def test_a_right_that_is_a_way_around_the_policy_fails(self, doctor: Doctor, cluster: Cluster) -> None:
        checks = doctor.checks("--kubeconfig", str(cluster.kubeconfig), status=1)

        assert {
            "check": "rights",
            "outcome": "failed",
            "message": "may impersonate groups system:masters, which is a way around the policy",
            "advice": "take it away",
        } in checks
        failed = {check["message"].partition(",")[0] for check in of(checks, "rights") if check["outcome"] == "failed"}
        assert {"may delete pods", "may create deployments.apps", "may patch pods/ephemeralcontainers"} <= failed
        assert "may impersonate users system:kube-controller-manager" in failed
        assert of(checks, "exec")[0]["outcome"] == "warning"
        assert "--pod NAMESPACE/NAME" in of(checks, "exec")[0]["advice"]

    def test_a_right_that_is_missing_fails(self, doctor: Doctor, account: Path, tmp_path: Path) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY.replace("bastion:keeper", "bastion:stranger"))

        checks = doctor.checks("--kubeconfig", str(account), "--policy", str(policy), status=1)

        assert [check["message"] for check in checks if check["outcome"] == "failed"] == [
            "may not impersonate groups bastion:stranger"
        ]

    def test_what_the_reaper_and_people_s_groups_lack_is_told(
        self, doctor: Doctor, account: Path, tmp_path: Path
    ) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY.replace("[default]", "[default, shop]"))

        checks = doctor.checks("--kubeconfig", str(account), "--policy", str(policy), status=1)

        failed, warned = (
            {check["message"]: check["advice"] for check in of(checks, "rights") if check["outcome"] == outcome}
            for outcome in ("failed", "warning")
        )
        assert set(failed) == {f"bastion:reaper may not {verb} pods/exec in shop" for verb in ("get", "create")}
        assert set(failed.values()) == {
            "what sessions leave behind would run on in their pods; grant what `bastion doctor --rbac` prints"
        }
        wanted = ("get pods/exec", "create pods/exec", "get pods/log")
        assert set(warned) == {f"bastion:keeper may not {what} in shop" for what in wanted}
        assert set(warned.values()) == {
            "its people are refused what the policy allows; grant what `bastion doctor --rbac` prints"
        }

    def test_what_the_reaper_may_in_some_namespaces_is_not_everywhere(
        self, doctor: Doctor, account: Path, tmp_path: Path
    ) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY.replace("[default]", '["*"]'))
        flags = ("--kubeconfig", str(account), "--policy", str(policy))

        everywhere = of(doctor.checks(*flags, status=1), "rights")
        limited = of(doctor.checks(*flags, "--namespace", "default", "--namespace", "bastion", status=0), "rights")

        (found,) = (check for check in everywhere if check["message"] == "bastion:reaper may not create pods/exec")
        assert found["outcome"] == "failed"
        assert found["advice"].endswith("name them with --namespace or in the settings")
        reaper = [check["message"] for check in limited if check["message"].startswith("bastion:reaper")]
        assert reaper == [f"bastion:reaper may {verb} pods/exec in default" for verb in ("get", "create")]

    def test_that_every_user_can_be_impersonated_of_need_is_a_warning(
        self, doctor: Doctor, cluster: Cluster, tmp_path: Path
    ) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY.replace("person:alice", "group:keepers"))

        checks = of(doctor.checks("--kubeconfig", str(cluster.kubeconfig), "--policy", str(policy), status=1), "rights")

        (found,) = (check for check in checks if "users of every name" in check["message"])
        assert found["outcome"] == "warning"
        assert not any("impersonate users system:" in check["message"] for check in checks)

    def test_mode_and_namespaces_decide_what_is_checked(self, doctor: Doctor, account: Path) -> None:
        flags = ("--mode", "serviceaccount", "--namespace", "default")

        checks = doctor.checks("--kubeconfig", str(account), *flags, status=1)

        said = {check["message"] for check in of(checks, "rights")}
        assert {"may list pods in default", "may not create pods/exec in default"} <= said
        assert {"may not get secrets in default, and should not"} <= said
        assert not any("subjectaccessreviews" in message for message in said)

    def test_a_pod_that_is_not_there_fails(self, doctor: Doctor, account: Path) -> None:
        checks = doctor.checks("--kubeconfig", str(account), "--pod", "default/none", status=1)

        assert "there is no pod none in namespace default" in of(checks, "exec")[0]["message"]
        assert of(checks, "exec")[0]["advice"] == "name a pod that runs"

    async def test_a_right_that_exec_needs_and_lacks_is_what_it_advises(self, account: Path) -> None:
        pod = f"api-{seed.API_HASH}-{seed.API_PODS[0]}"
        message, advice = await exec_said(account, ("shop", pod))

        assert message.startswith(f"the cluster's own RBAC does not let you into pod {pod} in namespace shop")
        assert advice == "bastion:reaper needs pods/exec there: see `bastion doctor --rbac`"

    @pytest.mark.parametrize(
        ("hang", "said"), [(False, "cannot be reached by the API server"), (True, "does not answer; try again")]
    )
    async def test_a_node_that_fails_is_named_and_no_right_is_blamed(
        self,
        cluster: Cluster,
        account: Path,
        monkeypatch: pytest.MonkeyPatch,
        hang: bool,  # noqa: FBT001 - a parameter of the test
        said: str,
    ) -> None:
        monkeypatch.setattr(api, "CONNECT_TIMEOUT_S", 2.0)
        monkeypatch.setattr(probe, "REQUEST_TIMEOUT_S", 2.0)
        await cluster.control({"do": "node", "up": False, "hang": hang, "grace": 300})
        try:
            message, advice = await exec_said(account, ("default", "web"))
        finally:
            await cluster.control({"do": "node", "up": True})

        assert message.startswith(f"the node of pod web (local-node) {said}")
        assert advice == "see to that pod's node, or name a pod on another node"

    def test_the_flag_wins_over_the_settings(self, doctor: Doctor, account: Path) -> None:
        variables = {"BASTION_KUBERNETES_KUBECONFIG": "/none", "BASTION_KUBERNETES_CONTEXT": "none"}

        checks = doctor.checks("--kubeconfig", str(account), "--context", "test", status=0, **variables)

        assert of(checks, "configuration")[0]["message"].startswith("context test, https://127.0.0.1:")

    def test_it_is_coloured_on_a_terminal(self, doctor: Doctor) -> None:
        master, slave = pty.openpty()
        environment = doctor.bastion.environment | doctor.variables
        with subprocess.Popen([PROGRAM, "doctor"], stdout=slave, env=environment, cwd=doctor.bastion.folder) as process:
            assert process.wait(LIMIT) == 1
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while data := os.read(master, 65536):
                shown += data
        os.close(master)

        assert b"\x1b[31mfailed" in shown
        assert b"\x1b[32mok" in shown


class TestAgainstSomethingElse:
    async def checks_of(
        self, tmp_path: Path, *, pod: tuple[str, str] | None = None, **answer: Any
    ) -> dict[str, tuple[str, str]]:
        """Outcome and message of each check (the last of its name) against a server that answers everything so."""
        authority = new_authority()
        async with serving(tmp_path, authority) as peer:
            for name, value in answer.items():
                setattr(peer, name, value)
            data = base64.b64encode(authority.pem).decode()
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster={"certificate-authority-data": data})
            settings = KubernetesSettings(kubeconfig=str(path))
            return {
                check.check: (check.outcome, check.message)
                async for check in doctor_cluster.cluster_checks(settings, (), pod)
            }

    @pytest.mark.parametrize(
        ("version", "outcome", "message"),
        [
            ("v1.28.0", "ok", "Kubernetes v1.28.0"),
            ("v1.36.2+k3s1", "ok", "Kubernetes v1.36.2+k3s1"),
            ("v1.27.9", "warning", "Kubernetes v1.27.9"),
            ("v1.37.0", "warning", "Kubernetes v1.37.0"),
            ("", "warning", "it answers, but does not say its version (HTTP 200)"),
        ],
    )
    async def test_a_version_that_it_is_not_made_for_is_a_warning(
        self, tmp_path: Path, version: str, outcome: str, message: str
    ) -> None:
        checks = await self.checks_of(tmp_path, body=json.dumps({"gitVersion": version}).encode())

        assert checks["api-server"] == (outcome, message)

    async def test_a_server_that_does_not_know_us_fails(self, tmp_path: Path) -> None:
        checks = await self.checks_of(tmp_path, status="401 Unauthorized")

        assert checks["api-server"] == ("failed", "it does not know who we are (HTTP 401)")
        assert checks["rights"][0] == "failed"

    @pytest.mark.parametrize("body", [b"", b"[]", b"no JSON", b'{"status": []}'])
    async def test_a_server_that_answers_something_else_is_never_ok(self, tmp_path: Path, body: bytes) -> None:
        checks = await self.checks_of(tmp_path, pod=("default", "web"), body=body)

        assert checks["exec"][0] == "failed"
        assert "its answer is not understood" in checks["exec"][1]

        assert checks["api-server"][0] == "warning"
        assert checks["rights"][0] == "failed"

    @pytest.mark.parametrize(
        ("ahead_s", "outcome"), [(0, "ok"), (3600, "warning"), (-3600, "warning")], ids=["right", "ahead", "behind"]
    )
    async def test_a_clock_that_is_more_than_5_s_off_is_a_warning(
        self, tmp_path: Path, ahead_s: int, outcome: str
    ) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)

        checks = await self.checks_of(tmp_path, headers={"Date": date})

        assert checks["clock"][0] == outcome

    @pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}], ids=["none", "nonsense"])
    async def test_no_time_is_a_warning(self, tmp_path: Path, headers: dict[str, str]) -> None:
        assert (await self.checks_of(tmp_path, headers=headers))["clock"][0] == "warning"

    async def test_a_server_that_need_not_prove_who_it_is_is_a_loud_warning(
        self, doctor: Doctor, tmp_path: Path
    ) -> None:
        async with serving(tmp_path, new_authority()) as peer:
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster={"insecure-skip-tls-verify": True})
            done = await asyncio.to_thread(doctor.run, "--kubeconfig", str(path))

        assert "warning tls           the server is not asked to prove who it is" in done.stdout
        assert "kubernetes.insecure" in done.stderr

    def test_where_nothing_answers_the_other_checks_are_made_all_the_same(self, doctor: Doctor, tmp_path: Path) -> None:
        path = write_kubeconfig(tmp_path / "config", "https://127.0.0.1:1")

        checks = doctor.checks("--kubeconfig", str(path), status=1)

        outcomes = {check["check"]: check["outcome"] for check in checks}
        assert outcomes == {
            **dict.fromkeys(("configuration", "tls", "database", "migrations", "host-key", "policy"), "ok"),
            **dict.fromkeys(("api-server", "clock", "rights", "exec"), "failed"),
        }
        (said,) = of(checks, "api-server")
        assert said["message"].endswith("(127.0.0.1:1: Connection refused)")
        assert said["advice"].startswith("https://127.0.0.1:1 has to be reachable from here")

    async def unreached(self, path: Path) -> tuple[str, str]:
        """Message and advice about an API server that is not reached."""
        settings = KubernetesSettings(kubeconfig=str(path))
        checks = [check async for check in doctor_cluster.cluster_checks(settings, (), None)]
        ((outcome, message, advice),) = (
            (check.outcome, check.message, check.advice) for check in checks if check.check == "api-server"
        )
        assert outcome == "failed"
        return message, advice

    async def test_a_server_whose_name_is_not_known_is_told_with_its_port(self, tmp_path: Path) -> None:
        message, _ = await self.unreached(write_kubeconfig(tmp_path / "config", "https://no.such.invalid:6443"))

        assert "(no.such.invalid:6443: " in message

    async def test_a_server_whose_certificate_is_not_trusted_is_told_so(self, tmp_path: Path) -> None:
        async with serving(tmp_path, new_authority()) as peer:
            message, _ = await self.unreached(write_kubeconfig(tmp_path / "config", peer.url))

            assert f"(127.0.0.1:{peer.port}: its certificate is not trusted: " in message

    async def test_a_proxy_that_is_dead_is_told_as_that_without_its_password(self, tmp_path: Path) -> None:
        cluster = {"proxy-url": "http://someone:secret@127.0.0.1:2"}

        message, advice = await self.unreached(
            write_kubeconfig(tmp_path / "config", "https://127.0.0.1:1", cluster=cluster)
        )

        assert message.startswith("the proxy on the way to the cluster's API server")
        assert message.endswith("(127.0.0.1:2: Connection refused)")
        assert advice.startswith("see to the proxy")

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP 407 Proxy Authentication Required"),
            (b"", ""),
        ],
        ids=["refuses", "hangs up"],
    )
    async def test_a_proxy_that_lets_nobody_through_is_named_without_its_password(
        self, tmp_path: Path, answer: bytes, said: str
    ) -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            cluster = {"proxy-url": f"http://someone:secret@127.0.0.1:{port}"}
            message, advice = await self.unreached(
                write_kubeconfig(tmp_path / "config", "https://127.0.0.1:1", cluster=cluster)
            )

        assert f"127.0.0.1:{port}: {said}" in message
        assert "secret" not in message + advice
        assert "0x" not in message
        assert "proxy" in message

    def test_without_a_configuration_too(self, doctor: Doctor) -> None:
        checks = doctor.checks(status=1)

        assert checks[0]["outcome"] == "failed"
        assert "name a kubeconfig with --kubeconfig" in checks[0]["message"]
        assert [check["check"] for check in checks if check["outcome"] == "ok"] == [
            "database",
            "migrations",
            "host-key",
            "policy",
        ]


class TestLocalChecks:
    async def database(self, url: str) -> list[tuple[str, str]]:
        return [(check.check, check.outcome) async for check in doctor_local.database_checks(url)]

    async def test_a_database_that_is_missing(self, tmp_path: Path) -> None:
        found = await self.database(f"sqlite:///{tmp_path}/none.db")

        assert found == [("database", "failed"), ("migrations", "failed")]

    async def test_a_database_that_does_not_answer(self) -> None:
        found = await self.database("postgresql://u:p@127.0.0.1:1/x")

        assert found == [("database", "failed"), ("migrations", "failed")]

    async def test_a_database_without_its_tables(self, tmp_path: Path) -> None:
        (tmp_path / "empty.db").touch()

        found = await self.database(f"sqlite:///{tmp_path}/empty.db")

        assert found == [("database", "ok"), ("migrations", "failed")]

    def key(self, path: Path, *options: str) -> Path:
        subprocess.run(["ssh-keygen", "-q", "-f", path, *options], check=True)
        return path

    @pytest.mark.parametrize("options", [("-t", "ed25519"), ("-t", "rsa"), ("-t", "ecdsa", "-m", "PEM")])
    def test_a_host_key_is_known_by_its_fingerprint(self, tmp_path: Path, options: tuple[str, ...]) -> None:
        path = self.key(tmp_path / "key", "-N", "", *options)
        shown = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout.split()[
            1
        ]

        check = doctor_local.host_key_check(path)

        assert (check.outcome, check.message) == ("ok", f"{path}, {shown}")

    def test_a_host_key_that_everybody_can_read_is_a_warning(self, tmp_path: Path) -> None:
        path = self.key(tmp_path / "key", "-N", "")
        path.chmod(0o644)

        assert doctor_local.host_key_check(path).outcome == "warning"

    @pytest.mark.parametrize("contents", [None, b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"])
    def test_a_host_key_that_is_none_fails(self, tmp_path: Path, contents: bytes | None) -> None:
        if contents is not None:
            (tmp_path / "key").write_bytes(contents)

        self.failed(doctor_local.host_key_check(tmp_path / "key"), "ssh-keygen")

    def test_a_host_key_with_a_password_fails(self, tmp_path: Path) -> None:
        self.failed(doctor_local.host_key_check(self.key(tmp_path / "key", "-N", "secret")), "without a password")

    def test_what_is_not_named_fails(self) -> None:
        self.failed(doctor_local.host_key_check(None), "BASTION_SSH_HOST_KEY")
        self.failed(doctor_local.policy_check(None)[0], "BASTION_POLICY_FILE")

    def test_a_policy_that_is_none_fails(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.yaml"
        path.write_text("roles: 1")

        check, policy = doctor_local.policy_check(path)

        assert policy is None
        self.failed(check, f"{path}:1")

    def failed(self, check: Check, words: str) -> None:
        assert check.outcome == "failed"
        assert words in f"{check.message} {check.advice}"


class TestRights:
    def test_they_are_printed_without_a_cluster(self, doctor: Doctor, tmp_path: Path) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text(
            'roles: {shop-developer: {kubernetes: {groups: ["bastion:shop-developer"]},'
            " allow: [{namespaces: [shop], actions: [logs]}]}}\n"
            'bindings: [{role: shop-developer, subjects: ["group:shop"]}]\n'
        )
        for mode in rights.MODES:
            done = doctor.run("--rbac", "--mode", mode, "--policy", str(policy))

            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == (GOLDEN / f"{mode}-logs.yaml").read_text()

    def test_no_pattern_reaches_the_bastion_s_own_namespace(self, doctor: Doctor, tmp_path: Path) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY.replace("[default]", '["*"]'))
        flags = ("--namespace", "ops", "--namespace", "shop", "--account", "ops/gate", "--policy", str(policy))

        done = doctor.run("--rbac", *flags)

        assert 'name: "bastion:keeper"\n  namespace: shop\n' in done.stdout
        assert 'name: "bastion:keeper"\n  namespace: ops\n' not in done.stdout

    def test_mode_and_namespaces_are_those_of_the_settings(self, doctor: Doctor) -> None:
        variables = {"BASTION_KUBERNETES_MODE": "serviceaccount", "BASTION_KUBERNETES_NAMESPACES": "default,shop"}

        done = doctor.run("--rbac", "--account", "ops/gate", **variables)

        assert "Cluster" not in done.stdout
        assert "# Namespace default" in done.stdout
        assert "# Namespace shop" in done.stdout
        assert "name: gate, namespace: ops" in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--namespace", "A b"], "'A b' cannot be a namespace's name"),
            (["--account", "bastion"], "it must be NAMESPACE/NAME"),
            (["--pod", "a/b/c"], "it must be NAMESPACE/NAME"),
            (["--mode", "other"], "'other' is not one of"),
            (["--json"], "--rbac prints YAML and asks no cluster"),
        ],
    )
    def test_a_wrong_command_line_is_refused(self, arguments: list[str], message: str) -> None:
        done = CliRunner().invoke(doctor_command.doctor, ["--rbac", *arguments])

        assert done.exit_code == 2
        assert message in done.output

    def test_a_policy_is_needed(self, tmp_path: Path) -> None:
        done = Bastion(folder=tmp_path).run("doctor", "--rbac")

        assert (done.returncode, done.stdout) == (2, "")
        assert "name its file with --policy" in done.stderr


def test_the_server_takes_the_flags_too(doctor: Doctor) -> None:
    done = doctor.bastion.run("serve", "--kubeconfig", "/none", **doctor.variables)

    assert done.returncode == 2
    assert "the kubeconfig /none is missing (--kubeconfig)" in done.stderr
