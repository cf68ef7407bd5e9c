"""Questions about who somebody is and what they may do; used by api, shown by discovery.

Shapes and refusals as recorded (tests/data/kube-wire, sar-* and tokenreview-*).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bastion.localcluster import accessreviews, rbac, statuses
from bastion.localcluster.accounttokens import ISSUER
from bastion.localcluster.bodies import read_question
from bastion.localcluster.rbac import Attributes

if TYPE_CHECKING:
    from bastion.localcluster.accounttokens import AccountTokens
    from bastion.localcluster.http import Request, Response
    from bastion.localcluster.rbac import User
    from bastion.localcluster.store import Object, Store

AUTHENTICATION = "authentication.k8s.io"
AUTHORIZATION = "authorization.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A kind of question: it is posted, answered and never kept."""

    group: str
    plural: str
    name: str


ACCESS = Review(group=AUTHORIZATION, plural="subjectaccessreviews", name="SubjectAccessReview")
SELF_ACCESS = Review(group=AUTHORIZATION, plural="selfsubjectaccessreviews", name="SelfSubjectAccessReview")
SELF_RULES = Review(group=AUTHORIZATION, plural="selfsubjectrulesreviews", name="SelfSubjectRulesReview")
SELF = Review(group=AUTHENTICATION, plural="selfsubjectreviews", name="SelfSubjectReview")
TOKEN = Review(group=AUTHENTICATION, plural="tokenreviews", name="TokenReview")
REVIEWS = (ACCESS, SELF_ACCESS, SELF_RULES, SELF, TOKEN)


def find(path: tuple[str, ...]) -> Review | None:
    """The review that a path names, or None."""
    return next((one for one in REVIEWS if path == ("apis", one.group, "v1", one.plural)), None)


def answer(review: Review, request: Request, user: User, store: Store, tokens: AccountTokens) -> Response:
    """The review with its status. Raises ApiError: 403, 405, 400 if it is none, 422 if it asks for nothing."""
    if request.method != "POST":
        raise statuses.method_not_allowed()
    rbac.require(store, user, Attributes(verb="create", group=review.group, resource=review.plural))
    spec = _spec(review, request)
    match review:
        case _ if review is ACCESS:
            parts = accessreviews.subject(store, spec)
        case _ if review is SELF_ACCESS:
            parts = accessreviews.own(store, user, spec)
        case _ if review is SELF_RULES:
            parts = accessreviews.rules(store, user, spec)
        case _ if review is SELF:
            parts = {"status": {"userInfo": _user_info(user)}}
        case _:
            parts = _token_review(tokens, spec)
    head = {"kind": review.name, "apiVersion": f"{review.group}/v1", "metadata": {}}
    return statuses.answer({**head, **parts}, HTTPStatus.CREATED)


def _spec(review: Review, request: Request) -> dict[str, Any]:
    spec = read_question(request, review.name)
    if not accessreviews.well_typed(spec):
        raise statuses.bad_request(f'{review.name} in version "v1" cannot be handled as a {review.name}')
    return spec


def _user_info(user: User, uid: str = "") -> Object:
    info: Object = {"username": user.name}
    if uid:
        info["uid"] = uid
    info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _token_review(tokens: AccountTokens, spec: dict[str, Any]) -> Object:
    audiences = tuple(spec.get("audiences") or (ISSUER,))
    found = tokens.find(spec.get("token", ""), audiences)
    if found is None:
        return {"spec": spec, "status": {"user": {}, "error": "invalid bearer token"}}
    meant = [one for one in audiences if one in found.audiences]
    status = {"authenticated": True, "user": _user_info(found.user, found.uid), "audiences": meant}
    return {"spec": spec, "status": status}
