"""Tokens of a kubeconfig's oidc auth-provider, renewed at the identity provider; used by pods.credentials.

The rules are those of client-go's plugin of that name: the id-token serves until ten seconds before it expires, then
the refresh-token gets another (OpenID Connect Core, section 12). The kubeconfig is not written to: a new refresh-token
is kept in memory only. An identity provider that takes each of them once is one for an exec plugin.

Stricter than client-go: all that is asked goes over HTTPS, and redirects are not followed, since the requests carry
secrets. The OIDC client of kubernetes_asyncio will not do: it sends those secrets without checking the server's
certificate if no CA is given, and fails if one is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import aiohttp

from bastion.errors import BastionError, Code
from bastion.pods import tls
from bastion.pods.kubeconfig import is_https
from bastion.pods.proxies import proxy_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from bastion.pods.kubeconfig import AuthProvider
    from bastion.ports import Clock

TIMEOUT_S = 30.0
"""How long a renewal may take. A session waits for it."""

EARLY_S = 10.0
"""How long before its end a token counts as expired, as for client-go: clocks differ."""

_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_ERRORS = (
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
)
"""What a token endpoint may say is wrong (RFC 6749, section 5.2). Other words of it are not repeated."""


class Provided:
    """The id-token of one user of a kubeconfig; fills `credentials.Credentials`."""

    pair = None

    def __init__(
        self, provider: AuthProvider, *, environ: Mapping[str, str], clock: Clock, log: FilteringBoundLogger
    ) -> None:
        """Asks nobody yet.

        environ: says which proxy leads to the identity provider.

        Raises:
            OSError: the CA's file cannot be read.
            ValueError: it is none, or the id-token is no JWT.
        """
        self._provider = provider
        self._environ = environ
        self._clock = clock
        try:
            make = partial(tls.context_of, verify=True, host="", name="")
            self._trust = tls.Tls(lambda: (tls.bytes_of(provider.authority), (b"", b"")), make, clock=clock, log=log)
        except ValueError as error:
            raise ValueError(f"of the auth-provider, {error}") from error
        self._token = provider.id_token
        self._expires = expiry_of(provider.id_token) if provider.id_token else 0.0
        self._refresh_token = provider.refresh_token
        self._renewal: asyncio.Task[None] | None = None

    async def header(self) -> str:
        """The value of Authorization. Raises BastionError(CLUSTER_UNAVAILABLE); what to do is in `detail`.

        One renewal serves all who wait, and goes on without them: what it gets may be had only once.
        """
        is_valid = self._clock.now().timestamp() + EARLY_S < self._expires  # never so for JSON's NaN
        if not is_valid:
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.create_task(self._renew())
            await asyncio.shield(self._renewal)
        return f"Bearer {self._token}"

    def forget(self) -> None:
        """Get another token, if there is a way to: API servers refuse good ones too in their first seconds."""
        if self._refresh_token:
            self._expires = 0.0

    async def _renew(self) -> None:
        if not self._refresh_token:
            raise self._failed("its id-token has expired, and it has no refresh-token; put new ones there")
        connector = aiohttp.TCPConnector(ssl=self._trust.context(None))
        try:
            async with asyncio.timeout(TIMEOUT_S), aiohttp.ClientSession(connector=connector) as http:
                granted = await self._granted(http, await self._endpoint(http))
        except TimeoutError as error:
            raise self._failed(f"{self._provider.issuer} did not answer within {TIMEOUT_S:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            # Words of other errors may hold a proxy's URL, with a password.
            words = str(error) if isinstance(error, OSError) else type(error).__name__
            raise self._failed(f"{self._provider.issuer} cannot be reached: {words}") from error
        self._keep(granted)

    def _keep(self, granted: Mapping[str, Any]) -> None:
        """Take over the tokens of an answer. It need not have a new refresh_token (RFC 6749, section 6)."""
        token, refresh_token = granted.get("id_token"), granted.get("refresh_token")
        if refresh_token and isinstance(refresh_token, str):
            self._refresh_token = refresh_token
        if not token:
            raise self._failed("the identity provider gave no id_token; get a refresh-token with the scope openid")
        try:
            self._expires = expiry_of(token)
        except ValueError as error:
            raise self._failed("the identity provider gave an id_token that is no JWT") from error
        self._token = token

    async def _endpoint(self, http: aiohttp.ClientSession) -> str:
        """Where tokens are to be had (OpenID Connect Discovery, section 4)."""
        url = f"{self._provider.issuer.removesuffix('/')}/.well-known/openid-configuration"
        status, found = await self._asked(http, url)
        if status != HTTPStatus.OK:
            raise self._failed(f"{url} answered with HTTP {status}; check idp-issuer-url")
        endpoint = found.get("token_endpoint")
        if not isinstance(endpoint, str) or not is_https(endpoint):
            raise self._failed(f"{url} names no token_endpoint with https://; check idp-issuer-url")
        return endpoint

    async def _granted(self, http: aiohttp.ClientSession, endpoint: str) -> dict[str, Any]:
        """What the refresh-token is worth. Some take a client's name and secret in the form only (section 2.3.1)."""
        name, secret = self._provider.client_id, self._provider.client_secret
        grant = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
        login = base64.b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()
        status, answer = await self._asked(http, endpoint, grant, login)
        if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED} and answer.get("error") != "invalid_grant":
            form = {**grant, "client_id": name, "client_secret": secret}
            status, answer = await self._asked(http, endpoint, {key: value for key, value in form.items() if value})
        if status != HTTPStatus.OK:
            told = answer["error"] if answer.get("error") in _ERRORS else "no known error"
            raise self._failed(
                f"the identity provider gives no token (HTTP {status}, {told}); check client-id and client-secret, "
                "and put a new refresh-token there"
            )
        return answer

    async def _asked(
        self, http: aiohttp.ClientSession, url: str, form: Mapping[str, str] | None = None, login: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """An answer's status and its JSON object, an empty one if it is something else. With a form it is a POST."""
        async with http.request(
            "POST" if form else "GET",
            url,
            data=form,
            headers={"Accept": "application/json", **({"Authorization": f"Basic {login}"} if login else {})},
            proxy=proxy_for(url, self._environ) or None,
            allow_redirects=False,
        ) as response:
            said = await response.read()
        try:
            answer = json.loads(said)
        except ValueError:
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}

    def _failed(self, problem: str) -> BastionError:
        return BastionError(
            Code.CLUSTER_UNAVAILABLE,
            "the bastion has no valid credentials for the cluster now; tell its operators",
            detail=f"{self._provider.where}: the auth-provider oidc: {problem}",
        )


def expiry_of(token: object) -> float:
    """When an id-token expires, in seconds since 1970; 0 if it does not say. Its signature is for the API server.

    Raises:
        ValueError: it is no JWT (RFC 7519). The error does not repeat it.
    """
    if not isinstance(token, str) or not _JWT.fullmatch(token):
        raise ValueError("the id-token is no JWT")
    payload = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        claims = None
    expires = claims.get("exp", 0) if isinstance(claims, dict) else None
    if not isinstance(expires, int | float):
        raise ValueError("the id-token is no JWT")  # noqa: TRY004 - wrong contents are no wrong type
    return expires
