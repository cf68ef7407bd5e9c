"""The grammar of a login, as a table and as properties."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.login import parse
from bastion.model import ConsoleLogin, TargetLogin

if TYPE_CHECKING:
    from bastion.model import Login


def target(name: str, namespace: str, *, kind: str = "", container: str = "") -> TargetLogin:
    return TargetLogin(kind=kind, name=name, namespace=namespace, container=container)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("web.shop", target("web", "shop")),
        ("api-7d4b9c-x2x8p.shop", target("api-7d4b9c-x2x8p", "shop")),
        ("a.b.c", target("a.b", "c")),  # a pod's name may hold dots: the namespace follows the last
        ("0.1", target("0", "1")),
        ("web.shop+sidecar", target("web", "shop", container="sidecar")),
        ("deploy_api.shop", target("api", "shop", kind="deploy")),
        ("deploy/api.shop", target("api", "shop", kind="deploy")),
        ("deployment/api.shop", target("api", "shop", kind="deploy")),
        ("sts_db.prod", target("db", "prod", kind="sts")),
        ("statefulset_db.prod", target("db", "prod", kind="sts")),
        ("sts_db-0.prod", target("db-0", "prod", kind="sts")),  # whether that is a number, the cluster has to say
        ("ds_node-agent.kube-system", target("node-agent", "kube-system", kind="ds")),
        ("daemonset/node-agent.kube-system", target("node-agent", "kube-system", kind="ds")),
        ("job_nightly.shop+main", target("nightly", "shop", kind="job", container="main")),
        ("a" * 253 + "." + "b" * 63 + "+" + "c" * 63, target("a" * 253, "b" * 63, container="c" * 63)),
        ("console", ConsoleLogin(name="console")),
        ("invite", ConsoleLogin(name="invite")),
    ],
)
def test_a_login_says_where_to_go(text: str, means: object) -> None:
    assert parse(text) == means


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "it has no namespace"),
        ("root", "write ssh NAME.NAMESPACE@BASTION, or set User"),
        ("Console", "it has no namespace"),
        ("console+x", "it has no namespace"),
        ("web+side.shop", "it has no namespace"),
        (".shop", "the name is empty"),
        ("web.", "the namespace is empty"),
        (".", "the name is empty"),
        ("..", "'.' cannot be a name"),
        ("...", "'..' cannot be a name"),
        ("../x.shop", "'..' is not a kind"),
        ("web..shop", "'web.' cannot be a name"),
        (".web.shop", "'.web' cannot be a name"),
        ("web.shop.", "the namespace is empty"),
        ("Web.shop", "'Web' cannot be a name"),
        ("web.Shop", "'Shop' cannot be a namespace"),
        ("-web.shop", "cannot be a name"),
        ("web-.shop", "cannot be a name"),
        ("-oProxyCommand=x.shop", "cannot be a name"),
        ("we b.shop", "cannot be a name"),
        ("web.sh%2fop", "cannot be a namespace"),
        ("we%62.shop", "cannot be a name"),
        ("we\\b.shop", "cannot be a name"),
        ("web@x.shop", "cannot be a name"),
        ("web:c.shop", "cannot be a name"),
        ("web.shop\n", "cannot be a namespace"),
        ("web.shop\0", "cannot be a namespace"),
        ("\u202eweb.shop", r"'\u202eweb' cannot be a name"),
        ("ｗｅｂ.shop", "cannot be a name"),  # noqa: RUF001 - full width, as a client may send it
        ("web\u2024shop", "it has no namespace"),
        ("٣.shop", "cannot be a name"),  # a digit, but not an ASCII one
        ("a" * 254 + ".shop", "the name is longer than 253 characters"),
        ("web." + "a" * 64, "the namespace is longer than 63 characters"),
        ("a" * 1024, "it has no namespace"),
        ("web.shop+", "the container is empty"),
        ("web.shop++a", "'+a' cannot be a container"),
        ("web.shop+a+b", "'a+b' cannot be a container"),
        ("web.shop+a.b", "'a.b' cannot be a container"),
        ("web.shop+" + "a" * 64, "the container is longer than 63 characters"),
        ("pod_web.shop", "'pod' is not a kind of workload"),
        ("_web.shop", "'' is not a kind of workload"),
        ("deploy_.shop", "the name is empty"),
        ("deploy_a_b.shop", "'a_b' cannot be a name"),
        ("deploy/a/b.shop", "'a/b' cannot be a name"),
        ("DEPLOY_api.shop", "'DEPLOY' is not a kind of workload"),
    ],
)
def test_what_is_not_a_login_is_refused_with_the_reason_and_the_shape(text: str, because: str) -> None:
    with pytest.raises(BastionError) as refused:
        parse(text)
    assert refused.value.code is Code.LOGIN_INVALID
    assert because in refused.value.user_message
    assert "NAME.NAMESPACE" in refused.value.user_message


NEAR_LOGINS = st.text(st.sampled_from("ab0-._/+ \n%\\:@A\u2024ａ"), max_size=20) | st.from_regex(  # noqa: RUF001 - a look-alike
    r"(deploy_|sts/|pod_)?[a-c.-]{1,6}\.[a-c-]{1,4}(\+[a-c-]{1,3})?", fullmatch=True
)
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def attempt(text: str) -> Login | BastionError:
    try:
        return parse(text)
    except BastionError as refused:
        return refused


@given(NEAR_LOGINS | st.text())
def test_parse_is_total_and_what_it_gives_is_always_a_kubernetes_name(text: str) -> None:
    match attempt(text):
        case BastionError(code=code, user_message=message):
            assert code is Code.LOGIN_INVALID
            assert message.isascii()
            assert message.isprintable()
        case ConsoleLogin(name=name):
            assert name in {"console", "invite"}
        case TargetLogin() as login:
            assert SUBDOMAIN.fullmatch(login.name)
            assert len(login.name) <= 253
            assert LABEL.fullmatch(login.namespace)
            assert not login.container or LABEL.fullmatch(login.container)
            assert parse(str(login)) == login


NAMES = st.from_regex(LABEL, fullmatch=True)


@given(
    st.sampled_from(["", "deploy", "sts", "ds", "job"]),
    st.lists(NAMES, min_size=1, max_size=3),
    NAMES,
    NAMES | st.just(""),
)
def test_every_target_is_read_back_as_itself(kind: str, labels: list[str], namespace: str, container: str) -> None:
    login = target(".".join(labels), namespace, kind=kind, container=container)
    assert parse(str(login)) == login
