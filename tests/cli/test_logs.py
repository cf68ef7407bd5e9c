"""The operators' log: one line per event, safe on a terminal, JSON unless it is read by a person."""

from __future__ import annotations

import json
import logging
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bastion import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Wanted:
    format: str = "json"
    level: str = "info"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


HOSTILE = "a\r\nb\x1b]0;boo\x07\u2028\u202e\x9b1m\ud800"


def test_an_event_is_one_json_object(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Wanted())
    structlog.get_logger("bastion").info("listening", port=2222, roles=("a", "b"))

    line = json.loads(capfd.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "listening", "level": "info", "logger": "bastion", "port": 2222, "roles": ["a", "b"]}


@pytest.mark.parametrize("style", ["json", "console"])
def test_hostile_values_stay_on_their_line_and_cannot_act_on_a_terminal(
    capfd: pytest.CaptureFixture[str], style: str
) -> None:
    logs.configure(Wanted(format=style))
    structlog.get_logger("bastion").warning(
        HOSTILE, login=HOSTILE, nested={HOSTILE: [HOSTILE]}, raw=HOSTILE[:-1].encode()
    )
    logging.getLogger("asyncssh").warning("from a library: %s", HOSTILE)
    logging.getLogger("else").error(HOSTILE)

    said = capfd.readouterr().err
    assert said.count("\n") == 3
    assert said.replace("\n", "").isprintable()


TEXTS = st.text(st.characters() | st.sampled_from("\r\n\x1b\x9b\u2028\u202e"), max_size=8)


@given(st.dictionaries(TEXTS, TEXTS | st.binary(max_size=8) | st.integers() | st.lists(TEXTS, max_size=2), max_size=3))
def test_every_value_becomes_one_line(values: dict[str, object]) -> None:
    event = logs.one_line(None, "info", {f"x{key}": value for key, value in values.items()})

    categories = {unicodedata.category(char) for char in json.dumps(dict(event), ensure_ascii=False)}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_a_traceback_is_one_line_too(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Wanted())
    try:
        int("two\nlines")
    except ValueError:
        structlog.get_logger("bastion").exception("failed")

    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "ValueError" in json.loads(said)["exception"]
    assert "capfd" not in said  # the values of variables are not shown


def test_what_asyncssh_says_below_warning_is_never_written(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Wanted(level="debug"))
    logging.getLogger("asyncssh").info("Command: cat /run/secrets/token")
    logging.getLogger("asyncssh.sftp").debug("as much")
    structlog.get_logger("bastion").debug("ours")

    said = capfd.readouterr().err
    assert "ours" in said
    assert said.count("\n") == 1


def test_lines_below_the_level_are_not_written(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Wanted(level="warning"))
    structlog.get_logger("bastion").info("quiet")

    assert capfd.readouterr().err == ""
