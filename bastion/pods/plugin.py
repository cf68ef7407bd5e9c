"""Exec plugins: programs that say who we are (client.authentication.k8s.io v1 and v1beta1); used by pods.credentials.

Nobody can answer questions at a server's standard input, so a plugin runs as `interactiveMode: Never` says. What it
gives is kept until it expires, or until the API server no longer takes it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.pods.kubeconfig import Exec
    from bastion.pods.tls import Pair
    from bastion.ports import Clock

TIMEOUT_S = 30.0
"""How long a plugin may take. A session waits for it."""

_SAID = 500  # characters of what a plugin says on stderr that operators are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a plugin gave: a token, a pair, or both. expires: None is not before the server refuses it."""

    token: str = field(default="", repr=False)
    pair: Pair | None = field(default=None, repr=False)
    expires: datetime | None = None


class Plugin:
    """One exec plugin and what it said last."""

    def __init__(self, plugin: Exec, cluster: Mapping[str, Any], *, environ: Mapping[str, str], clock: Clock) -> None:
        """`cluster` is what a plugin is told of the cluster, if it asks (ExecCredential's spec.cluster)."""
        spec = {"interactive": False, **({"cluster": cluster} if plugin.provide_cluster_info else {})}
        info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
        self._plugin = plugin
        self._environ = {**environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": json.dumps(info)}
        self._clock = clock
        self._lock = asyncio.Lock()
        self._credential: Credential | None = None

    async def credential(self) -> Credential:
        """What is valid now; the plugin runs once, however many ask.

        Raises:
            BastionError: CLUSTER_UNAVAILABLE; what the plugin said is in `detail`.
        """
        async with self._lock:
            if self._credential is None or self._has_expired(self._credential):
                self._credential = self._read(await self._run())
            return self._credential

    @property
    def last(self) -> Credential:
        """What `credential` gave last."""
        return self._credential or Credential()

    def forget(self) -> None:
        """Ask the plugin again, because the server did not take what it gave."""
        self._credential = None

    def _has_expired(self, credential: Credential) -> bool:
        return credential.expires is not None and self._clock.now() >= credential.expires

    async def _run(self) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                self._plugin.command,
                *self._plugin.args,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(TIMEOUT_S):
                said, complaint = await process.communicate()
        except TimeoutError as error:
            raise self._failed(f"did not end within {TIMEOUT_S:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = complaint.decode(errors="replace").strip()[-_SAID:]
            raise self._failed(f"ended with status {process.returncode}: {words}")
        return said

    def _read(self, said: bytes) -> Credential:
        """The ExecCredential that a plugin prints. Errors do not repeat it: it holds secrets."""
        try:
            answer = json.loads(said)
            version, kind, status = answer["apiVersion"], answer["kind"], answer["status"]
            certificate, key = (status.get(f"client{part}Data") or "" for part in ("Certificate", "Key"))
            expiry = status.get("expirationTimestamp")
            credential = Credential(
                token=_header_safe(status.get("token") or ""),
                pair=(certificate.encode(), key.encode()) if certificate and key else None,
                expires=datetime.fromisoformat(expiry) if expiry else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._failed("printed something that is no ExecCredential with a status") from error
        if (version, kind) != (self._plugin.api_version, "ExecCredential"):
            raise self._failed(f"did not print an ExecCredential of {self._plugin.api_version}")
        if bool(certificate) != bool(key):
            raise self._failed("gave a client certificate without a key, or a key without a certificate")
        if not credential.token and credential.pair is None:
            raise self._failed("gave neither a token nor a client certificate")
        if credential.expires is not None and credential.expires.tzinfo is None:
            raise self._failed("gave an expirationTimestamp without a time zone")
        return credential

    def _failed(self, problem: str) -> BastionError:
        return BastionError(
            Code.CLUSTER_UNAVAILABLE,
            "the bastion has no valid credentials for the cluster now; tell its operators",
            detail=f"{self._plugin.where}: the exec plugin {self._plugin.command} {problem}",
        )


def _header_safe(token: str) -> str:
    """The token; a ValueError for one that no header can carry."""
    if not token.isascii() or not (token or "x").isprintable():
        raise ValueError("control characters")
    return token
