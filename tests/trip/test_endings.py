"""Streams that break, people who vanish: what the person sees, what the record says, what is left in the pod."""

from __future__ import annotations

import os
import signal
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from support.trips import started, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from support.trips import Bastion


@contextmanager
def sleeping(
    bastion: Bastion, *options: str, login: str = "web.default"
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An ssh client whose command sleeps in the pod, and a word among its arguments."""
    word = f"word-{uuid.uuid4().hex}"
    command = f"echo started; exec sh -c 'sleep 1000; : {word}'"
    argv = bastion.ssh_argv(*options, f"{login}@b", command)
    with started(argv) as ssh:
        assert ssh.stdout is not None
        assert ssh.stdout.readline().strip() == b"started"
        wait_until(lambda: bastion.running(word))
        yield ssh, word


def ended(bastion: Bastion, word: str) -> dict[str, Any]:
    """The end of the session that ran a word, once it has one."""

    def look() -> dict[str, Any] | None:
        commands = bastion.audit("commands", "--limit", "20")
        session = next(command["session"] for command in commands if word in command["text"])
        sessions = bastion.audit("sessions", "--limit", "20")
        return next((one for one in sessions if one["id"] == session and one["ended_at"]), None)

    return wait_until(look)


@pytest.mark.parametrize("options", [(), ("-tt",)], ids=["pipe", "terminal"])
def test_the_process_ends_when_the_client_is_killed(bastion: Bastion, options: tuple[str, ...]) -> None:
    with sleeping(bastion, *options) as (ssh, word):
        ssh.send_signal(signal.SIGKILL)
        ssh.wait()

        wait_until(lambda: not bastion.running(word))
        session = ended(bastion, word)

    assert session["outcome"] == "hung_up"
    assert session["end_reason"]
    assert (
        wait_until(lambda: [e for e in bastion.audit("events", "--limit", "10") if e["session"] == session["id"]])[0][
            "type"
        ]
        == "session.reaped"
    )


def test_the_process_ends_when_the_control_master_is_killed(bastion: Bastion) -> None:
    mux = ("-o", f"ControlPath={bastion.sockets}/mux-kill")
    argv = bastion.ssh_argv(*mux, "-M", "-N", "web.default@b")
    with started(argv) as master:
        wait_until((bastion.sockets / "mux-kill").exists)
        with sleeping(bastion, *mux) as (_, first), sleeping(bastion, *mux) as (_, second):
            master.kill()
            wait_until(lambda: not bastion.running(first) and not bastion.running(second))

            assert ended(bastion, first)["outcome"] == ended(bastion, second)["outcome"] == "hung_up"


def test_the_process_ends_when_one_session_of_a_master_is_left_and_the_others_go_on(bastion: Bastion) -> None:
    mux = ("-o", f"ControlPath={bastion.sockets}/mux-one")
    argv = bastion.ssh_argv(*mux, "-M", "-N", "web.default@b")
    with started(argv):
        wait_until((bastion.sockets / "mux-one").exists)
        with sleeping(bastion, *mux) as (left, first), sleeping(bastion, *mux) as (_, second):
            left.kill()
            wait_until(lambda: not bastion.running(first))

            assert bastion.running(second)


def test_the_process_ends_when_the_network_dies(bastion: Bastion) -> None:
    with sleeping(bastion) as (ssh, word):
        ssh.send_signal(signal.SIGSTOP)  # it answers no keepalive, and no FIN comes

        wait_until(lambda: not bastion.running(word))
        assert ended(bastion, word)["outcome"] == "hung_up"


def test_a_stream_that_breaks_gives_255_and_one_line_that_says_why(bastion: Bastion) -> None:
    with sleeping(bastion) as (ssh, word):
        bastion.control({"do": "cut", "pod": "default/web"})
        _, errors = ssh.communicate(timeout=30)

        assert ssh.returncode == 255
        assert errors.startswith(b"bastion: ")
        assert errors.count(b"\n") == 1
        session = ended(bastion, word)
        assert (session["outcome"], session["status"]) == ("broken", 255)
        assert session["end_reason"].encode() in errors
        wait_until(lambda: not bastion.running(word))  # the stream's end ended nothing, the reaper did


def test_a_pod_that_vanishes_gives_255_and_its_name(own_bastion: Bastion) -> None:
    bastion = own_bastion
    pods = bastion.kubernetes("GET", "/api/v1/namespaces/shop/pods")["items"]
    name = max(pod["metadata"]["name"] for pod in pods)
    with sleeping(bastion, login=f"{name}.shop") as (ssh, word):
        bastion.kubernetes("DELETE", f"/api/v1/namespaces/shop/pods/{name}")
        _, errors = ssh.communicate(timeout=30)

        assert ssh.returncode == 255
        assert errors == f"bastion: pod {name} was deleted\n".encode()
        assert ended(bastion, word)["outcome"] == "broken"


def test_what_a_command_leaves_behind_is_ended_too(bastion: Bastion) -> None:
    word = f"word-{uuid.uuid4().hex}"

    done = bastion.ssh("web.default@b", f"(sh -c 'sleep 1000; : {word}' >/dev/null 2>&1 </dev/null &) ; echo done")

    assert (done.stdout, done.returncode) == (b"done\n", 0)
    wait_until(lambda: not bastion.running(word))


def test_a_bastion_that_stops_ends_its_sessions_and_tells_people_why(own_bastion: Bastion) -> None:
    bastion = own_bastion
    with sleeping(bastion) as (ssh, word):
        os.kill(bastion.pid, signal.SIGTERM)
        _, errors = ssh.communicate(timeout=30)

        assert errors == b"bastion: the bastion is stopping\n"
        assert ssh.returncode == 255
        assert (ended(bastion, word)["outcome"], ended(bastion, word)["end_reason"]) == (
            "hung_up",
            "the bastion is stopping",
        )
        assert not bastion.running(word)


def test_a_bastion_that_stops_begins_no_session_over_a_connection_that_is_still_open(own_bastion: Bastion) -> None:
    bastion = own_bastion
    mux = ("-o", f"ControlPath={bastion.sockets}/mux-stop")
    word = f"word-{uuid.uuid4().hex}"
    stubborn = f"trap '' HUP TERM; echo started; while :; do sleep 0.1; done; : {word}"
    with started(bastion.ssh_argv(*mux, "-M", "web.default@b", stubborn)) as ssh:
        assert ssh.stdout is not None
        assert ssh.stdout.readline() == b"started\n"
        os.kill(bastion.pid, signal.SIGTERM)
        wait_until(lambda: any(entry["event"] == "stopping" for entry in bastion.log))

        late = bastion.ssh(*mux, "web.default@b", "echo ran")

        assert late.returncode == 255
        assert b"ran" not in late.stdout
        wait_until(lambda: not bastion.running(word))
    assert not [one for one in bastion.audit("commands") if one["text"] == "echo ran"]
    assert [one["outcome"] for one in bastion.audit("sessions")] == ["hung_up"]
