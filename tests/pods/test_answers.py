"""What is made of answers that are no good: whose rule it was that refused, and in whose words that is said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion import printable
from bastion.errors import BastionError, Code
from bastion.model import KubeIdentity
from bastion.pods.answers import MOST_WORDS, Refused, is_by_admission, is_good, not_admitted, raise_for, status_message

ALICE = KubeIdentity(user="bastion:alice")

ADMISSION = [
    'pods "web" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
    'admission webhook "images.example.com" denied the request: only images of ours',
    'admission webhook "images.example.com" denied the request without explanation',
    "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'no-exec' with binding 'all' denied request: not at night",
]
RBAC = [
    'pods "web" is forbidden: User "bastion:alice" cannot get resource "pods/exec" in API group "" in the namespace',
    "",
]


@pytest.mark.parametrize("message", ADMISSION)
@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
@pytest.mark.parametrize("identity", [ALICE, None], ids=["person", "bastion"])
def test_a_refusal_by_admission_is_one_whatever_its_status(
    message: str, status: int, identity: KubeIdentity | None
) -> None:
    with pytest.raises(BastionError) as refused:
        raise_for(Refused(status, json.dumps({"message": message}).encode()), identity)

    assert refused.value.code is Code.CLUSTER_DENIED
    assert refused.value.user_message == f"the cluster's admission rules do not allow that: {message}"


@pytest.mark.parametrize("message", RBAC)
def test_any_other_403_is_a_refusal_by_rbac(message: str) -> None:
    assert not is_by_admission(message)
    with pytest.raises(BastionError, match="the cluster's own RBAC does not let you do that"):
        raise_for(Refused(403, message.encode()), ALICE)
    with pytest.raises(BastionError, match="the bastion itself may not look that up"):
        raise_for(Refused(403, message.encode()), None)


def test_an_error_of_a_webhook_is_no_refusal() -> None:
    message = 'Internal error occurred: failed calling webhook "w": the server denied the request'
    with pytest.raises(BastionError) as caught:
        raise_for(Refused(500, message.encode()), ALICE)

    assert caught.value.code is Code.CLUSTER_UNAVAILABLE


@given(message=st.text(max_size=2000))
def test_somebody_elses_words_are_one_line_that_acts_on_no_terminal_and_has_an_end(message: str) -> None:
    error = not_admitted(message, "that")

    assert printable.line(error.user_message) == error.user_message
    assert len(error.user_message) < MOST_WORDS + 100
    assert error.detail == message


@given(status=st.integers(100, 599))
def test_only_what_was_asked_for_is_good(status: int) -> None:
    assert is_good(status) == (status // 100 == 2)


@given(body=st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_body_has_a_message(body: str) -> None:
    assert isinstance(status_message(body), str)


@pytest.mark.parametrize(
    ("asked", "s"), [("5", 5.0), ("999", 999.0), ("1000", None), ("", None), ("-1", None), ("Mon", None)]
)
def test_a_wish_to_be_left_alone_is_seconds_and_not_for_ever(asked: str, s: float | None) -> None:
    assert Refused(429, b"", asked).retry_after_s == s
