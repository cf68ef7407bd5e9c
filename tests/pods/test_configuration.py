"""Getting in: what a configuration does to a real TLS server, a real proxy and a real plugin."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog

from bastion.errors import BastionError, Code
from bastion.pods.configuration import ClusterConfiguration, configured
from support.kubeconfigs import surroundings, write_kubeconfig
from support.records import SettableClock
from support.tlsserver import Authority, new_authority, proxying, serving
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def trusting(authority: Authority, **keys: Any) -> dict[str, Any]:
    return {"certificate-authority-data": encoded(authority.pem), **keys}


async def ask(configuration: ClusterConfiguration) -> int:
    """One request over a new connection, as pods.api makes it; the status."""
    headers = await configuration.headers()
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{configuration.server}/version",
            headers=headers,
            ssl=configuration.tls(),
            proxy=configuration.proxy,
            server_hostname=configuration.tls_server_name,
        ) as response,
    ):
        await response.read()
        return response.status


async def refused(path: str | None, context: str | None, home: Path, **environ: str) -> str:
    with pytest.raises(BastionError) as caught:
        await configured(path, context, surroundings(home, None, **environ))
    assert caught.value.code is Code.INVALID
    return caught.value.user_message


class TestWhichFile:
    async def test_one_that_is_named_is_used_alone(self, tmp_path: Path) -> None:
        named = write_kubeconfig(tmp_path / "named", "https://named:1")
        other = write_kubeconfig(tmp_path / "other", "https://other:1")
        write_kubeconfig(tmp_path / ".kube" / "config", "https://home:1")

        found = await configured(str(named), None, surroundings(tmp_path, KUBECONFIG=str(other)))

        assert (found.server, found.source) == ("https://named:1", "context test")
        assert {where.partition(":")[0] for _, where in found.origins} == {str(named)}

    async def test_one_that_is_named_must_be_there(self, tmp_path: Path) -> None:
        write_kubeconfig(tmp_path / ".kube" / "config", "https://home:1")

        assert f"the kubeconfig {tmp_path}/none is missing" in await refused(f"{tmp_path}/none", None, tmp_path)

    async def test_else_those_of_the_variable_are_merged_and_missing_ones_do_not_matter(self, tmp_path: Path) -> None:
        first = write_kubeconfig(tmp_path / "first", "https://first:1")
        second = write_kubeconfig(tmp_path / "second", "https://second:1")
        write_kubeconfig(tmp_path / ".kube" / "config", "https://home:1")
        variable = f":{tmp_path}/none:{first}:{second}:{first}"

        found = await configured(None, None, surroundings(tmp_path, KUBECONFIG=variable))

        assert found.server == "https://first:1"

    async def test_if_all_of_the_variable_are_missing_it_is_logged_and_the_home_is_not_looked_at(
        self, tmp_path: Path
    ) -> None:
        write_kubeconfig(tmp_path / ".kube" / "config", "https://home:1")

        with structlog.testing.capture_logs() as logs:
            message = await refused(None, None, tmp_path, KUBECONFIG=f"{tmp_path}/none")

        assert "there is no kubeconfig, and this is no pod" in message
        assert [(line["event"], line["files"]) for line in logs] == [
            ("kubernetes.kubeconfig_missing", [f"{tmp_path}/none"])
        ]

    async def test_else_that_of_the_home(self, tmp_path: Path) -> None:
        write_kubeconfig(tmp_path / ".kube" / "config", "https://home:1/prefix/")

        assert (await configured(None, None, surroundings(tmp_path))).server == "https://home:1/prefix"

    async def test_one_that_cannot_be_read_is_an_error_wherever_it_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()

        assert "cannot read the kubeconfig" in await refused(None, None, tmp_path, KUBECONFIG=f"{tmp_path}/folder")

    async def test_the_context_is_chosen_by_name(self, tmp_path: Path) -> None:
        path = write_kubeconfig(tmp_path / "config", "https://home:1")

        assert "there is no context 'prod'; known are test" in await refused(str(path), "prod", tmp_path)

    async def test_a_path_in_a_relative_file_is_relative_to_it(
        self, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_kubeconfig(tmp_path / "sub" / "config", "https://home:1", cluster={"certificate-authority": "ca.crt"})
        (tmp_path / "sub" / "ca.crt").write_bytes(authority.pem)
        monkeypatch.chdir(tmp_path)

        assert (await configured("sub/config", None, surroundings(tmp_path))).is_verified


class TestInCluster:
    def account(self, home: Path, authority: Authority) -> Path:
        folder = home / "account"
        folder.mkdir()
        (folder / "token").write_text("first\n")
        (folder / "ca.crt").write_bytes(authority.pem)
        return folder

    async def test_a_pod_without_any_kubeconfig_uses_its_own_account(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        self.account(tmp_path, authority)
        async with serving(tmp_path, authority) as peer:
            given = surroundings(tmp_path, KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=str(peer.port))
            found = await configured(None, None, given)

            assert await ask(found) == 200

        assert found.source == "in-cluster"
        assert peer.seen[0].headers["authorization"] == "Bearer first"

    async def test_an_ipv6_address_stands_in_brackets(self, tmp_path: Path, authority: Authority) -> None:
        self.account(tmp_path, authority)
        given = surroundings(tmp_path, KUBERNETES_SERVICE_HOST="fd00::1", KUBERNETES_SERVICE_PORT="443")

        assert (await configured(None, None, given)).server == "https://[fd00::1]:443"

    @pytest.mark.parametrize("asked", [("config", None), (None, "prod")], ids=["file", "context"])
    async def test_it_is_not_what_somebody_gets_who_named_something_else(
        self, tmp_path: Path, authority: Authority, asked: tuple[str | None, str | None]
    ) -> None:
        self.account(tmp_path, authority)
        (tmp_path / "config").write_text("")
        path = str(tmp_path / asked[0]) if asked[0] else None
        variables = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}

        assert "there is no configuration in it" in await refused(path, asked[1], tmp_path, **variables)

    async def test_an_account_without_a_ca_is_an_error(self, tmp_path: Path, authority: Authority) -> None:
        (self.account(tmp_path, authority) / "ca.crt").unlink()
        variables = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}

        assert f"cannot read {tmp_path}/account/ca.crt" in await refused(None, None, tmp_path, **variables)


class TestTls:
    async def test_a_server_of_another_ca_is_not_talked_to(self, tmp_path: Path, authority: Authority) -> None:
        async with serving(tmp_path, new_authority()) as peer:
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster=trusting(authority))

            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await ask(await configured(str(path), None, surroundings(tmp_path)))

        assert peer.seen == []

    async def test_data_wins_over_a_file(self, tmp_path: Path, authority: Authority) -> None:
        (tmp_path / "other.crt").write_bytes(new_authority().pem)
        cluster = trusting(authority, **{"certificate-authority": "other.crt"})
        async with serving(tmp_path, authority) as peer:
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster=cluster)

            assert await ask(await configured(str(path), None, surroundings(tmp_path))) == 200

    async def test_a_ca_in_a_file_is_read_again_within_a_minute(self, tmp_path: Path, authority: Authority) -> None:
        clock, other = SettableClock(), new_authority()
        (tmp_path / "ca.crt").write_bytes(other.pem)
        async with serving(tmp_path, authority) as peer:
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster={"certificate-authority": "ca.crt"})
            found = await configured(str(path), None, surroundings(tmp_path, clock))
            first = found.tls()
            (tmp_path / "ca.crt").write_bytes(authority.pem)
            clock.at += timedelta(seconds=60)

            assert await ask(found) == 200

        assert found.tls() is found.tls()
        assert found.tls() is not first

    async def test_a_ca_that_cannot_be_read_any_more_stays_as_it_was(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        clock = SettableClock()
        (tmp_path / "ca.crt").write_bytes(authority.pem)
        path = write_kubeconfig(tmp_path / "config", "https://h:1", cluster={"certificate-authority": "ca.crt"})
        found = await configured(str(path), None, surroundings(tmp_path, clock))
        first = found.tls()
        with structlog.testing.capture_logs() as logs:
            (tmp_path / "ca.crt").write_text("no PEM")
            clock.at += timedelta(seconds=60)
            assert found.tls() is first
            assert found.tls() is first
            (tmp_path / "ca.crt").unlink()
            assert found.tls() is first

        causes = [line["cause"] for line in logs if line["event"] == "kubernetes.not_reread"]
        assert "the certificate-authority is no list of certificates in PEM" in causes[0]
        assert "No such file" in causes[1]
        assert len(causes) == 2

    async def test_insecure_means_any_server_and_a_warning(self, tmp_path: Path) -> None:
        async with serving(tmp_path, new_authority(), "elsewhere") as peer:
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster={"insecure-skip-tls-verify": True})

            with structlog.testing.capture_logs() as logs:
                found = await configured(str(path), None, surroundings(tmp_path))

            assert await ask(found) == 200
        assert not found.is_verified
        assert [(line["event"], line["log_level"]) for line in logs] == [("kubernetes.insecure", "warning")]

    @pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxy"])
    async def test_another_name_is_looked_for_in_the_certificate(
        self, tmp_path: Path, authority: Authority, *, through_proxy: bool
    ) -> None:
        async with serving(tmp_path, authority, "kubernetes") as peer, proxying() as proxy:
            more = {"proxy-url": f"http://127.0.0.1:{proxy.port}"} if through_proxy else {}
            plain = write_kubeconfig(tmp_path / "plain", peer.url, cluster=trusting(authority, **more))
            named = trusting(authority, **{"tls-server-name": "kubernetes"}, **more)
            meant = write_kubeconfig(tmp_path / "meant", peer.url, cluster=named)

            with pytest.raises(aiohttp.ClientConnectorError):
                await ask(await configured(str(plain), None, surroundings(tmp_path)))
            assert await ask(await configured(str(meant), None, surroundings(tmp_path))) == 200

    async def test_a_server_without_tls_is_not_told_who_we_are(self, tmp_path: Path) -> None:
        path = write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1")

        with structlog.testing.capture_logs() as logs:
            found = await configured(str(path), None, surroundings(tmp_path))

        assert await found.headers() == []
        assert [line["event"] for line in logs] == ["kubernetes.insecure"]

    @pytest.mark.parametrize(
        ("cluster", "user", "message"),
        [
            ({"certificate-authority-data": encoded(b"no PEM")}, {}, "the certificate-authority is no list of certif"),
            ({"certificate-authority": "none.crt"}, {}, "none.crt: No such file"),
            ({}, {"client-certificate-data": encoded(b"x"), "client-key": "none.key"}, "none.key: No such file"),
            (
                {},
                {"client-certificate-data": encoded(b"x"), "client-key-data": encoded(b"y")},
                "the client certificate cannot be used with its key",
            ),
            ({}, {"tokenFile": "none"}, "none: No such file"),
            ({}, {"token": "two\nlines"}, "the user's token has characters that no token has"),
        ],
    )
    async def test_what_cannot_be_used_is_found_at_once(
        self, tmp_path: Path, cluster: Mapping[str, Any], user: Mapping[str, Any], message: str
    ) -> None:
        path = write_kubeconfig(tmp_path / "config", "https://h:1", cluster=cluster, user=user)

        assert message in await refused(str(path), None, tmp_path)


class TestProxies:
    async def test_that_of_the_cluster_is_used_even_for_loopback_and_with_its_password(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        async with serving(tmp_path, authority) as peer, proxying() as proxy:
            url = f"http://alice:word@127.0.0.1:{proxy.port}"
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster=trusting(authority, **{"proxy-url": url}))

            assert await ask(await configured(str(path), None, surroundings(tmp_path))) == 200

        assert [seen.line for seen in proxy.seen] == [f"CONNECT 127.0.0.1:{peer.port} HTTP/1.1"]
        assert proxy.seen[0].headers["proxy-authorization"] == f"Basic {encoded(b'alice:word')}"
        assert "authorization" not in proxy.seen[0].headers
        assert peer.seen[0].headers["authorization"] == "Bearer secret"

    async def test_that_of_the_environment_is_second(self, tmp_path: Path) -> None:
        first = write_kubeconfig(tmp_path / "first", "https://h:1", cluster={"proxy-url": "http://first:1"})
        second = write_kubeconfig(tmp_path / "second", "https://h:1")
        given = surroundings(tmp_path, HTTPS_PROXY="http://second:1")

        assert (await configured(str(first), None, given)).proxy == "http://first:1"
        assert (await configured(str(second), None, given)).proxy == "http://second:1"
        assert (await configured(str(second), None, surroundings(tmp_path))).proxy is None


class TestCredentials:
    async def header(self, tmp_path: Path, clock: SettableClock | None = None, **user: Any) -> ClusterConfiguration:
        path = write_kubeconfig(tmp_path / "config", "https://h:1", user=user)
        return await configured(str(path), None, surroundings(tmp_path, clock))

    async def test_a_token(self, tmp_path: Path) -> None:
        assert await (await self.header(tmp_path, token="abc")).headers() == [("Authorization", "Bearer abc")]

    async def test_a_name_and_a_password(self, tmp_path: Path) -> None:
        found = await self.header(tmp_path, username="alice", password="wörd")

        assert await found.headers() == [("Authorization", f"Basic {encoded('alice:wörd'.encode())}")]

    async def test_none(self, tmp_path: Path) -> None:
        assert await (await self.header(tmp_path)).headers() == []

    async def test_a_token_in_a_file_is_read_again_within_a_minute(self, tmp_path: Path) -> None:
        clock = SettableClock()
        (tmp_path / "token").write_text("first\n")
        found = await self.header(tmp_path, clock, tokenFile="token")
        (tmp_path / "token").write_text("second\n")

        clock.at += timedelta(seconds=59)
        assert await found.headers() == [("Authorization", "Bearer first")]
        clock.at += timedelta(seconds=1)
        assert await found.headers() == [("Authorization", "Bearer second")]

    async def test_a_token_in_a_file_is_read_again_when_the_server_refuses_it(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("first")
        found = await self.header(tmp_path, tokenFile="token")
        (tmp_path / "token").write_text("second")

        found.forget()

        assert await found.headers() == [("Authorization", "Bearer second")]

    async def test_a_token_file_that_is_gone_or_empty_leaves_the_last_token(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("first")
        found = await self.header(tmp_path, tokenFile="token", token="fallback")
        for contents in (" \n", None):
            (tmp_path / "token").write_text(contents) if contents else (tmp_path / "token").unlink()
            found.forget()

            assert await found.headers() == [("Authorization", "Bearer first")]

    async def test_a_token_serves_until_the_file_beside_it_can_be_read(self, tmp_path: Path) -> None:
        found = await self.header(tmp_path, tokenFile="token", token="fallback")
        before = await found.headers()
        (tmp_path / "token").write_text("first")
        found.forget()

        assert before == [("Authorization", "Bearer fallback")]
        assert await found.headers() == [("Authorization", "Bearer first")]

    @pytest.mark.parametrize("as_data", [True, False], ids=["data", "files"])
    async def test_a_client_certificate(self, tmp_path: Path, authority: Authority, *, as_data: bool) -> None:
        certificate, key = authority.issue("alice")
        (tmp_path / "c.crt").write_bytes(certificate)
        (tmp_path / "c.key").write_bytes(key)
        data = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
        user = data if as_data else {"client-certificate": "c.crt", "client-key": "c.key"}
        async with serving(tmp_path, authority) as peer:
            path = write_kubeconfig(tmp_path / "config", peer.url, cluster=trusting(authority), user=user)

            assert await ask(await configured(str(path), None, surroundings(tmp_path))) == 200

        assert peer.seen[0].client == "alice"

    async def test_a_client_certificate_in_files_is_read_again_once_its_key_is_there_too(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        clock = SettableClock()
        crt, key = tmp_path / "c.crt", tmp_path / "c.key"
        user = {"client-certificate": "c.crt", "client-key": "c.key"}
        for path, data in zip((crt, key), authority.issue("first"), strict=True):
            path.write_bytes(data)
        async with serving(tmp_path, authority) as peer:
            config = write_kubeconfig(tmp_path / "config", peer.url, cluster=trusting(authority), user=user)
            found = await configured(str(config), None, surroundings(tmp_path, clock))
            certificate, private = authority.issue("second")
            crt.write_bytes(certificate)
            clock.at += timedelta(seconds=60)
            await ask(found)
            key.write_bytes(private)
            await ask(found)

        assert [seen.client for seen in peer.seen] == ["first", "second"]


class Script:
    """An exec plugin: a Python program that prints what a file holds, and notes how it was started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "plugin"
        self.path.write_text(
            f"#!{sys.executable} -IS\n"
            "import json, os, sys\n"
            f"folder = {str(folder)!r}\n"
            "with open(folder + '/runs', 'a') as runs:\n"
            "    given = {'args': sys.argv[1:], 'env': dict(os.environ), 'stdin': sys.stdin.read()}\n"
            "    print(json.dumps(given), file=runs)\n"
            "with open(folder + '/says') as says:\n"
            "    sys.stdout.write(says.read())\n"
        )
        self.path.chmod(0o700)

    def says(self, version: str = V1, **status: Any) -> None:
        answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
        (self.folder / "says").write_text(json.dumps(answer))

    def user(self, version: str = V1, **keys: Any) -> dict[str, Any]:
        return {"exec": {"apiVersion": version, "command": "./plugin", "interactiveMode": "Never", **keys}}

    @property
    def runs(self) -> list[dict[str, Any]]:
        path = self.folder / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class TestPlugins:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Script:
        return Script(tmp_path)

    async def found(
        self, script: Script, user: Mapping[str, Any], clock: SettableClock | None = None, **cluster: Any
    ) -> ClusterConfiguration:
        path = write_kubeconfig(script.folder / "config", "https://h:1", user=user, cluster=cluster)
        return await configured(str(path), None, surroundings(script.folder, clock, HOME="/nowhere"))

    async def failure(self, script: Script, user: Mapping[str, Any]) -> str:
        with pytest.raises(BastionError) as caught:
            await (await self.found(script, user)).headers()
        assert caught.value.code is Code.CLUSTER_UNAVAILABLE
        assert "hunter2" not in str(caught.value)
        return caught.value.detail

    @pytest.mark.parametrize("version", [V1, V1BETA1])
    async def test_gives_a_token_and_is_told_what_client_go_tells(self, script: Script, version: str) -> None:
        script.says(version, token="abc")
        user = script.user(version, args=["--x", "1"], env=[{"name": "REGION", "value": "eu"}])

        headers = await (await self.found(script, user)).headers()

        assert headers == [("Authorization", "Bearer abc")]
        (run,) = script.runs
        assert (run["args"], run["stdin"]) == (["--x", "1"], "")
        assert (run["env"]["REGION"], run["env"]["HOME"]) == ("eu", "/nowhere")
        assert json.loads(run["env"]["KUBERNETES_EXEC_INFO"]) == {
            "apiVersion": version,
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }

    async def test_is_told_about_the_cluster_if_it_asks(self, script: Script, authority: Authority) -> None:
        script.says(token="abc")
        extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
        (script.folder / "ca.crt").write_bytes(authority.pem)
        keys: dict[str, Any] = {"certificate-authority": "ca.crt", "tls-server-name": "k", "extensions": [extension]}

        await (await self.found(script, script.user(provideClusterInfo=True), **keys)).headers()

        assert json.loads(script.runs[0]["env"]["KUBERNETES_EXEC_INFO"])["spec"]["cluster"] == {
            "server": "https://h:1",
            "tls-server-name": "k",
            "certificate-authority-data": encoded(authority.pem),
            "config": {"audience": "x"},
        }

    async def test_is_asked_again_when_what_it_gave_expires_and_not_before(self, script: Script) -> None:
        clock = SettableClock()
        expires = (clock.at + timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
        script.says(token="first", expirationTimestamp=expires)
        found = await self.found(script, script.user(), clock)
        first = await found.headers()
        script.says(token="second")
        clock.at += timedelta(seconds=299)
        still = await found.headers()
        clock.at += timedelta(seconds=1)

        assert first == still == [("Authorization", "Bearer first")]
        assert await found.headers() == [("Authorization", "Bearer second")]
        assert len(script.runs) == 2

    async def test_is_asked_again_when_the_server_refuses_what_it_gave(self, script: Script) -> None:
        script.says(token="first")
        found = await self.found(script, script.user())
        await found.headers()
        script.says(token="second")
        found.forget()

        assert await found.headers() == [("Authorization", "Bearer second")]

    async def test_gives_a_client_certificate_and_then_another(self, script: Script, authority: Authority) -> None:
        async with serving(script.folder, authority) as peer:
            path = write_kubeconfig(script.folder / "config", peer.url, user=script.user(), cluster=trusting(authority))
            found = await configured(str(path), None, surroundings(script.folder))
            for name in ("first", "second"):
                certificate, key = authority.issue(name)
                script.says(clientCertificateData=certificate.decode(), clientKeyData=key.decode())
                assert await ask(found) == 200
                found.forget()

        assert [seen.client for seen in peer.seen] == ["first", "second"]

    async def test_is_asked_once_however_many_wait(self, script: Script) -> None:
        script.says(token="abc")
        found = await self.found(script, script.user())

        answers = await asyncio.gather(*(found.headers() for _ in range(10)))

        assert answers == [[("Authorization", "Bearer abc")]] * 10
        assert len(script.runs) == 1

    async def test_ends_with_who_waits_for_it(self, script: Script) -> None:
        pid = script.folder / "pid"
        script.path.write_text(f"#!/bin/sh\necho $$ >{pid}.new\nmv {pid}.new {pid}\nexec sleep 600\n")
        waiting = asyncio.create_task((await self.found(script, script.user())).headers())

        async def has_begun() -> bool:
            return pid.exists()

        await eventually(has_begun, within=30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)

    async def test_is_not_asked_where_there_is_a_token(self, script: Script) -> None:
        found = await self.found(script, {**script.user(), "token": "own"})

        assert await found.headers() == [("Authorization", "Bearer own")]
        assert script.runs == []

    async def test_is_looked_for_in_path(self, script: Script) -> None:
        path = write_kubeconfig(script.folder / "config", "https://h:1", user=script.user(command="plugin"))
        script.says(token="abc")
        given = surroundings(script.folder, PATH=str(script.folder))

        assert await (await configured(str(path), None, given)).headers() == [("Authorization", "Bearer abc")]

    @pytest.mark.parametrize(
        ("answer", "problem"),
        [
            ("hunter2", "printed something that is no ExecCredential with a status"),
            ({"kind": "ExecCredential"}, "printed something that is no ExecCredential with a status"),
            (
                {"apiVersion": V1, "kind": "ExecCredential", "status": None},
                "printed something that is no ExecCredential",
            ),
            ({"apiVersion": V1BETA1, "kind": "ExecCredential", "status": {"token": "hunter2"}}, f"of {V1}"),
            ({"apiVersion": V1, "kind": "Other", "status": {"token": "hunter2"}}, "did not print an ExecCredential"),
            ({"apiVersion": V1, "kind": "ExecCredential", "status": {}}, "gave neither a token nor a client certif"),
            (
                {"apiVersion": V1, "kind": "ExecCredential", "status": {"clientKeyData": "hunter2"}},
                "gave a client certificate without a key, or a key without",
            ),
            (
                {"apiVersion": V1, "kind": "ExecCredential", "status": {"token": "hunter2\r\nX: y"}},
                "printed something that is no ExecCredential",
            ),
            (
                {
                    "apiVersion": V1,
                    "kind": "ExecCredential",
                    "status": {"token": "hunter2", "expirationTimestamp": "2026-01-01T00:00:00"},
                },
                "gave an expirationTimestamp without a time zone",
            ),
        ],
    )
    async def test_that_says_something_else_is_an_error_that_does_not_repeat_it(
        self, script: Script, answer: Any, problem: str
    ) -> None:
        (script.folder / "says").write_text(answer if isinstance(answer, str) else json.dumps(answer))

        detail = await self.failure(script, script.user())

        assert f"the exec plugin {script.path} " in detail
        assert problem in detail

    async def test_that_fails_says_why_to_operators(self, script: Script) -> None:
        script.path.write_text("#!/bin/sh\necho please log in >&2\nexit 3\n")

        assert (await self.failure(script, script.user())).endswith("ended with status 3: please log in")

    async def test_that_is_missing_is_an_error(self, script: Script) -> None:
        script.path.unlink()

        assert (await self.failure(script, script.user())).endswith("cannot be started: No such file or directory")
