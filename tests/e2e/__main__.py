"""The trip tests against any cluster; started by `make e2e` and `make e2e-clean`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from e2e import stage
from support.grounds import VARIABLE, KubectlError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent
TESTS = "tests/trip"

EMBEDDED_ONLY: Mapping[str, str] = {
    "tests/trip/test_demo.py": "the demo brings a cluster of its own",
    "tests/trip/test_modes.py": "rights are changed, and the API server is made to fail",
    "tests/trip/test_targets.py": "workloads of the embedded cluster's images are made, and the cluster forgets",
    "tests/trip/test_v4.py": "an API server that speaks v4 alone is started",
    "tests/trip/test_endings.py::test_a_stream_that_breaks_gives_255_and_one_line_that_says_why": "a stream is cut",
    "tests/trip/test_shell.py::test_bash_is_the_shell_where_there_is_one_and_sh_elsewhere": "two images with shells",
    "tests/trip/test_exec.py::test_a_container_without_a_shell_runs_its_own_program_by_argv": "a program of its image",
    "tests/trip/test_exec.py::test_a_container_without_a_shell_gets_input_whole": "a program of its image",
    "tests/trip/test_debug.py::test_a_program_left_where_there_is_no_shell_is_told_of": "a program of its image",
    "tests/trip/test_signals.py::test_where_there_is_no_shell_to_deliver_it_that_is_said": "a program of its image",
    "tests/trip/test_signals.py::test_a_flood_of_signals_costs_a_few_execs": "what was ever executed is counted",
}
"""Tests that another cluster cannot be asked for, and why."""

BASH_ONLY: Mapping[str, str] = {
    "tests/trip/test_shell.py::test_control_c_z_and_d_do_what_they_do": "its words for a stopped job",
    "tests/trip/test_shell.py::test_input_that_ends_ends_a_shell_on_a_terminal_too": "its line editor's echo",
}
"""Tests that an image with a lesser shell cannot be asked for, and why."""

FAILED = 1


def main() -> int:
    """Prepare, test, clean; returns pytest's status, or 1 if the cluster refused."""
    arguments = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if arguments.clean:
            stage.clean(arguments.kubeconfig, _say)
            return 0
        return _test(arguments)
    except KubectlError as error:
        for told in filter(None, (error.__context__, error)):  # what went wrong, and then what could not be removed
            _say(str(told))
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e", description=__doc__)
    parser.add_argument("--kubeconfig", type=_file, required=True, help="of somebody who may make namespaces and roles")
    parser.add_argument("--image", default="debian:stable-slim", help="has sh (default: %(default)s)")
    parser.add_argument(
        "--shell-less-image", default="registry.k8s.io/pause:3.10", help="has one program (default: %(default)s)"
    )
    parser.add_argument("--clean", action="store_true", help="only remove what earlier runs left behind")
    parser.add_argument("pytest", nargs="*", help=f"arguments for pytest, after -- (default: {TESTS})")
    return parser


def _file(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: there is no such file")
    return path


def _test(arguments: argparse.Namespace) -> int:
    images = stage.Images(image=arguments.image, shell_less=arguments.shell_less_image)
    with tempfile.TemporaryDirectory(prefix="bastion-e2e") as name:
        folder = Path(name)
        with stage.prepared(arguments.kubeconfig, images, folder, _say) as ground:
            ground.write(folder / "cluster.json")
            left_out = [*EMBEDDED_ONLY]
            if not stage.has_bash(ground):
                _say(f"{arguments.image} has no bash: {len(BASH_ONLY)} tests that need one are left out")
                left_out += BASH_ONLY
            options = [f"--deselect={test}" for test in left_out]
            command = [sys.executable, "-m", "pytest", *options, *(arguments.pytest or [TESTS])]
            environment = {**os.environ, VARIABLE: str(folder / "cluster.json")}
            return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _interrupt(number: int, frame: object) -> NoReturn:
    """End as Ctrl-C does, so that everything is removed."""
    del number, frame
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"e2e: {text}", file=sys.stderr, flush=True)  # noqa: T201 - what it did


if __name__ == "__main__":
    raise SystemExit(main())
