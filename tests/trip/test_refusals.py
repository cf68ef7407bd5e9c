"""Whoever may not, or asks for what is not there, is told what and what to do, and it is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.trips import wait_until

if TYPE_CHECKING:
    from support.trips import Bastion


def refusal(bastion: Bastion, **expected: str) -> dict[str, Any]:
    """The newest event that says so."""

    def look() -> dict[str, Any] | None:
        events = bastion.audit("events", "--limit", "20")
        return next((event for event in events if expected.items() <= event.items()), None)

    return wait_until(look)


@pytest.mark.parametrize(
    ("login", "says", "status"),
    [
        ("nope.default", "there is no pod or workload nope in namespace default", 253),
        ("deploy_nope.shop", "there is no deploy/nope in namespace shop", 253),
        ("multi.default+nope", "multi has no container nope, or your roles do not reach it; it has sidecar, app", 253),
        ("Web.default", "small letters", 253),
        ("web", "NAME.NAMESPACE", 253),
        ("../../x.default", "", 253),
    ],
)
def test_a_login_that_leads_nowhere_is_explained(bastion: Bastion, login: str, says: str, status: int) -> None:
    done = bastion.ssh("-l", login, "b", "true")

    assert done.returncode == status
    assert done.stdout == b""
    assert done.stderr.startswith(b"bastion: ")
    assert done.stderr.count(b"\n") == 1
    assert says in done.stderr.decode()
    assert refusal(bastion, type="session.refused", person="alice", login=login)["outcome"] == "denied"


def test_a_contractor_is_refused_what_no_role_allows_and_learns_nothing_of_the_place(bastion: Bastion) -> None:
    there = bastion.ssh("web.default@b", "true", person="carl")
    absent = bastion.ssh("nope.default@b", "true", person="carl")

    assert there.returncode == absent.returncode == 254
    assert there.stdout == b""
    assert there.stderr == absent.stderr
    assert there.stderr.startswith(b"bastion: denied: ")
    event = refusal(bastion, type="session.refused", person="carl", login="web.default")
    assert (event["outcome"], event["action"], event["namespace"], event["pod"]) == ("denied", "exec", "default", "web")
    assert event["rule"]


def test_deny_wins_and_the_rule_is_named(bastion: Bastion) -> None:
    assert bastion.ssh("db.prod@b", "true").returncode == 0
    assert bastion.ssh("-T", "db.prod@b", stdin=b"exit\n").returncode == 254
    assert refusal(bastion, type="session.refused", login="db.prod")["rule"] == "engineer/deny[0]"


def test_the_clusters_own_rbac_has_the_last_word(bastion: Bastion) -> None:
    done = bastion.ssh("api.shop@b", "true", person="carl")

    assert done.returncode == 254
    assert b"RBAC" in done.stderr
    event = refusal(bastion, type="session.refused", person="carl", login="api.shop")
    assert event["rule"] == "cluster_denied"
    assert event["detail"]["detail"].startswith("bastion:carl: ")


def test_a_key_that_nobody_knows_is_refused_and_written_down(bastion: Bastion) -> None:
    done = bastion.ssh("web.default@b", "true", person="stranger")

    assert done.returncode == 255
    assert b"Permission denied (publickey)" in done.stderr
    event = refusal(bastion, type="login.refused", login="web.default")
    assert event["credential"].startswith("SHA256:")
    assert event["source"].startswith("127.0.")


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        (("-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", "web.default@b"), "forward"),
        (("-W", "127.0.0.1:1", "web.default@b"), "forward"),
        (("-s", "web.default@b", "sftp"), "sftp.read"),
        (("-s", "web.default@b", "other"), "subsystem:other"),
    ],
)
def test_what_is_not_offered_is_refused_and_written_down(
    bastion: Bastion, arguments: tuple[str, ...], action: str
) -> None:
    done = bastion.ssh(*arguments)

    assert done.returncode != 0
    assert refusal(bastion, type="session.refused", action=action)["outcome"] == "denied"


def test_agent_and_x11_forwarding_are_off(bastion: Bastion) -> None:
    done = bastion.ssh("-A", "-X", "web.default@b", "echo ${SSH_AUTH_SOCK-none} ${DISPLAY-none}")

    assert done.stdout == b"none none\n"


def test_a_refused_forward_says_so_and_not_that_the_network_failed(bastion: Bastion) -> None:
    done = bastion.ssh("-o", "LogLevel=INFO", "-W", "localhost:22", "web.default@b")

    assert b"forwarding to localhost:22 is not offered" in done.stderr


def test_nobody_gets_the_rights_of_the_reaper_by_being_called_so(bastion: Bastion) -> None:
    assert bastion.command("people", "add", "reaper", "--group", "engineers").returncode == 2
