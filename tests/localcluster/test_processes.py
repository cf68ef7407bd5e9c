"""Containers as local processes: what they find, how they live on, how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cluster import running_cluster
from support.rawclient import BINARY, Frame, bearer, channel, connect, exec_in
from support.waiting import eventually

if TYPE_CHECKING:
    from support.cluster import Cluster
    from support.rawclient import RawClient

API_POD = "shop/api-788b6f4684-4fttr"
EXITED_0 = b'{"metadata":{},"status":"Success"}'


async def run(cluster: Cluster, pod: str, *command: str | bytes, tty: bool = False) -> tuple[bytes, bytes, bytes]:
    """What a command says on stdout and stderr, and its status frame."""
    async with exec_in(cluster, pod, *command, tty=tty) as client:
        frames, _ = await client.frames_to_end()
    return channel(frames, 1), channel(frames, 2), channel(frames, 3)


async def test_the_environment_is_built_from_nothing(cluster: Cluster) -> None:
    out, _, _ = await run(cluster, "default/web", "env")
    variables = dict(line.split("=", 1) for line in out.decode().splitlines())
    assert set(variables) == {"HOME", "PATH", "HOSTNAME"}
    assert variables["HOSTNAME"] == "web"
    assert variables["PATH"] != os.environ["PATH"]


async def test_a_terminal_brings_TERM_and_nothing_else(cluster: Cluster) -> None:  # noqa: N802 - its name
    out, _, _ = await run(cluster, "default/web", "env", tty=True)
    variables = dict(line.split("=", 1) for line in out.decode().splitlines())
    assert set(variables) == {"HOME", "PATH", "HOSTNAME", "TERM"}
    assert variables["TERM"] == "xterm"


async def test_no_descriptor_of_ours_is_inherited(cluster: Cluster) -> None:
    out, _, _ = await run(cluster, "default/web", "sh", "-c", "ls /proc/$$/fd")
    assert out.split() == [b"0", b"1", b"2"]


async def test_a_terminal_starts_at_0_by_0_and_controls_its_session(cluster: Cluster) -> None:
    out, _, _ = await run(
        cluster, "default/web", "sh", "-c", "stty size; ps -o tpgid= -p $$ | tr -d ' '; echo $$", tty=True
    )
    size, foreground, pid = out.split(b"\r\n")[:3]
    assert size == b"0 0"
    assert foreground == pid


async def test_each_container_has_its_own_home_and_starts_there(cluster: Cluster) -> None:
    web, _, _ = await run(cluster, "default/web", "sh", "-c", "pwd; echo $HOME")
    db, _, _ = await run(cluster, "prod/db", "pwd")
    assert len(set(web.split())) == 1
    assert db.split()[0] not in web


async def test_hostname_is_the_pods_name(cluster: Cluster) -> None:
    for pod in ("default/web", API_POD):
        assert (await run(cluster, pod, "hostname"))[0].decode().strip() == pod.partition("/")[2]


@pytest.mark.parametrize("program", ["bash", "/bin/bash", "/usr/bin/bash"])
async def test_a_posix_container_has_no_bash(cluster: Cluster, program: str) -> None:
    _, _, status = await run(cluster, API_POD, program, "-c", "true")
    assert json.loads(status)["reason"] == "InternalError"
    assert b"no such file or directory" in status or b"executable file not found in $PATH" in status


@pytest.mark.parametrize("program", ["sh", "/bin/sh"])
async def test_a_posix_container_has_a_shell_and_tools(cluster: Cluster, program: str) -> None:
    out, _, status = await run(cluster, API_POD, program, "-c", "printf 'a\\nb\\n' | wc -l | tr -d ' '")
    assert (out, status) == (b"2\n", EXITED_0)


@pytest.mark.parametrize("program", ["sh", "/bin/sh", "/usr/bin/env", "./sh"])
async def test_a_distroless_container_has_nothing_but_its_own_program(cluster: Cluster, program: str) -> None:
    _, _, status = await run(cluster, "default/distroless", program)
    assert json.loads(status)["reason"] == "InternalError"


async def test_the_program_of_a_distroless_container_does_three_things(cluster: Cluster) -> None:
    assert await run(cluster, "default/distroless", "app", "a b", "c") == (b"a b\nc\n", b"", EXITED_0)
    _, _, status = await run(cluster, "default/distroless", "/app", "--exit", "9")
    assert json.loads(status)["details"]["causes"][0]["message"] == "9"
    async with exec_in(cluster, "default/distroless", "app", "--cat") as client:
        await client.send_frame(b"\0through")
        await client.send_frame(b"\xff\0")
        frames, _ = await client.frames_to_end()
    assert channel(frames, 1) == b"through"


@pytest.mark.parametrize(
    ("program", "reason"),
    [("/etc/passwd", "permission denied"), ("/etc", "is a directory"), ("", "executable file not found in $PATH")],
)
async def test_what_cannot_be_executed_is_told_by_a_status(cluster: Cluster, program: str, reason: str) -> None:
    _, _, status = await run(cluster, "default/web", program)
    assert json.loads(status)["message"].endswith(reason)


async def test_no_command_at_all_fails_after_the_upgrade(cluster: Cluster) -> None:
    _, _, status = await run(cluster, "default/web")
    assert json.loads(status)["reason"] == "InternalError"


@pytest.mark.parametrize("leave", ["abort", "close frame"])
async def test_a_terminals_process_stays_alive_when_its_stream_goes(tmp_path: Path, leave: str) -> None:
    async with running_cluster(tmp_path) as cluster:
        async with exec_in(cluster, "default/web", "bash", "--norc", "-i", tty=True) as client:
            await shell_is_up(client)
            (before,) = await cluster.processes()
            assert not before["orphan"]
            if leave == "close frame":
                await client.send_frame(b"\x03\xe8", opcode=8)
                await client.frames_to_end()
        await eventually(lambda: orphans(cluster, 1))
        (after,) = await cluster.processes()
        assert after["pid"] == before["pid"]
    assert not is_there(before["pid"])  # but it ends with the cluster


async def shell_is_up(client: RawClient) -> None:
    """Until a prompt was printed, which is after the shell set up its signal handlers."""
    said = b""
    while b"$ " not in said and b"# " not in said:
        frame = await client.frame()
        assert frame is not None
        said += frame.data[1:]


async def orphans(cluster: Cluster, count: int) -> bool:
    return len([one for one in await cluster.processes() if one["orphan"]]) == count


def is_there(pid: int | str) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_process_on_pipes_gets_end_of_input_when_its_stream_goes(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        async with exec_in(cluster, "default/web", "cat"), exec_in(cluster, "default/web", "sleep", "1000"):
            await eventually(lambda: alive(cluster, ["cat"], ["sleep", "1000"]))
        await eventually(lambda: alive(cluster, ["sleep", "1000"]))
        await eventually(lambda: orphans(cluster, 1))


async def alive(cluster: Cluster, *commands: list[str]) -> bool:
    return sorted(one["argv"] for one in await cluster.processes()) == sorted(commands)


async def test_the_output_of_an_orphan_is_discarded_and_does_not_stop_it(tmp_path: Path) -> None:
    done = tmp_path / "done"
    async with running_cluster(tmp_path) as cluster:
        script = f"read line; head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; echo > {done}"
        async with exec_in(cluster, "default/web", "sh", "-c", script):
            await eventually(lambda: alive(cluster, ["sh", "-c", script]))

        async def is_done() -> bool:
            return done.exists()

        await eventually(is_done)


async def test_a_pod_that_is_deleted_takes_its_processes_with_it(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        path = "/api/v1/namespaces/default/pods/web"
        script = "setsid sleep 1000 & exec sleep 1001"
        async with exec_in(cluster, "default/web", "sh", "-c", script) as client, connect(cluster) as admin:
            await eventually(lambda: alive(cluster, ["sleep", "1000"], ["sleep", "1001"]))
            deleted = await admin.request("DELETE", path, headers=[bearer(cluster)])
            assert deleted.status == 200
            assert "deletionTimestamp" in json.loads(deleted.body)["metadata"]
            frames, _ = await client.frames_to_end()
            assert exit_code(frames) == "137"

            async def gone() -> bool:
                return (await admin.request("GET", path, headers=[bearer(cluster)])).status == 404

            await eventually(gone)
            assert await cluster.processes() == []


def exit_code(frames: list[Frame]) -> str:
    return str(json.loads(channel(frames, 3))["details"]["causes"][0]["message"])


async def test_a_crash_kills_one_container_and_it_is_started_again(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        async with (
            exec_in(cluster, "default/web", "sleep", "1000") as client,
            exec_in(cluster, "prod/db", "sleep", "1000"),
        ):
            await eventually(lambda: alive(cluster, ["sleep", "1000"], ["sleep", "1000"]))
            await cluster.control({"do": "crash", "pod": "default/web", "container": "web"})
            frames, _ = await client.frames_to_end()
            assert exit_code(frames) == "137"
            assert [one["pod"] for one in await cluster.processes()] == ["prod/db"]
        async with connect(cluster) as admin:
            answer = await admin.request("GET", "/api/v1/namespaces/default/pods/web", headers=[bearer(cluster)])
        (status,) = json.loads(answer.body)["status"]["containerStatuses"]
        assert status["restartCount"] == 1
        assert status["lastState"]["terminated"]["exitCode"] == 137


async def test_everything_is_ended_with_the_cluster_even_what_hides(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        script = "for n in 1 2 3; do env -i setsid sh -c 'echo $$; exec sleep 1000' & done; wait"
        async with exec_in(cluster, "default/web", "sh", "-c", script) as client:
            said = b""
            while said.count(b"\n") < 3:
                frame = await client.frame()
                assert frame is not None
                said += frame.data[1:]
            hidden = said.decode().split()
            assert all(is_there(pid) for pid in hidden)
    assert not any(is_there(pid) for pid in hidden)


async def test_a_background_process_keeps_the_stream_open_until_it_lets_go_of_it(cluster: Cluster) -> None:
    script = "(read line < /dev/null; sleep 0.2; echo late) & echo early"
    out, _, status = await run(cluster, "default/web", "sh", "-c", script)
    assert (out, status) == (b"early\nlate\n", EXITED_0)


async def test_input_ends_with_the_output(cluster: Cluster) -> None:
    """As containerd's ExecIO.Attach has it: here the client never ends it."""
    _, _, status = await run(cluster, "default/web", "sh", "-c", "exec >&- 2>&-; read -r line || exit 0")
    assert status == EXITED_0


@pytest.mark.parametrize(("size", "is_told"), [(50_000, True), (100_000, False)])
async def test_the_end_is_not_told_while_input_waits_that_nobody_reads(
    tmp_path: Path, size: int, *, is_told: bool
) -> None:
    """As with containerd, whose buffers are larger; here a pipe holds 64 KiB of it."""
    async with (
        running_cluster(tmp_path) as cluster,
        exec_in(cluster, "default/web", "sh", "-c", "echo ready; exec sleep 1000") as client,
    ):
        while (await client.frame()) != Frame(BINARY, b"\1ready\n"):
            pass
        for _ in range(0, size, 10_000):
            await client.send_frame(b"\0" + bytes(10_000))
        (running,) = await cluster.processes()
        os.kill(running["pid"], signal.SIGTERM)
        await eventually(lambda: alive(cluster))
        try:
            frames, _ = await asyncio.wait_for(client.frames_to_end(), 20 if is_told else 0.5)
        except TimeoutError:
            frames = []

    assert bool(channel(frames, 3)) == is_told


async def test_a_container_ignores_no_signal_whatever_its_cluster_was_started_to_ignore(tmp_path: Path) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGQUIT)}
    try:
        async with running_cluster(tmp_path) as cluster:
            out, _, _ = await run(cluster, "default/web", "sh", "-c", "grep SigIgn /proc/self/status")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    standard = (1 << 31) - 1  # the C library keeps the next two for itself
    assert int(out.split()[1], 16) & standard == 0


async def test_many_commands_at_once_each_stand_alone(cluster: Cluster) -> None:
    answers = await asyncio.gather(*(run(cluster, "default/web", "sh", "-c", f"echo {n}") for n in range(20)))
    assert [out for out, _, _ in answers] == [f"{n}\n".encode() for n in range(20)]
