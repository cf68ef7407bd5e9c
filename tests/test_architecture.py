"""The shape of the project: who may import whom, and that the map in ARCHITECTURE.md is true."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
MODULES = sorted((ROOT / "bastion").rglob("*.py"))
MOST_LINES = 400


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def headline(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def run(*command: str) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_keep_to_the_contracts() -> None:
    run("lint-imports", "--no-logo")


def test_the_linter_has_nothing_to_say() -> None:
    run("ruff", "check", ".")


def test_the_formatter_has_nothing_to_do() -> None:
    run("ruff", "format", "--check", ".")


def test_the_types_fit() -> None:
    run("mypy")


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_says_what_it_is_for_and_who_uses_it(path: Path) -> None:
    purpose, _, user = headline(path).partition("; ")

    assert purpose
    assert user.endswith("."), f"{relative(path)}: the first line must be '<what it is for>; <used by whom>.'"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_fits_into_a_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_the_map_names_every_module_in_its_own_words() -> None:
    due = {f"- `{relative(path)}`: {headline(path)}" for path in MODULES}
    found = {line for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines() if line.startswith("- `bastion/")}

    assert not due - found, "missing in ARCHITECTURE.md:\n" + "\n".join(sorted(due - found))
    assert not found - due, "not true any more in ARCHITECTURE.md:\n" + "\n".join(sorted(found - due))
