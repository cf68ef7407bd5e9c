"""Signals that a client sends: the very process gets them, with and without a terminal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from support.sshpeer import connected

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncssh

    from support.trips import Bastion


async def line(process: asyncssh.SSHClientProcess[str]) -> str:
    return await asyncio.wait_for(process.stdout.readline(), 20)


async def stands_still(size: Callable[[], int]) -> None:
    """Wait until what can go has gone."""
    async with asyncio.timeout(30):
        before = -1
        while before != size():
            before = size()
            await asyncio.sleep(0.5)


COUNTING = """trap 'echo got {0}' {0}; trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"""


@pytest.mark.parametrize("name", ["USR1", "HUP", "INT", "QUIT", "ALRM"])
async def test_a_signal_without_a_terminal_reaches_the_process(bastion: Bastion, name: str) -> None:
    async with (
        connected(bastion) as connection,
        connection.create_process(COUNTING.format(name), encoding="utf-8") as process,
    ):
        assert await line(process) == "ready\n"
        process.send_signal(name)
        assert await line(process) == f"got {name}\n"
        process.send_signal("TERM")
        assert await line(process) == "bye\n"
        assert (await process.wait(timeout=20)).exit_status == 7


async def test_kill_ends_it_with_the_status_of_a_kill(bastion: Bastion) -> None:
    async with (
        connected(bastion) as connection,
        connection.create_process("echo ready; exec sleep 1000", encoding="utf-8") as process,
    ):
        assert await line(process) == "ready\n"
        process.send_signal("KILL")
        assert (await process.wait(timeout=20)).exit_status == 137


async def test_what_a_terminal_has_no_key_for_arrives_too(bastion: Bastion) -> None:
    command = "stty -echo; " + COUNTING.format("USR2")
    async with connected(bastion) as connection:
        process = await connection.create_process(command, term_type="xterm", encoding="utf-8")
        async with process:
            assert (await line(process)).strip() == "ready"
            process.send_signal("USR2")
            while (await line(process)).strip() != "got USR2":
                pass  # the shell tells of its sleep first, which got it too
            process.send_signal("TERM")
            assert (await process.wait(timeout=20)).exit_status == 7


@pytest.mark.parametrize("size", [1_000, 8_000_000])
async def test_a_signal_does_not_wait_for_input_that_the_process_does_not_read(bastion: Bastion, size: int) -> None:
    async with connected(bastion) as connection:
        process = await connection.create_process("echo ready; exec sleep 1000", encoding=None)
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
        process.stdin.write(bytes(size))
        await stands_still(process.channel.get_write_buffer_size)
        process.send_signal("TERM")
        assert (await process.wait(timeout=30)).exit_status == 143


@pytest.mark.parametrize(("name", "said"), [("FOO", "signal FOO is not known here"), ("KILL;id", "is not known here")])
async def test_a_signal_that_nobody_knows_is_answered_with_words(bastion: Bastion, name: str, said: str) -> None:
    async with (
        connected(bastion) as connection,
        connection.create_process("echo ready; cat", encoding="utf-8") as process,
    ):
        assert await line(process) == "ready\n"
        process.channel.send_signal(name)
        assert said in await asyncio.wait_for(process.stderr.readline(), 20)
        process.stdin.write_eof()
        assert (await process.wait(timeout=20)).exit_status == 0


async def test_a_flood_of_signals_costs_a_few_execs(bastion: Bastion) -> None:
    async with (
        connected(bastion) as connection,
        connection.create_process("echo ready; cat", encoding="utf-8") as process,
    ):
        assert await line(process) == "ready\n"
        before = len(bastion.control({"do": "execs"})["execs"])
        for _ in range(2000):
            process.send_signal("CONT")
        process.stdin.write_eof()
        assert (await process.wait(timeout=20)).exit_status == 0
        assert len(bastion.control({"do": "execs"})["execs"]) - before < 50


async def test_where_there_is_no_shell_to_deliver_it_that_is_said(bastion: Bastion) -> None:
    async with (
        connected(bastion, login="distroless.default") as connection,
        connection.create_process("app --wait", encoding="utf-8") as process,
    ):
        process.send_signal("USR1")
        assert "signal USR1 was not delivered" in await asyncio.wait_for(process.stderr.readline(), 20)


async def test_the_signal_is_in_the_transcript(bastion: Bastion) -> None:
    async with (
        connected(bastion) as connection,
        connection.create_process(COUNTING.format("USR1") + " # seen", encoding="utf-8") as process,
    ):
        assert await line(process) == "ready\n"
        process.send_signal("USR1")
        await line(process)
        process.send_signal("TERM")
        await process.wait(timeout=20)
    session = await asyncio.to_thread(bastion.last_session)
    export = bastion.command("audit", "export", session["id"], "--format", "asciicast")
    assert b"signal USR1" in export.stdout
