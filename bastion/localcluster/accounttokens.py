"""Tokens of ServiceAccounts: issued on request, and looked up when one comes; used by authentication and reviews.

They are JSON Web Tokens like those of a real cluster, signed with a key that lives as long as the process does.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bastion.localcluster import rbac, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bastion.localcluster.rbac import User
    from bastion.localcluster.store import Object

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""The issuer, and the audience of tokens that ask for none (kubeadm's choice)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One token: whose, for whom, until when (seconds since 1970)."""

    user: User
    uid: str
    audiences: tuple[str, ...]
    expires: int


class AccountTokens:
    """All tokens that were issued. new_id: for their `jti`."""

    def __init__(self, *, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._now = now
        self._new_id = new_id
        self._issued: dict[str, Issued] = {}

    def issue(self, account: Object, audiences: tuple[str, ...], seconds: int) -> tuple[str, int]:
        """A new token of a ServiceAccount, and when it ends (seconds since 1970)."""
        namespace, name, uid = (account["metadata"][key] for key in ("namespace", "name", "uid"))
        issued_at = int(self._now().timestamp())
        expires, token_id = issued_at + seconds, self._new_id()
        user = rbac.service_account(namespace, name)
        claims: dict[str, Any] = {
            "aud": list(audiences or (ISSUER,)),
            "exp": expires,
            "iat": issued_at,
            "iss": ISSUER,
            "jti": token_id,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
            "nbf": issued_at,
            "sub": user.name,
        }
        token = self._signed(claims)
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={token_id}",)}
        self._issued[token] = Issued(
            user=rbac.User(name=user.name, groups=user.groups, extra=extra),
            uid=uid,
            audiences=audiences or (ISSUER,),
            expires=expires,
        )
        return token, expires

    def find(self, token: str, audiences: tuple[str, ...] = (ISSUER,)) -> Issued | None:
        """Whose a token is, if it holds and is for one of the audiences."""
        found = self._issued.get(token)
        if found is None or found.expires <= self._now().timestamp():
            return None
        return found if set(audiences) & set(found.audiences) else None

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def _signed(self, claims: dict[str, Any]) -> str:
        head = {"alg": "RS256", "kid": "local"}
        signed = b".".join(_base64url(statuses.to_json(part)) for part in (head, claims))
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return b".".join((signed, _base64url(signature))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
