"""`bastion demo`: the production program on an embedded cluster, with people and a record; called by cli.main."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bastion.cli.main import Cli


@click.command()
@click.option("--dir", "folder", default=".demo", show_default=True, type=click.Path(path_type=Path), help="Its files.")
@click.option("--port", default=2222, show_default=True, type=click.IntRange(0, 65535), help="Port for ssh; 0 is any.")
@click.pass_obj
def demo(cli: Cli, folder: Path, port: int) -> None:
    """Run everything on this machine: an embedded cluster, the bastion, a SQLite record. Ctrl-C ends it."""
    del cli  # the demo has settings of its own
    folder = folder.absolute()
    _make(folder)
    with _cluster(folder / "cluster") as cluster:
        from bastion import app, logs  # noqa: PLC0415 - a second of imports, while the cluster starts
        from bastion.cli import demo_files  # noqa: PLC0415 - as above

        settings = asyncio.run(demo_files.prepare(folder, port))
        logs.configure(settings.log)
        _wait_for(cluster)
        asyncio.run(
            app.serve(settings, lambda listener: click.echo(demo_files.welcome(folder, listener.port), err=False))
        )


def _make(folder: Path) -> None:
    """Make the folder and that of the cluster in it. Raises BastionError(INVALID) if it cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "cluster").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BastionError(Code.INVALID, f"--dir {folder}: {error.strerror}") from error


@contextmanager
def _cluster(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The embedded cluster as a process of its own, which ends when our end of its stdin does."""
    folder.mkdir(mode=0o700, exist_ok=True)
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "bastion.localcluster", "--dir", str(folder), "--until-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us; sessions end before their cluster does
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(cluster: subprocess.Popen[bytes]) -> None:
    assert cluster.stdout is not None
    line = cluster.stdout.readline().decode(errors="replace")
    if not line.startswith("ready "):
        raise BastionError(Code.INVALID, "the embedded cluster did not start; what it said stands above")
