"""Whole trees of files through a command, as people copy them where nothing but a command is to be had."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.clients_programs import OpenSsh

if TYPE_CHECKING:
    from pathlib import Path

    from support.clients import Door


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of many kinds."""
    top = tmp_path / "tree"
    (top / "a folder" / "deep").mkdir(parents=True)
    (top / "empty").touch()
    (top / "a folder" / "bytes").write_bytes(os.urandom(3_000_000))
    (top / "a folder" / "deep" / "grüße\n").write_text("a name with a line feed")
    (top / "program").write_text("#!/bin/sh\n")
    (top / "program").chmod(0o750)
    (top / "link").symlink_to("a folder/bytes")
    return top


def listed(top: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: its mode and what it holds."""
    found = {}
    for path in sorted(top.rglob("*")):
        holds = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(top))] = (path.lstat().st_mode, holds)
    return found


def test_a_tree_goes_up_and_comes_back_through_tar(tree: Path, door: Door, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    back.mkdir()
    packed = subprocess.run(["tar", "-c", "-C", tree, "."], capture_output=True, check=True).stdout

    up = OpenSsh().run(door, f"mkdir {there} && tar -x -p -C {there}", packed)
    down = OpenSsh().run(door, f"tar -c -C {there} .")
    subprocess.run(["tar", "-x", "-p", "-C", back], input=down.stdout, check=True)

    assert (up.status, up.stderr, down.status, down.stderr) == (0, b"", 0, b"")
    assert listed(there) == listed(tree)
    assert listed(back) == listed(tree)


def test_rsync_copies_a_tree_where_the_container_has_rsync(tree: Path, door: Door, tmp_path: Path) -> None:
    client, there = OpenSsh(), tmp_path / "there"
    *ssh, host = client.argv(door)
    argv = ["rsync", "-rlp", "-e", shlex.join(ssh), f"{tree}/", f"{host}:{there}"]

    done = subprocess.run(argv, env=client.environment(door), capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert listed(there) == listed(tree)
