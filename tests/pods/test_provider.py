"""The oidc auth-provider, with a real identity provider over TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.pods.configuration import ClusterConfiguration, configured
from bastion.pods.provider import EARLY_S, expiry_of
from support.kubeconfigs import surroundings, write_kubeconfig
from support.records import SettableClock
from support.tlsserver import Authority, new_authority
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REFRESH = "hunter2-refresh"
CLIENT_SECRET = "hunter2/client secret"
BASIC = "Basic " + base64.b64encode(b"bastion:hunter2%2Fclient+secret").decode()


def token(expires: Any, **claims: Any) -> str:
    """A JWT whose signature nobody here looks at."""
    parts = ({"alg": "RS256"}, {"exp": expires, **claims}, "signature")
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def in_minutes(minutes: float, clock: SettableClock, **claims: Any) -> str:
    return token((clock.at + timedelta(minutes=minutes)).timestamp(), **claims)


@dataclass(slots=True, kw_only=True)
class Idp:
    """An identity provider: what it answers, each to be changed, and the forms that it was sent.

    basic: whether it takes the client's name and secret in a header; it always takes them in the form.
    pause: set while it answers about tokens.
    """

    url: str = ""
    discovery: dict[str, Any] = field(default_factory=dict)
    discovery_status: int = 200
    tokens: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    secret: str = CLIENT_SECRET
    basic: bool = True
    pause: asyncio.Event = field(default_factory=asyncio.Event)
    forms: list[dict[str, Any]] = field(default_factory=list)

    async def find(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.json_response(self.discovery, status=self.discovery_status)

    async def give(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.forms.append(form)
        await self.pause.wait()
        is_named = self.basic and request.headers.get("Authorization") == BASIC
        if not is_named and form.get("client_secret") != self.secret:
            return web.json_response({"error": "invalid_client"}, status=401)
        text = self.tokens if isinstance(self.tokens, str) else json.dumps(self.tokens)
        return web.Response(text=text, status=self.status, headers=self.headers)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@asynccontextmanager
async def providing(folder: Path, authority: Authority) -> AsyncIterator[Idp]:
    """One that listens until left."""
    idp = Idp()
    idp.pause.set()
    app = web.Application()
    app.router.add_get("/realm/.well-known/openid-configuration", idp.find)
    app.router.add_post("/token", idp.give)
    pem = folder / "idp.pem"
    pem.write_bytes(b"".join(authority.issue("127.0.0.1")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        origin = f"https://127.0.0.1:{runner.addresses[0][1]}"
        idp.url = f"{origin}/realm/"
        idp.discovery = {"token_endpoint": f"{origin}/token"}
        yield idp
    finally:
        await runner.cleanup()


@pytest.fixture
async def idp(tmp_path: Path, authority: Authority) -> AsyncIterator[Idp]:
    async with providing(tmp_path, authority) as found:
        yield found


class TestTheOidcProvider:
    @pytest.fixture(autouse=True)
    def _around(self, tmp_path: Path, authority: Authority, clock: SettableClock) -> None:
        self.folder, self.authority, self.clock = tmp_path, authority, clock

    async def found(self, issuer: str, proxy: str = "", **keys: str) -> ClusterConfiguration:
        config = {
            "idp-issuer-url": issuer,
            "client-id": "bastion",
            "client-secret": CLIENT_SECRET,
            "refresh-token": REFRESH,
            "idp-certificate-authority-data": base64.b64encode(self.authority.pem).decode(),
            **{name.replace("_", "-"): value for name, value in keys.items()},
        }
        user = {"auth-provider": {"name": "oidc", "config": config}}
        path = write_kubeconfig(self.folder / "config", "https://h:1", user=user)
        return await configured(str(path), None, surroundings(self.folder, self.clock, HTTPS_PROXY=proxy))

    async def failure(self, issuer: str, **keys: str) -> str:
        return await self.failed(await self.found(issuer, **keys))

    async def failed(self, found: ClusterConfiguration) -> str:
        with pytest.raises(BastionError) as caught:
            await found.headers()
        assert caught.value.code is Code.CLUSTER_UNAVAILABLE
        assert "tell its operators" in caught.value.user_message
        assert caught.value.detail.startswith(f"{self.folder}/config:")
        assert "hunter2" not in str(caught.value) + caught.value.detail
        return caught.value.detail

    async def test_gives_the_id_token_of_the_kubeconfig_until_shortly_before_it_expires(self, idp: Idp) -> None:
        old, new = in_minutes(5, self.clock, name="Jürgen ???>>>~~~"), in_minutes(10, self.clock)
        idp.tokens = {"id_token": new}
        found = await self.found(idp.url, id_token=old)
        self.clock.at += timedelta(seconds=300 - EARLY_S - 1)
        before = await found.headers()
        self.clock.at += timedelta(seconds=1)

        assert before == [("Authorization", f"Bearer {old}")]
        assert idp.forms == []
        assert await found.headers() == [("Authorization", f"Bearer {new}")]
        assert idp.forms == [{"grant_type": "refresh_token", "refresh_token": REFRESH}]

    async def test_asks_for_one_if_there_is_none_and_keeps_it(self, idp: Idp) -> None:
        new = in_minutes(10, self.clock)
        idp.tokens = {"id_token": new}
        found = await self.found(idp.url)

        assert await found.headers() == await found.headers() == [("Authorization", f"Bearer {new}")]
        assert len(idp.forms) == 1

    async def test_uses_a_new_refresh_token_from_then_on_and_leaves_the_kubeconfig_alone(self, idp: Idp) -> None:
        found = await self.found(idp.url)
        written = (self.folder / "config").read_bytes()
        for number in range(3):
            rotated = {"refresh_token": "rotated"} if number == 0 else {}
            idp.tokens = {"id_token": in_minutes(number, self.clock), **rotated}
            await found.headers()
            self.clock.at += timedelta(minutes=5)

        assert [form["refresh_token"] for form in idp.forms] == [REFRESH, "rotated", "rotated"]
        assert (self.folder / "config").read_bytes() == written

    async def test_asks_again_when_the_api_server_refuses_its_token(self, idp: Idp) -> None:
        new = in_minutes(10, self.clock)
        idp.tokens = {"id_token": new}
        found = await self.found(idp.url, id_token=in_minutes(5, self.clock))
        await found.headers()
        found.forget()

        assert await found.headers() == [("Authorization", f"Bearer {new}")]

    async def test_without_a_refresh_token_a_refused_token_stays_and_an_expired_one_is_an_error(self, idp: Idp) -> None:
        old = in_minutes(5, self.clock)
        found = await self.found(idp.url, id_token=old, refresh_token="")
        found.forget()
        assert await found.headers() == [("Authorization", f"Bearer {old}")]
        self.clock.at += timedelta(minutes=5)

        assert "its id-token has expired, and it has no refresh-token; put new ones there" in await self.failed(found)

    async def test_asks_once_however_many_wait_and_even_if_the_first_goes_away(self, idp: Idp) -> None:
        new = in_minutes(10, self.clock)
        idp.tokens = {"id_token": new}
        idp.pause.clear()
        found = await self.found(idp.url)
        first = asyncio.create_task(found.headers())

        async def is_asked() -> bool:
            return bool(idp.forms)

        await eventually(is_asked, within=30)
        others = [asyncio.create_task(found.headers()) for _ in range(10)]
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        idp.pause.set()

        assert await asyncio.gather(*others) == [[("Authorization", f"Bearer {new}")]] * 10
        assert first.cancelled()
        assert len(idp.forms) == 1

    async def test_a_client_is_named_in_the_form_where_the_header_is_not_taken(self, idp: Idp) -> None:
        idp.basic = False
        idp.tokens = {"id_token": in_minutes(10, self.clock)}

        await (await self.found(idp.url)).headers()

        assert "client_id" not in idp.forms[0]
        assert idp.forms[1] == {**idp.forms[0], "client_id": "bastion", "client_secret": CLIENT_SECRET}

    async def test_one_that_is_away_is_an_error_and_then_it_is_back(self) -> None:
        async with providing(self.folder, self.authority) as gone:
            url = gone.url
        assert f"{url} cannot be reached: Cannot connect to host 127.0.0.1" in await self.failure(url)
        async with providing(self.folder, self.authority) as idp:
            found = await self.found(idp.url)
            idp.discovery_status = 503
            assert "answered with HTTP 503" in await self.failed(found)
            idp.discovery_status = 200
            idp.tokens = {"id_token": in_minutes(10, self.clock)}

            assert await found.headers() == [("Authorization", f"Bearer {idp.tokens['id_token']}")]

    async def test_one_of_another_ca_is_not_sent_anything(self, idp: Idp) -> None:
        other = base64.b64encode(new_authority().pem).decode()

        for authority_data in (other, ""):
            detail = await self.failure(idp.url, idp_certificate_authority_data=authority_data)
            assert "CERTIFICATE_VERIFY_FAILED" in detail
        assert idp.forms == []

    async def test_its_ca_may_be_in_a_file(self, idp: Idp) -> None:
        (self.folder / "idp-ca.crt").write_bytes(self.authority.pem)
        keys = {"idp_certificate_authority": f"{self.folder}/idp-ca.crt", "idp_certificate_authority_data": ""}
        idp.tokens = {"id_token": in_minutes(10, self.clock)}

        assert await (await self.found(idp.url, **keys)).headers()

    async def test_is_reached_through_the_proxy_of_the_environment_which_a_failure_does_not_show(self) -> None:
        asked: list[bytes] = []

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            proxy = f"http://alice:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}"

            detail = await self.failed(await self.found("https://idp.invalid:1/realm", proxy))

        assert [head.partition(b"\r\n")[0] for head in asked] == [b"CONNECT idp.invalid:1 HTTP/1.1"]
        assert detail.endswith("https://idp.invalid:1/realm cannot be reached: ClientHttpProxyError")

    @pytest.mark.parametrize(
        ("status", "tokens", "problem"),
        [
            (
                400,
                {"error": "invalid_grant", "error_description": "hunter2"},
                "(HTTP 400, invalid_grant); check client",
            ),
            (400, {"error": ["hunter2"]}, "gives no token (HTTP 400, no known error); check client-id and client"),
            (503, "hunter2", "gives no token (HTTP 503, no known error)"),
            (307, {}, "gives no token (HTTP 307, no known error)"),
            (200, "hunter2", "gave no id_token; get a refresh-token with the scope openid"),
            (200, ["hunter2"], "gave no id_token; get a refresh-token with the scope openid"),
            (200, {"id_token": "hunter2"}, "gave an id_token that is no JWT"),
            (200, {"id_token": 5}, "gave an id_token that is no JWT"),
        ],
    )
    async def test_that_gives_no_token_is_an_error_that_does_not_repeat_what_it_said(
        self, idp: Idp, status: int, tokens: Any, problem: str
    ) -> None:
        idp.status, idp.tokens = status, tokens
        idp.headers = {"Location": "/token"} if status == 307 else {}

        assert problem in await self.failure(idp.url)
        assert idp.forms[0]["refresh_token"] == REFRESH

    async def test_that_does_not_know_the_client_is_an_error(self, idp: Idp) -> None:
        idp.basic, idp.secret = False, "another"

        assert "(HTTP 401, invalid_client); check client-id and client-secret" in await self.failure(idp.url)

    @pytest.mark.parametrize("discovery", [{}, {"token_endpoint": "http://127.0.0.1:1/token"}, {"token_endpoint": 5}])
    async def test_that_names_no_safe_place_for_tokens_is_an_error(self, idp: Idp, discovery: dict[str, Any]) -> None:
        idp.discovery = discovery

        assert "names no token_endpoint with https://; check idp-issuer-url" in await self.failure(idp.url)

    @pytest.mark.parametrize(
        ("keys", "problem"),
        [
            ({"id_token": "hunter2"}, "the id-token is no JWT"),
            ({"idp_certificate_authority_data": "eHl6"}, "of the auth-provider, the certificate-authority is no list"),
            ({"idp_certificate_authority": "none.crt", "idp_certificate_authority_data": ""}, "cannot read none.crt"),
        ],
    )
    async def test_what_cannot_be_used_is_found_at_once(self, keys: dict[str, str], problem: str) -> None:
        with pytest.raises(BastionError) as caught:
            await self.found("https://idp", **keys)

        assert caught.value.code is Code.INVALID
        assert problem in caught.value.user_message
        assert "hunter2" not in caught.value.user_message


@pytest.mark.parametrize(
    ("user", "header"),
    [({"token": "own"}, "Bearer own"), ({"username": "alice", "password": "word"}, "Basic YWxpY2U6d29yZA==")],
)
async def test_a_token_or_a_password_comes_before_a_provider(tmp_path: Path, user: dict[str, str], header: str) -> None:
    config = {"idp-issuer-url": "https://127.0.0.1:1", "client-id": "c", "refresh-token": REFRESH}
    provider = {"auth-provider": {"name": "oidc", "config": config}}
    path = write_kubeconfig(tmp_path / "config", "https://h:1", user={**user, **provider})

    assert await (await configured(str(path), None, surroundings(tmp_path))).headers() == [("Authorization", header)]


class TestExpiry:
    @given(st.integers(0, 2**63) | st.floats(allow_nan=False), st.text())
    def test_is_read_from_any_jwt(self, expires: float, name: str) -> None:
        assert expiry_of(token(expires, name=name)) == expires

    def test_is_long_past_if_the_token_does_not_say(self) -> None:
        assert expiry_of("e30.e30.x") == 0

    @given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
    def test_of_anything_else_is_no_other_error(self, text: str) -> None:
        try:
            assert isinstance(expiry_of(text), int | float)
        except ValueError as error:
            assert str(error) == "the id-token is no JWT"  # noqa: PT017 - there may be none

    @pytest.mark.parametrize("expires", [None, "5", [5]])
    def test_must_be_a_number(self, expires: Any) -> None:
        with pytest.raises(ValueError, match="no JWT"):
            expiry_of(token(expires))


def test_who_needs_no_provider_imports_none() -> None:
    script = "import sys, bastion.pods.configuration; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )

    assert "bastion.pods.credentials" in loaded
    assert not loaded & {"kubernetes_asyncio", "aiohttp", "bastion.pods.provider"}
