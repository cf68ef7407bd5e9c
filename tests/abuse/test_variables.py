"""A09: environment variables that would run code, hide what is done, or cost memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from asyncssh.packet import String

from support.invariants import assert_whole, rss
from support.sshpeer import connected, open_channel
from support.traces import sessions_of, word

if TYPE_CHECKING:
    from support.sshpeer import Channel
    from support.trips import Bastion

# What is asked here is the same on either database, and a run is short of time.
pytestmark = pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")

HOSTILE = (
    *("LD_PRELOAD", "BASH_ENV", "ENV", "PATH", "IFS", "GIT_SSH_COMMAND", "PROMPT_COMMAND", "HISTFILE"),
    *("LD_LIBRARY_PATH", "PS4", "SHELLOPTS", "BASHOPTS", "PYTHONSTARTUP", "PERL5OPT", "NODE_OPTIONS"),
    *("BASTION_SESSION", "SSH_AUTH_SOCK", "DISPLAY", "HOME", "USER", "SHELL", "BASH_FUNC_ls%%"),
)
MEMORY = 8 << 20


async def environment(channel: Channel, mark: str) -> tuple[dict[str, str], bytes]:
    """What `env` prints in the pod, and what came on stderr."""
    assert await channel.ask(b"exec", String(f"env; : {mark}"))
    out, errors, status = await channel.wait()
    assert status == 0
    return dict(line.split("=", 1) for line in out.decode().splitlines()), errors


async def test_a09_only_what_is_on_the_list_arrives_and_the_rest_is_recorded_by_name(bastion: Bastion) -> None:
    asked, plain = word(), word()
    async with connected(bastion) as connection:
        usual, _ = await environment(await open_channel(connection), plain)
        channel = await open_channel(connection)
        for name in HOSTILE:
            assert not await channel.ask(b"env", String(name), String("/evil"))
        assert await channel.ask(b"env", String("LC_MESSAGES"), String("C"))
        assert not await channel.ask(b"env", String("LANG"), String("$(touch /evil)"))
        assert not await channel.ask(b"env", String("LC_ALL"), String("C\nPATH=/evil"))
        assert not await channel.ask(b"env", String(b"\xff\xfe"), String(b"\0"))
        assert not await channel.ask(b"env", String(""), String(""))
        found, errors = await environment(channel, asked)

    assert errors == b""
    assert_whole(bastion)
    session, before = await asyncio.to_thread(sessions_of, bastion, asked, plain)
    assert found.pop("BASTION_SESSION") == session["id"]
    assert usual.pop("BASTION_SESSION") == before["id"]
    assert found.pop("BASTION_SESSION_LEADER").isdigit()
    usual.pop("BASTION_SESSION_LEADER")
    assert found == usual | {"LC_MESSAGES": "C"}
    assert session["refused_env"] == [*HOSTILE, "LANG", "LC_ALL", "\\xff\\xfe", ""]


async def test_a09_ten_thousand_variables_cost_nothing_and_are_counted(bastion: Bastion) -> None:
    mark = word()
    async with connected(bastion) as connection:
        channel = await open_channel(connection)
        before = rss(bastion)
        for number in range(10_000):
            name = f"LC_{number:05d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ"))
            channel.tell(b"env", String(name), String("C" * 256))
        assert not await channel.ask(b"env", String("LD_PRELOAD"), String("/evil"))
        found, _ = await environment(channel, mark)

    assert len([name for name in found if name.startswith("LC_")]) == 64
    assert rss(bastion) - before < MEMORY
    assert_whole(bastion)
    (session,) = await asyncio.to_thread(sessions_of, bastion, mark)
    refused = session["refused_env"]
    assert len(refused) == 51
    assert refused[-1] == f"and {10_000 - 64 + 1 - 50} more"


@pytest.mark.parametrize("length", [200_000, 1 << 20])
async def test_a09_a_huge_value_is_refused_or_ends_the_connection_and_costs_no_memory(
    bastion: Bastion, length: int
) -> None:
    async with connected(bastion) as other, connected(bastion) as connection:
        bystander = await open_channel(other)
        before = rss(bastion)
        channel = await open_channel(connection)
        assert not await channel.ask(b"env", String("LC_ALL"), String("C" * length))
        assert connection.is_closed() == (length > 256 * 1024)
        assert rss(bastion) - before < MEMORY
        found, _ = await environment(bystander, word())
        assert "LC_ALL" not in found
    assert_whole(bastion)


async def test_a09_names_as_long_as_a_packet_are_cut_in_the_record(bastion: Bastion) -> None:
    mark = word()
    async with connected(bastion) as connection:
        channel = await open_channel(connection)
        for _ in range(3):
            assert not await channel.ask(b"env", String("X" * 100_000), String("1"))
        await environment(channel, mark)

    assert_whole(bastion)
    (session,) = await asyncio.to_thread(sessions_of, bastion, mark)
    assert session["refused_env"] == ["X" * 64]
