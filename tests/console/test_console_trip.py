"""The console through the ssh client people have, on the production program: `ssh bastion …`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal
from support.trips import started, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion, Starter

WIDE = WindowSize(cols=100, rows=30)
API = "api-788b6f4684-4fttr"


@pytest.fixture(scope="module")
def console(start: Starter) -> Iterator[Bastion]:
    """One for all of these tests: they leave nothing behind."""
    with start() as bastion:
        yield bastion


def objects(bastion: Bastion, *arguments: str, person: str = "alice") -> list[dict[str, Any]]:
    """What a command says with --json."""
    done = bastion.ssh("b", *arguments, "--json", person=person)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def terminal(bastion: Bastion, *arguments: str, size: WindowSize = WIDE, term: str = "xterm") -> Terminal:
    """Ssh on a terminal."""
    argv = [str(argument) for argument in bastion.ssh_argv("-tt", "b", *arguments)]
    return Terminal(argv, size, {**bastion.env, "TERM": term})


def test_pods_are_listed(console: Bastion) -> None:
    done = console.ssh("b", "pods")

    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert rows[0][:4] == ["NAMESPACE", "NAME", "READY", "STATUS"]
    names = {(row[0], row[1]) for row in rows[1:]}
    assert {("default", "web"), ("default", "multi"), ("prod", "db"), ("shop", API)} <= names
    assert {namespace for namespace, _ in names} == {"default", "prod", "shop"}
    event = next(one for one in console.audit("events", "--limit", "20") if one["type"] == "console.command")
    assert (event["person"], event["login"], event["rule"]) == ("alice", "console", "engineer/allow[0]")
    assert (event["detail"]["command"], len(event["detail"]["policy_digest"])) == ("pods", 64)


def test_pods_are_selected_and_have_logins_that_work(console: Bastion) -> None:
    found = objects(console, "pods", "-n", "default", "-l", "'app in (multi)'")

    assert [one["pod"] for one in found] == ["multi"]
    logins = [one["login"] for one in found[0]["containers"]]
    assert logins == ["multi.default+app", "multi.default+sidecar"]
    for login in logins:
        assert console.ssh(f"{login}@b", "true").returncode == 0


def test_a_description_is_a_session(console: Bastion) -> None:
    done = console.ssh("b", "describe", "multi.default")

    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert text.startswith("Name:             multi\n")
    assert "  sidecar:\n" in text
    assert "Events:\n" in text
    session = console.last_session()
    assert (session["action"], session["pod"], session["namespace"]) == ("describe", "multi", "default")
    assert (session["status"], session["outcome"]) == (0, "exited")
    assert objects(console, "describe", "multi.default")[0]["status"] == "Running"


def test_events_and_usage_are_told(console: Bastion) -> None:
    reasons = wait_until(lambda: {one["reason"] for one in objects(console, "events", "web.default")})
    assert "Started" in reasons
    used = wait_until(lambda: objects(console, "top", "multi.default"))
    assert {one["container"] for one in used} == {"app", "sidecar"}
    table = console.ssh("b", "top", "multi.default").stdout.decode().splitlines()
    assert table[0].split() == ["POD", "CONTAINER", "CPU", "MEMORY"]


def test_a_log_is_printed_and_recorded(console: Bastion) -> None:
    done = console.ssh("b", "logs", "--tail", "1", "deploy_api.shop")

    assert done.returncode == 0, done.stderr
    assert done.stdout in {b"listening\n", b"still here\n"}
    session = console.last_session()
    assert (session["action"], session["login"]) == ("logs", "deploy_api.shop")
    shown = console.command("audit", "export", session["id"], "--format", "text")
    assert done.stdout.strip() in shown.stdout


@pytest.mark.parametrize("status", [429, 503])
def test_a_log_is_waited_for_while_the_api_server_is_busy(console: Bastion, status: int) -> None:
    console.control({"do": "fail", "times": 1, "status": status, "retry_after": 1, "match": "/log"})
    done = console.ssh("b", "logs", "--tail", "1", f"{API}.shop")

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout in {b"listening\n", b"still here\n"}


def test_on_a_terminal_it_is_said_that_the_api_server_is_waited_for(console: Bastion) -> None:
    console.control({"do": "fail", "times": 1, "status": 503, "retry_after": 1, "match": "/log"})
    with terminal(console, "logs", "--tail", "1", f"{API}.shop") as at:
        at.expect("waiting for the API server, retry 1 in 1 s")
        at.expect("listening|still here")
        assert at.wait() == 0


def test_a_log_that_is_followed_ends_with_the_person(console: Bastion) -> None:
    with terminal(console, "logs", "-f", f"{API}.shop") as at:
        at.expect("listening\r\n")
        at.type("\x03")
        assert at.wait() == 130
    with started(console.ssh_argv("b", "logs", "-f", f"{API}.shop")) as ssh:
        assert ssh.stdout is not None
        assert ssh.stdout.readline() == b"listening\n"
        ssh.terminate()
    wait_until(lambda: console.last_session()["outcome"] == "hung_up")


def test_a_followed_log_says_why_it_ended(start: Starter) -> None:
    """On a cluster of its own: it does not give the pod back."""
    with start() as own, started(own.ssh_argv("b", "logs", "-f", f"{API}.shop")) as ssh:
        assert ssh.stdout is not None
        assert ssh.stderr is not None
        assert ssh.stdout.readline() == b"listening\n"
        own.control({"do": "evict", "pod": f"shop/{API}"})
        said = f"pod {API} was evicted: The node was low on resource: memory."

        assert ssh.wait(60) == 255
        assert ssh.stderr.read() == f"bastion: {said}\n".encode()
        session = own.last_session()
        assert (session["status"], session["outcome"], session["end_reason"]) == (255, "broken", said)


def test_what_is_refused_is_refused_in_the_same_words_whatever_is_there(console: Bastion) -> None:
    there = console.ssh("b", "logs", "web.default", person="carl")
    absent = console.ssh("b", "logs", "nope.default", person="carl")

    assert there.returncode == absent.returncode == 254
    assert there.stderr == absent.stderr
    assert there.stdout == b""
    assert there.stderr.startswith(b"bastion: denied: ")
    assert console.ssh("b", "logs", "--tail", "1", f"{API}.shop", person="carl").returncode == 0
    assert console.ssh("b", "pods", person="carl").returncode == 254


def test_whoami_says_who_one_is(console: Bastion) -> None:
    [about] = objects(console, "whoami")

    assert (about["person"], about["groups"], about["kubernetes_user"]) == ("alice", ["engineers"], "bastion:alice")
    assert about["credential"].startswith("SHA256:")
    assert [role["role"] for role in about["roles"]] == ["engineer"]


def test_whoami_says_that_nobody_is_impersonated_where_that_is_so(start: Starter) -> None:
    with start(settings={"BASTION_KUBERNETES_MODE": "serviceaccount"}) as own:
        [about] = objects(own, "whoami")

    assert (about["person"], about["kubernetes_user"]) == ("alice", None)
    assert [role["kubernetes_groups"] for role in about["roles"]] == [[]]


def test_without_a_terminal_the_commands_are_listed(console: Bastion) -> None:
    done = console.ssh("-T", "b")

    assert done.returncode == 0
    assert b"\n  pods " in done.stdout
    assert b"\r" not in done.stdout
    assert console.ssh("b", "pots").returncode == 2


def test_the_menu_opens_a_session_in_place(console: Bastion) -> None:
    with terminal(console) as at:
        at.expect("type to narrow")
        at.type("mul app\rstty size; exit 5\r")
        at.expect("30 100\r\n")
        assert at.wait() == 5
    session = console.last_session()
    assert (session["action"], session["login"], session["container"]) == ("shell", "multi.default+app", "app")


def test_the_menu_follows_the_window_and_leaves_nothing(console: Bastion) -> None:
    with terminal(console, size=WindowSize(cols=40, rows=12)) as at:
        at.expect("type, Enter, Esc")
        at.resize(WindowSize(cols=90, rows=20))
        at.expect(r"\x1b\[H\x1b\[2J.*type to narrow")
        at.type("web.default\r")
        at.expect(r"[$#] ")
        at.type("stty size; exit\r")
        at.expect("20 90\r\n")
        assert at.wait() == 0
        assert b"\x1b[?1049" not in at.seen


def test_what_is_pasted_into_the_menu_is_looked_for_and_no_line_of_it_is_run(console: Bastion) -> None:
    with terminal(console) as at:
        at.expect(r"\x1b\[\?2004h.*type to narrow")
        at.type("\x1b[200~web.default\recho pas''ted\r\x1b[201~")
        at.expect(r"\r\n> web\.default$")
        at.type("\recho ty''ped; exit\r")
        at.expect(r"\x1b\[\?2004l.*[\r\n]typed\r\n")
        assert at.wait() == 0
        assert b"pasted" not in at.seen


def test_on_a_dumb_terminal_the_menu_is_a_numbered_list(console: Bastion) -> None:
    with terminal(console, term="dumb") as at:
        at.expect("number or name: ")
        at.type("web.default\r")
        at.expect("\r\n1 web.default\r\nnumber or name: ")
        at.type("1\r")
        at.expect(r"[$#] ")
        at.type("exit 3\r")
        assert at.wait() == 3


@pytest.mark.parametrize(("key", "status"), [("\x1b", 0), ("\x04", 0), ("\x03", 130)])
def test_the_menu_is_left(console: Bastion, key: str, status: int) -> None:
    with terminal(console) as at:
        at.expect("type to narrow")
        at.type(key)
        assert at.wait() == status
