"""Why a session ended is what happened to its pod: said on stderr, with 255, and the same in the record."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bastion.model import Outcome
from support.faults import SLOWER_BY_S, TOLD_WITHIN_S
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.faults import Faulty, Printing

TICKS = "while sleep 0.02; do echo tick; done"
SILENT = "echo started; while read -r x; do echo got; done"
LOST = b"the connection to the pod was lost"
NODE_AWAY = b"the node of pod web (local-node) cannot be reached by the API server"


@contextmanager
def told(faulty: Faulty, printing: Printing, *words: bytes) -> Iterator[None]:
    """Assert that what the block does is told in time: 255 and the cause in one line, the same in the record."""
    begun = time.monotonic()
    yield
    status, said = printing.ended()
    said = said.replace(b"\r\n", b"\n")
    assert (status, said.count(b"\n")) == (255, 1)
    assert all(word in said for word in words), said
    assert printing.ended_at - begun < TOLD_WITHIN_S + SLOWER_BY_S
    ended = faulty.auditor.ended(printing.word)
    assert (ended.end.status, ended.end.outcome, ended.end.complete) == (255, Outcome.BROKEN, True)
    assert b"bastion: " + ended.end.reason.encode() + b"\n" == said
    assert ended.output == printing.received


def a_pod_of_api(faulty: Faulty) -> str:
    """One that is ready."""

    def look() -> str:
        pods = faulty.bastion.kubernetes("GET", "/api/v1/namespaces/shop/pods")["items"]
        return next((one["metadata"]["name"] for one in pods if one["status"].get("phase") == "Running"), "")

    return wait_until(look)


def test_a_container_that_needs_too_much_memory(faulty: Faulty) -> None:
    with (
        faulty.printing(TICKS, login="multi.default+sidecar") as ticks,
        told(faulty, ticks, b"container sidecar was OOM-killed"),
    ):
        faulty.bastion.control({"do": "oom", "pod": "default/multi", "container": "sidecar"})


def test_a_container_that_is_started_anew(faulty: Faulty) -> None:
    with (
        faulty.printing(TICKS, login="multi.default+app") as ticks,
        told(faulty, ticks, b"container app ended with status 137"),
    ):
        faulty.bastion.control({"do": "crash", "pod": "default/multi", "container": "app"})


def test_a_pod_that_is_evicted(faulty: Faulty) -> None:
    pod = a_pod_of_api(faulty)
    why = f"pod {pod} was evicted: The node was low on resource: memory."
    with faulty.printing(TICKS, login=f"{pod}.shop") as ticks, told(faulty, ticks, why.encode()):
        faulty.bastion.control({"do": "evict", "pod": f"shop/{pod}"})


def test_a_pod_that_is_deleted_under_a_stream_that_freezes(faulty: Faulty) -> None:
    pod = a_pod_of_api(faulty)
    with faulty.printing(TICKS, login=f"{pod}.shop") as ticks, told(faulty, ticks, f"pod {pod} was deleted".encode()):
        faulty.bastion.control({"do": "hold", "pod": f"shop/{pod}", "seconds": 60})
        faulty.bastion.kubernetes("DELETE", f"/api/v1/namespaces/shop/pods/{pod}")


@pytest.mark.parametrize("hang", [False, True], ids=["refuses", "is silent"])
def test_a_node_that_is_gone(faulty: Faulty, *, hang: bool) -> None:
    try:
        with faulty.printing(f"stty -echo; {SILENT}", "-tt") as waiting, told(faulty, waiting, NODE_AWAY):
            faulty.bastion.control({"do": "node", "up": False, "hang": hang, "grace": 300})
            waiting.type(b"anybody there?\n")
        refused = faulty.ssh("web.default@b", "echo ran")
        log = faulty.ssh("b", "logs web.default")
        why = b"does not answer; try again in a moment" if hang else b"cannot be reached by the API server"
        said = b"bastion: the node of pod web (local-node) " + why + b"\n"
        assert (refused.returncode, refused.stdout, refused.stderr) == (255, b"", said)
        assert (log.returncode, log.stdout, log.stderr) == (255, b"", said)
    finally:
        faulty.bastion.control({"do": "node", "up": True})


def test_a_node_that_the_cluster_takes_for_lost_although_the_person_says_nothing(faulty: Faulty) -> None:
    try:
        with faulty.printing(SILENT) as waiting, told(faulty, waiting, NODE_AWAY):
            faulty.bastion.control({"do": "node", "up": False, "hang": True, "grace": 1})
    finally:
        faulty.bastion.control({"do": "node", "up": True})


def test_an_api_server_that_is_busy_costs_nobody_their_session(faulty: Faulty) -> None:
    with faulty.printing("stty -echo; echo started; read -r x; echo $x", "-tt") as waiting:
        faulty.bastion.control({"do": "fail", "times": 1000, "status": 503, "match": "/exec"})
        try:
            before = len(faulty.bastion.control({"do": "asked"})["requests"])
            waiting.type(b"a")  # half a line, and no echo: nothing comes back
            time.sleep(15)  # longer than it takes to doubt the node, and to knock at it
            assert waiting.ssh.poll() is None
            assert len(faulty.bastion.control({"do": "asked"})["requests"]) - before < 40
        finally:
            faulty.bastion.control({"do": "fail", "times": 0, "status": 503, "match": "/exec"})
        waiting.type(b"b\r")
        assert waiting.ended()[0] == 0


def test_a_process_that_ends_itself_by_a_signal_is_not_wondered_at(faulty: Faulty) -> None:
    path = "/api/v1/namespaces/default/pods/web"

    def looks() -> int:
        requests = faulty.bastion.control({"do": "asked"})["requests"]
        return sum((one["method"], one["path"]) == ("GET", path) for one in requests)

    before = looks()
    assert faulty.ssh("web.default@b", "kill -TERM $$").returncode == 143
    assert looks() - before <= 4  # when it was found, before the start, after it, and at the end


def test_a_silent_command_is_not_asked_after(faulty: Faulty) -> None:
    with faulty.printing("echo started; sleep 12") as sleeping:
        before = len(faulty.bastion.control({"do": "execs"})["execs"])
        assert sleeping.ended() == (0, b"")
        knocks = [one for one in faulty.bastion.control({"do": "execs"})["execs"][before:] if one["argv"][-1] == ":"]
    assert knocks == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, b"the API server may have been restarted: connect again"),
        (10, b"the cluster's API server cannot be reached"),
    ],
    ids=["back at once", "away"],
)
def test_an_api_server_that_is_restarted(faulty: Faulty, seconds: int, said: bytes) -> None:
    with faulty.printing(TICKS) as ticks, told(faulty, ticks, LOST, said):
        faulty.bastion.control({"do": "reset", "seconds": seconds})
    faulty.is_whole(ticks.word)


def test_credentials_that_are_not_taken_any_more(faulty: Faulty) -> None:
    account = {"user": "system:serviceaccount:bastion:bastion"}
    with faulty.printing(TICKS) as ticks:
        faulty.bastion.control({"do": "revoke", **account})
        try:
            with told(faulty, ticks, LOST, b"does not accept the bastion's credentials"):
                faulty.api.cut()
            refused = faulty.ssh("web.default@b", "echo ran")
        finally:
            faulty.bastion.control({"do": "restore", **account})

    assert (refused.returncode, refused.stdout) == (255, b"")
    assert b"the API server does not accept the bastion's credentials" in refused.stderr
    assert faulty.auditor.events("session.refused")[0].outcome is Outcome.FAILED
    assert faulty.ssh("web.default@b", "echo ran").stdout == b"ran\n"


def test_a_connection_in_which_everything_vanishes_both_ways(faulty: Faulty) -> None:
    with faulty.printing(TICKS) as ticks:
        with told(faulty, ticks, b"no answer from the API server for 20 s"):
            faulty.api.hold()
        faulty.resume()
    faulty.is_whole(ticks.word)
