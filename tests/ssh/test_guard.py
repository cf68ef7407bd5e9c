"""A bug in a callback is logged and refused; it never takes a connection with it."""

from __future__ import annotations

import asyncssh
import pytest
from structlog.testing import capture_logs

from bastion.ssh.guard import guarded, guarded_async


@guarded(answer=False)
def divides(number: int) -> bool:
    return 1 / number > 0


@guarded_async(answer=False)
async def divides_later(number: int) -> bool:
    return 1 / number > 0


@guarded(answer=False)
def refuses() -> bool:
    raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "no")


async def test_a_callback_that_works_is_left_alone() -> None:
    assert divides(1)
    assert await divides_later(1)


async def test_a_callback_that_raises_refuses_and_is_logged_with_its_trace() -> None:
    with capture_logs() as logs:
        assert not divides(0)
        assert not await divides_later(0)

    assert [(entry["event"], entry["callback"]) for entry in logs] == [
        ("callback.bug", "divides"),
        ("callback.bug", "divides_later"),
    ]
    assert all(entry["exc_info"] for entry in logs)


def test_what_asyncssh_itself_is_to_see_passes() -> None:
    with pytest.raises(asyncssh.ChannelOpenError):
        refuses()
