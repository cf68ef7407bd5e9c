"""What people do with an ssh client, done with every one of them."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from bastion.model import WindowSize
from support.clients import Feature
from support.clients_asyncssh import AsyncSsh
from support.clients_matrix import CLIENTS, able

if TYPE_CHECKING:
    from pathlib import Path

    from clients.conftest import Doors
    from support.clients import Client, Done, Door
    from support.trips import Bastion

SIZE = WindowSize(cols=101, rows=33)
TEN_MEGABYTES = random.Random(0).randbytes(10_000_000)  # noqa: S311 - any bytes will do, the same each time
QUIET_S = 5
"""Longer than the bastion waits for a silent client, which is 1 s x 3 in tests."""

every_client = pytest.mark.parametrize("client", CLIENTS, ids=str)


def clients_able_to(feature: Feature) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", able(feature), ids=str)


@every_client
def test_a_command_gives_its_output_its_errors_and_its_status(client: Client, door: Door, house: Bastion) -> None:
    done = client.run(door, "echo out; echo err >&2; exit 37")

    assert (done.stdout, done.stderr, done.status) == (b"out\n", b"err\n", 37)
    assert house.last_session()["status"] == 37


@every_client
def test_the_end_of_input_reaches_the_command(client: Client, door: Door) -> None:
    assert client.run(door, "wc -c", b"x" * 100_001).stdout.strip() == b"100001"
    assert client.run(door, "wc -c").stdout.strip() == b"0"


@every_client
def test_ten_megabytes_up_are_byte_exact(client: Client, door: Door) -> None:
    done = client.run(door, "sha256sum", TEN_MEGABYTES)

    assert done.stdout.split()[0].decode() == hashlib.sha256(TEN_MEGABYTES).hexdigest()


@every_client
def test_ten_megabytes_down_are_byte_exact(client: Client, door: Door, folder: Path) -> None:
    (folder / "data").write_bytes(TEN_MEGABYTES)

    done = client.run(door, f"cat {folder}/data")

    assert (len(done.stdout), done.status) == (len(TEN_MEGABYTES), 0)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(TEN_MEGABYTES).digest()


@every_client
def test_a_shell_takes_what_is_typed_and_gives_its_status(client: Client, door: Door) -> None:
    with client.shell(door, SIZE) as shell:
        shell.expect(r"[$#] ")
        shell.type("tty >/dev/null && echo typed-$((40+2)) $TERM\r")
        shell.expect("[\r\n]typed-42 xterm\r\n")
        shell.type("exit 7\r")
        assert shell.wait() == 7


@clients_able_to(Feature.RESIZE)
def test_a_shell_has_the_windows_size_and_follows_it(client: Client, door: Door) -> None:
    with client.shell(door, SIZE) as shell:
        shell.expect(r"[$#] ")
        shell.type("stty size\r")
        shell.expect("33 101\r\n")
        shell.resize(WindowSize(cols=120, rows=50))
        shell.type("until stty size | grep -x '50 120'; do sleep 0.1; done\r")
        shell.expect("50 120\r\n")  # a line editor may draw its line anew, over the answer's beginning
        shell.type("exit\r")
        assert shell.wait() == 0


@clients_able_to(Feature.SESSIONS)
def test_several_sessions_run_at_the_same_time_on_one_connection(
    client: Client, door: Door, folder: Path, house: Bastion
) -> None:
    names = ["one", "two", "three"]
    all_there = " && ".join(f"[ -e {folder}/{name} ]" for name in names)

    with client.connection(door) as connection:
        done = connection.run_all(
            [f"touch {folder}/{name}; until {all_there}; do sleep 0.05; done; echo {name}" for name in names]
        )

    assert [one.stdout for one in done] == [b"one\n", b"two\n", b"three\n"]
    commands = house.audit("commands", "--limit", "20")
    sessions = {one["session"] for one in commands if str(folder) in one["text"]}
    connections = [one["connection"] for one in house.audit("sessions", "--limit", "20") if one["id"] in sessions]
    assert len(connections) == 3
    assert len(set(connections)) == 1


@clients_able_to(Feature.REKEY)
def test_keys_change_in_mid_stream_both_ways(client: Client, door: Door) -> None:
    done, exchanges = client.run_rekeying(door, "cat", TEN_MEGABYTES)

    assert (len(done.stdout), done.status) == (len(TEN_MEGABYTES), 0)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(TEN_MEGABYTES).digest()
    assert exchanges > 5


@clients_able_to(Feature.BREAK)
def test_a_break_changes_nothing_and_the_session_goes_on(client: Client, door: Door) -> None:
    with client.shell(door, SIZE) as shell:
        shell.expect(r"[$#] ")
        client.press_break(shell)
        shell.type("echo still-$((40+2))\r")
        shell.expect("[\r\n]still-42\r\n")
        shell.type("exit\r")
        assert shell.wait() == 0


def test_a_break_that_asks_is_told_that_it_was_not_done(door: Door) -> None:
    client = AsyncSsh()
    with client.shell(door, SIZE) as shell:
        assert client.break_was_done(shell) is False


@pytest.fixture(scope="module")
def idle(doors: Doors) -> dict[str, Done]:
    """What every client made of a command that says nothing for a while; all at once, as it takes that while."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        found = {client.name: pool.submit(client.run, doors(), f"sleep {QUIET_S}; echo there") for client in CLIENTS}
        return {name: done.result() for name, done in found.items()}


@every_client
def test_a_client_that_has_nothing_to_say_is_not_cut(client: Client, idle: dict[str, Done]) -> None:
    assert (idle[client.name].stdout, idle[client.name].status) == (b"there\n", 0)


@pytest.fixture(scope="module")
def asking(doors: Doors) -> dict[str, Done]:
    """The same, with clients that ask every second whether the server is there."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        command = f"sleep {QUIET_S}; echo there"
        found = {client.name: pool.submit(client.run_with_keepalives, doors(), command) for client in CLIENTS}
        return {name: done.result() for name, done in found.items()}


@every_client
def test_a_clients_keepalives_are_answered(client: Client, asking: dict[str, Done]) -> None:
    assert (asking[client.name].stdout, asking[client.name].status) == (b"there\n", 0)


@every_client
def test_a_client_that_finds_another_host_key_goes_no_further(client: Client, doors: Doors, folder: Path) -> None:
    door = doors(host_key_of="stranger")
    try:
        done = client.run(door, f"touch {folder}/ran")
    except client.host_key_errors:
        pass
    else:
        assert done.status in {1, 255}

    assert not list(folder.iterdir())
