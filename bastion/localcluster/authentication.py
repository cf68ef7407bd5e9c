"""Who asks: bearer tokens and impersonation; used by api before anything else.

Refusals are those of Kubernetes: a token nobody has is a 401, none at all is system:anonymous, and whoever impersonates
needs the verb `impersonate` on each user, group and extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from bastion.localcluster import rbac, statuses
from bastion.localcluster.rbac import Attributes, User

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from bastion.localcluster.accounttokens import AccountTokens
    from bastion.localcluster.http import Request
    from bastion.localcluster.store import Store

AUTHENTICATED = "system:authenticated"
ANONYMOUS = User(name="system:anonymous", groups=("system:unauthenticated",))

_EXTRA = "impersonate-extra-"


def authenticate(
    request: Request, tokens: Mapping[str, User], account_tokens: AccountTokens, store: Store, revoked: Collection[str]
) -> User:
    """The user a request acts as. Raises ApiError: 401 for an unknown token, 403 for a refused impersonation.

    revoked: users whose tokens are known no more.
    """
    caller = _caller(request, tokens, account_tokens)
    if caller.name in revoked:
        raise statuses.unauthorized()
    asked = _impersonated(request)
    if asked is None:
        return caller
    for attributes in _needed(asked):
        rbac.require(store, caller, attributes)
    return _completed(asked)


def _caller(request: Request, tokens: Mapping[str, User], account_tokens: AccountTokens) -> User:
    scheme, _, token = request.header("authorization").partition(" ")
    if scheme.lower() != "bearer":
        return ANONYMOUS
    issued = account_tokens.find(token.strip())
    user = tokens.get(token.strip()) or (issued.user if issued else None)
    if user is None:
        raise statuses.unauthorized()
    return user


def _impersonated(request: Request) -> User | None:
    """Who the request asks to be, exactly as its headers say."""
    name = request.header("impersonate-user")
    groups = request.header_values("impersonate-group")
    extra: dict[str, tuple[str, ...]] = {}
    for key, value in request.headers:
        if key.startswith(_EXTRA):
            extra_key = unquote(key.removeprefix(_EXTRA))
            extra[extra_key] = (*extra.get(extra_key, ()), value)
    if name:
        return User(name=name, groups=groups, extra=extra)
    if groups or extra:
        raise statuses.internal_error(f"requested {list(groups) or list(extra)} without impersonating a user")
    return None


def _needed(asked: User) -> Iterator[Attributes]:
    account = rbac.split_service_account(asked.name)
    if account is not None:
        namespace, name = account
        yield Attributes(verb="impersonate", resource="serviceaccounts", namespace=namespace, name=name)
    else:
        yield Attributes(verb="impersonate", resource="users", name=asked.name)
    for group in asked.groups:
        yield Attributes(verb="impersonate", resource="groups", name=group)
    for key, values in asked.extra.items():
        for value in values:
            group = "authentication.k8s.io"
            yield Attributes(verb="impersonate", group=group, resource="userextras", subresource=key, name=value)


def _completed(asked: User) -> User:
    """With the groups that every such user has."""
    if asked.name == ANONYMOUS.name:
        return User(name=asked.name, groups=asked.groups or ANONYMOUS.groups, extra=asked.extra)
    account = rbac.split_service_account(asked.name)
    groups = asked.groups
    if account is not None and not groups:
        groups = rbac.service_account(*account).groups
    if AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(name=asked.name, groups=groups, extra=asked.extra)
