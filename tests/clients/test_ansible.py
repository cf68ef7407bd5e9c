"""Ansible's raw module, with an inventory of pods and its own defaults for everything else."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.clients import HOST
from support.trips import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.clients import Door
    from support.trips import Bastion

INVENTORY = """\
[pods]
web ansible_user=web.default
sidecar ansible_user=multi.default+sidecar
api ansible_user=deploy_api.shop

[pods:vars]
ansible_host={host}
ansible_port={port}
ansible_ssh_private_key_file={key}
ansible_ssh_common_args='-o IdentitiesOnly=yes -o UserKnownHostsFile={known_hosts}'
"""

CLOSED = f"Shared connection to {HOST} closed.\n"
"""What ssh says on stderr at the end of a session with a terminal; Ansible shows it after the output."""


class Ansible:
    """The `ansible` command in a home of its own."""

    def __init__(self, home: Path, door: Door) -> None:
        self._home = home
        known_hosts = door.home / "known_hosts"
        known_hosts.write_text(f"[{HOST}]:{door.port} {door.host_key}\n")
        self._inventory = home / "inventory"
        self._inventory.write_text(INVENTORY.format(host=HOST, port=door.port, key=door.key, known_hosts=known_hosts))

    def raw(self, hosts: str, command: str) -> tuple[int, dict[str, tuple[int, str]]]:
        """Run a command on hosts; Ansible's own status, and of each host the status and the output, then errors."""
        argv = [str(BIN / "ansible"), hosts, "-i", str(self._inventory), "-m", "raw", "-a", command]
        done = subprocess.run(
            argv, env=self._environment, cwd=self._home, capture_output=True, text=True, timeout=120, check=False
        )
        heads = list(re.finditer(r"^(\w+) \| [A-Z]+!? \| rc=(\d+) >>\n", done.stdout, re.MULTILINE))
        ends = [*(head.start() for head in heads[1:]), len(done.stdout)]
        assert heads, (done.stdout, done.stderr)
        return done.returncode, {
            head[1]: (int(head[2]), done.stdout[head.end() : end].partition(CLOSED)[0])
            for head, end in zip(heads, ends, strict=True)
        }

    def let_go(self) -> None:
        """End the connections that Ansible leaves open for its next call."""
        for path in (self._home / ".ansible" / "cp").glob("*"):
            subprocess.run(
                ["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", HOST], check=True, capture_output=True
            )

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self._home), "LANG": "C.UTF-8"}


@contextmanager
def _ansible(door: Door) -> Iterator[Ansible]:
    with tempfile.TemporaryDirectory(prefix="an") as home:  # a short name: a socket's path must fit 107 bytes
        ansible = Ansible(Path(home), door)
        try:
            yield ansible
        finally:
            ansible.let_go()


def test_several_pods_in_one_call_each_with_its_own_output(door: Door) -> None:
    with _ansible(door) as ansible:
        status, hosts = ansible.raw("pods", "echo \"$HOSTNAME  $((6*7))\" 'x  y'; printf 'a\\tb'")

    assert status == 0
    assert sorted(hosts) == ["api", "sidecar", "web"]
    assert hosts["web"] == (0, "web  42 x  y\na\tb")
    assert hosts["sidecar"] == (0, "multi  42 x  y\na\tb")
    # A choice among pods is told on a terminal, and raw asks for one.
    assert re.fullmatch(r"(api-\w+-\w{5})  42 x  y\na\tbbastion: \1 of deploy/api\n", hosts["api"][1])


def test_much_output_is_whole_and_a_slow_command_is_waited_for(door: Door) -> None:
    with _ansible(door) as ansible:
        _, hosts = ansible.raw("web", "seq 1 20000; sleep 2; echo end")

    assert hosts["web"][1] == "".join(f"{number}\n" for number in range(1, 20_001)) + "end\n"


def test_a_command_that_fails_is_a_host_that_failed_and_the_next_goes_through_the_connection_that_was_kept(
    door: Door, house: Bastion
) -> None:
    word = f"word-{uuid.uuid4().hex}"
    with _ansible(door) as ansible:
        failed = ansible.raw("web", f"echo before; exit 3; : {word}")
        passed = ansible.raw("web", f": {word}")

    assert failed == (2, {"web": (3, "before\n")})
    assert passed == (0, {"web": (0, "")})
    sessions = {one["session"] for one in house.audit("commands", "--limit", "20") if word in one["text"]}
    connections = {one["connection"] for one in house.audit("sessions", "--limit", "20") if one["id"] in sessions}
    assert (len(sessions), len(connections)) == (2, 1)
