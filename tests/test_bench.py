"""That the benchmark can be run and says what is so; how fast anything is, is not tested."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from bench import figures, report
from bench.figures import DOWNLOAD, KUBECTL, SQLITE, SSHD, UNRECORDED, Figure
from bench.options import parser
from bench.stage import BLOCK, log_text

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent
TINY = [
    "--rounds=1",
    "--size-mb=1",
    "--sessions=1",
    "--keys=5",
    "--crowd=2",
    "--stall-s=0.2",
    "--flood-s=0.2",
    "--pods=30",
]


def figure(who: str, *samples: float, what: str = DOWNLOAD) -> Figure:
    return Figure(what=what, who=who, unit="MB/s", samples=samples)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    argv = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_every_measure_runs_and_gives_all_of_its_figures(tmp_path: Path) -> None:
    done = bench(*TINY, "--who=sqlite,websocket", f"--json={tmp_path}/bench.json")

    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "bench.json").read_text())
    assert [f for f in found["figures"] if f["median"] is None or f["note"]] == []
    assert {target["of"][0] for target in found["targets"] if target["of"][1] == SQLITE} == {
        figures.CPU,
        figures.CPU_SHARED,
        figures.ECHO_P50,
        figures.LAG_P99,
        figures.SESSION_MEMORY,
        figures.STALLED_DOWNLOAD,
        figures.STALLED_UPLOAD,
        figures.LOGIN_P99 + figures.FROM_ONE,
        figures.LOGIN_P99 + figures.FROM_MANY,
    }
    assert {f["what"] for f in found["figures"] if f["who"] == SQLITE} >= {
        figures.DOWNLOAD,
        figures.UPLOAD,
        figures.OPEN,
        figures.OPEN_SHARED,
        figures.FRAMES_PTY,
        figures.FRAMES_PIPE,
    }
    for what in (figures.DOWNLOAD, figures.FRAMES_PTY, figures.SESSION_MEMORY):
        assert what in done.stdout


@pytest.mark.parametrize("wrong", ["--only=a,z", "--who=telnet", "--rounds=0", "--profile=sleep"])
def test_what_it_does_not_know_it_refuses(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser(["a", "b"], ["open"], ["sshd"]).parse_args([wrong])

    assert wrong.partition("=")[0] in capsys.readouterr().err


def test_a_kubeconfig_of_the_environment_leads_nowhere() -> None:
    argv, wanted = ["make", "--dry-run", "bench"], ["KUBECONFIG=/a file", "ONLY=b"]
    env = os.environ | {"KUBECONFIG": "/from/the/environment", "POD": "prod/db"}

    unasked = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    asked = subprocess.run([*argv, *wanted], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "--kubeconfig" not in unasked
    assert "--pod" not in unasked
    assert "--kubeconfig='/a file'" in asked
    assert "--only='b'" in asked


def test_ratios_are_those_of_each_round_so_that_a_machine_that_slows_down_does_not_show() -> None:
    slowing = [figure(UNRECORDED, 60, 30, 6), figure(SSHD, 100, 50, 10)]

    [verdict] = figures.verdicts(slowing)

    assert verdict.value == pytest.approx(0.6)
    assert verdict.met


def test_a_failed_round_is_left_out_and_one_that_always_failed_meets_nothing() -> None:
    some = [figure(SQLITE, math.nan, 50), figure(KUBECTL, 100, 100)]
    none = [figure(SQLITE, math.nan, math.nan), figure(KUBECTL, 100, 100)]

    assert [verdict.value for verdict in figures.verdicts(some)] == [0.5]
    assert [verdict.met for verdict in figures.verdicts(none)] == [False]
    assert json.loads(report.as_json(none, {}))["figures"][0]["samples"] == [None, None]


def test_a_target_is_met_on_its_own_side() -> None:
    echoes = [
        figure(SQLITE, 1.2, what=figures.ECHO_P50),
        figure(figures.WEBSOCKET, 0.4, what=figures.ECHO_P50),
        figure(SQLITE, 6.5, what=figures.CPU),
    ]

    assert [(round(verdict.value, 3), verdict.met) for verdict in figures.verdicts(echoes)] == [
        (6.5, False),
        (0.8, True),
    ]


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [([3.0, 1.0, 2.0], 50, 2.0), ([1.0], 99, 1.0), (range(1, 101), 99, 99.0), (range(1, 301), 99, 297.0)],
)
def test_a_percentile_is_a_sample_that_so_many_are_not_above(
    samples: Sequence[float], percent: float, expected: float
) -> None:
    assert figures.percentile(samples, percent) == expected


def test_what_is_transferred_compresses_as_logs_do() -> None:
    text = log_text(BLOCK)

    assert len(text) == BLOCK
    assert 0.2 < len(zstandard.compress(text, 1)) / BLOCK < 0.5
