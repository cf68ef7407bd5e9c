"""An API server, a pod or a person that fails or vanishes: what is seen, what the record says, what is left."""

from __future__ import annotations

import http.server
import os
import signal
import ssl
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from bastion.model import Outcome
from support.faultproxy import Way
from support.faults import new_word
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.faults import Faulty, Printing

UNREACHABLE = b"bastion: the cluster's API server cannot be reached; try again in a moment\n"
TICKS = "while sleep 0.02; do echo tick; done"


def assert_broken(faulty: Faulty, printing: Printing, message: bytes) -> None:
    """The person saw 255 and why, the record holds what they saw and says the same, and nothing is left."""
    assert printing.ended() == (255, b"bastion: " + message + b"\n")
    ended = faulty.auditor.ended(printing.word)
    assert (ended.end.status, ended.end.outcome, ended.end.complete) == (255, Outcome.BROKEN, True)
    assert ended.end.reason.encode() == message
    assert ended.output == printing.received
    faulty.is_whole(printing.word)


# --- the API server ----------------------------------------------------------------


def test_an_api_server_that_refuses_is_named_and_nothing_begins(faulty: Faulty) -> None:
    word = new_word()
    faulty.api.refuse()
    faulty.api.cut()

    refused = faulty.ssh("web.default@b", f"echo {word}")

    assert (refused.returncode, refused.stdout, refused.stderr) == (255, b"", UNREACHABLE)
    event = faulty.auditor.events("session.refused")[0]
    assert (event.outcome, event.rule) == (Outcome.FAILED, "cluster_unavailable")
    faulty.resume()
    assert not faulty.auditor.holds(word)
    faulty.is_whole()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_api_server_that_answers_with_an_error_is_named_with_it(faulty: Faulty, status: int) -> None:
    well = faulty.api.upstream
    with answering(faulty, status) as port:
        faulty.api.upstream = ("127.0.0.1", port)
        faulty.api.cut()
        refused = faulty.ssh("web.default@b", "echo ran")
        faulty.api.upstream = well
        faulty.api.cut()

    expected = f"bastion: the cluster's API server cannot answer now (HTTP {status}); try again in a moment\n"
    assert (refused.returncode, refused.stdout, refused.stderr.decode()) == (255, b"", expected)
    faulty.is_whole()


@contextmanager
def answering(faulty: Faulty, status: int) -> Iterator[int]:
    """A server with the cluster's certificate that gives every question the same answer; its port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    folder = faulty.bastion.folder / "cluster"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("with_fin", [False, True], ids=["reset", "fin"])
def test_a_stream_that_is_cut_gives_255_and_says_so(faulty: Faulty, *, with_fin: bool) -> None:
    with faulty.printing(TICKS) as ticks:
        faulty.api.cut(with_fin=with_fin)

        assert_broken(
            faulty,
            ticks,
            b"the connection to the pod was lost, though pod web is well; the API server may have been restarted:"
            b" connect again",
        )


def test_what_cannot_be_looked_for_is_in_the_record_and_is_ended_when_the_api_server_is_back(faulty: Faulty) -> None:
    with faulty.printing(TICKS) as ticks:
        faulty.api.refuse()
        faulty.api.cut()
        status, said = ticks.ended()
        assert (status, said.count(b"\n")) == (255, 1)
        assert said.startswith(
            b"bastion: the connection to the pod was lost; the cluster's API server cannot be reached"
        )

        wait_until(lambda: _told(faulty, ticks.word) == ["session.not_reaped"])
        assert faulty.bastion.running(ticks.word)
        faulty.resume()

        wait_until(lambda: _told(faulty, ticks.word) == ["session.not_reaped", "session.reaped"])
    faulty.is_whole(ticks.word)


def test_a_stream_that_is_held_up_goes_on_and_nothing_is_missing(faulty: Faulty) -> None:
    with faulty.printing("for i in $(seq 1 200); do echo $i; sleep 0.01; done") as counting:
        faulty.api.hold()
        counting.quiet()
        faulty.api.resume()

        assert counting.ended() == (0, b"")
    assert counting.received == b"".join(b"%d\n" % number for number in range(1, 201))
    assert faulty.auditor.ended(counting.word).output == counting.received


# --- the pod ---------------------------------------------------------------------------


def test_the_status_of_a_process_that_is_killed_arrives(faulty: Faulty) -> None:
    with faulty.printing(TICKS) as ticks:
        for process in faulty.bastion.running(ticks.word):
            os.kill(process["pid"], signal.SIGKILL)

        assert ticks.ended() == (137, b"")
    ended = faulty.auditor.ended(ticks.word)
    assert (ended.end.status, ended.end.outcome, ended.end.complete) == (137, Outcome.EXITED, True)
    faulty.is_whole()


def test_a_pod_that_is_deleted_is_named(faulty: Faulty) -> None:
    pods = faulty.bastion.kubernetes("GET", "/api/v1/namespaces/shop/pods")["items"]
    name = max(pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running")
    with faulty.printing(TICKS, login=f"{name}.shop") as ticks:
        faulty.bastion.kubernetes("DELETE", f"/api/v1/namespaces/shop/pods/{name}")

        assert_broken(faulty, ticks, f"pod {name} was deleted".encode())


# --- the person ------------------------------------------------------------------------


def test_people_who_vanish_without_a_word_are_found_out_and_nothing_of_them_goes_on(faulty: Faulty) -> None:
    with ExitStack() as stack:
        vanished = []
        for ways in ((Way.UP, Way.DOWN), (Way.UP,), (Way.DOWN,)):
            vanished.append(stack.enter_context(faulty.printing("echo started; sleep 1000")))
            wait_until(lambda: faulty.bastion.running(vanished[-1].word))
            faulty.door.swallow_newest(*ways)

        wait_until(lambda: not any(faulty.bastion.running(one.word) for one in vanished))
    for one in vanished:
        ended = faulty.auditor.ended(one.word)
        assert (ended.end.outcome, ended.end.status, ended.end.complete) == (Outcome.HUNG_UP, 255, True)
        assert ended.end.reason == "the connection was lost (Client not responding to keepalive)"
        wait_until(lambda word=one.word: "session.reaped" in _told(faulty, word))  # type: ignore[misc] # mypy infers no lambda with a default
    faulty.is_whole()


def _told(faulty: Faulty, word: str) -> list[str]:
    """The types of a session's events, in order."""
    return [event.type for event in reversed(faulty.auditor.ended(word).events)]
