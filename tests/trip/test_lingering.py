"""What a session leaves on purpose goes on where a role allows it, and is counted; elsewhere it ends."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from support.trips import wait_until

if TYPE_CHECKING:
    from support.trips import Bastion

LEAVE = "setsid sh -c 'sleep 1000; : {0} one' >/dev/null 2>&1 & nohup sh -c 'sleep 1000; : {0} two' >/dev/null 2>&1 & "
PLAIN = "sh -c 'sleep 1000; : {0} three' >/dev/null 2>&1 & sleep 0.2; echo left"


def reaped(bastion: Bastion, session: str) -> dict[str, Any]:
    """The event of what became of a session's processes."""

    def look() -> dict[str, Any] | None:
        events = bastion.audit("events", "--limit", "30")
        return next((one for one in events if one["type"] == "session.reaped" and one["session"] == session), None)

    return wait_until(look)


def names(bastion: Bastion, word: str) -> set[str]:
    return {process["argv"][-1].rpartition(" ")[2] for process in bastion.running(word) if process["argv"][0] == "sh"}


def test_a_role_that_allows_it_leaves_what_was_left_on_purpose_and_only_that(bastion: Bastion) -> None:
    word = f"word-{uuid.uuid4().hex}"
    done = bastion.ssh("web.default@b", (LEAVE + PLAIN).format(word), person="lena")
    assert done.stdout == b"left\n"
    event = reaped(bastion, bastion.last_session()["id"])

    assert event["outcome"] == "success"
    assert "left on purpose" in event["reason"]
    assert names(bastion, word) == {"one", "two"}
    # So that nothing of it stays: the same, in a session whose role does not allow it, ends what it finds.
    bastion.ssh("web.default@b", f"pkill -f {word}", person="alice")
    wait_until(lambda: not bastion.running(word))


def test_elsewhere_it_ends(bastion: Bastion) -> None:
    word = f"word-{uuid.uuid4().hex}"
    done = bastion.ssh("web.default@b", (LEAVE + PLAIN).format(word))
    assert done.stdout == b"left\n"

    wait_until(lambda: not bastion.running(word))
    event = reaped(bastion, bastion.last_session()["id"])
    assert event["outcome"] == "success"
    assert event["reason"].startswith("processes ended: ")
