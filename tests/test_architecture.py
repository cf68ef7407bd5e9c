"""The shape of the project: who may import whom, and that first lines and the map in ARCHITECTURE.md are true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from bastion.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
MODULES = sorted((ROOT / "bastion").rglob("*.py"))
MOST_LINES = 400
NO_MODULES = {"each", "every", "if", "its", "nothing", "one", "people", "tests", "the", "whatever", "where"}
"""How what stands beside or instead of modules begins, where a first line says who uses one: "the rest of pods"."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def headline(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {dotted(path): path for path in MODULES}


def is_in(name: str, room: str) -> bool:
    """Whether a module is the one of that name, or in the package of that name."""
    return name == room or name.startswith(f"{room}.")


def imported(path: Path) -> Iterator[str]:
    """What of ours a module imports, also lazily or for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in NAMES else node.module or ""
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
    if path == Path(main.__file__):
        yield from (f"bastion.cli.{command}" for command in main.bastion.list_commands(click.Context(main.bastion)))


@cache
def importers() -> dict[str, set[str]]:
    """By module, who imports it. What a package hands on from a module, that module's users import from the package."""
    found = defaultdict(set)
    for user, path in NAMES.items():
        for name in imported(path):
            found[name].add(user)
    for name in NAMES:
        for package in found[name] & {dotted(path) for path in MODULES if path.name == "__init__.py"}:
            found[name] |= found[package]
    return found


def said_users(line: str) -> Iterator[str]:
    """The names that a first line gives after "used by" and its like; a process may be started without an import."""
    claim = re.sub(r"\s*\([^)]*\)", "", line.partition("; ")[2]).partition(". ")[0].removesuffix(".")
    naming = strict = False
    for item in re.split(r",? and |, ", claim):
        before, by, after = f" {item}".rpartition(" by ")
        if by:
            naming = strict = not before.endswith("started")
        word = after.split()[0].removesuffix(".py")
        if not naming or word.startswith("`"):
            continue
        if word in NO_MODULES:
            strict = False
        elif strict or "." in word:
            yield word
            naming = len(after.split()) == 1


def meant(word: str, name: str) -> list[str]:
    """The modules and packages that a word of a module's first line may mean: beside it, or from the top."""
    package = name if NAMES[name].name == "__init__.py" else name.rpartition(".")[0]
    return [whole for whole in (f"{package}.{word}", f"bastion.{word}") if whole in NAMES]


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
def test_who_is_said_to_use_a_module_imports_it(path: Path) -> None:
    name = dotted(path)
    whole = path.name == "__init__.py"
    users = {user for used in NAMES if used == name or (whole and is_in(used, name)) for user in importers()[used]}
    outside = {user for user in users if not (whole and is_in(user, name))}

    for word in said_users(headline(path)):
        rooms = meant(word, name)
        if not rooms:
            pytest.fail(f"{relative(path)}: its first line says that {word} uses it, and there is no such module")
        if not any(is_in(user, room) for user in outside for room in rooms):
            pytest.fail(
                f"{relative(path)}: its first line says that {word} uses it, which does not import it; those who do: "
                + ", ".join(sorted(user.removeprefix("bastion.") for user in outside))
            )


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("A; used by ssh, app and settings.", ["ssh", "app", "settings"]),
        ("A; used by store (writing and reading) and cli.audit (verifying).", ["store", "cli.audit"]),
        ("A; run by pods.catalog, one for each kind and namespace.", ["pods.catalog"]),
        ("A; opened by session, made by console.looks.", ["session", "console.looks"]),
        ("A; used by its menus and console.choosing.", ["console.choosing"]),
        ("A; used by session.py before anything is looked up.", ["session"]),
        ("A; used by ssh (`ports.A`) and by cli.people.", ["ssh", "cli.people"]),
        ("A; used by api. Pure.", ["api"]),
        ("A; started by cli for the demo and by tests.", []),
        ("A; used by `bastion keys add`.", []),
    ],
)
def test_the_users_that_a_first_line_names_are_found(line: str, names: list[str]) -> None:
    assert list(said_users(line)) == names


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_fits_into_a_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_the_map_names_every_module_in_its_own_words() -> None:
    due = {f"- `{relative(path)}`: {headline(path)}" for path in MODULES}
    found = {line for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines() if line.startswith("- `bastion/")}

    assert not due - found, "missing in ARCHITECTURE.md:\n" + "\n".join(sorted(due - found))
    assert not found - due, "not true any more in ARCHITECTURE.md:\n" + "\n".join(sorted(found - due))
