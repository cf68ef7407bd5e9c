"""Tables fit the terminal, and nothing that others wrote acts on it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion import printable
from bastion.console import tables
from bastion.console.tables import Column, Paper
from bastion.model import Pty, WindowSize

PIPE = Paper(cols=None, crlf=False)


def test_a_table_is_aligned_and_ends_without_blanks() -> None:
    rows = [("web", "1/1"), ("api-7d4f", "0/1")]

    assert tables.table((Column("NAME"), Column("READY")), rows, PIPE) == [
        "NAME      READY",
        "web       1/1",
        "api-7d4f  0/1",
    ]


def test_columns_of_less_weight_go_first_and_long_names_lose_their_middle() -> None:
    columns = (Column("NAME", least=9), Column("NOTE", rank=1), Column("MORE", rank=2))
    rows = [("abcdefghijklmnop", "note", "more")]

    assert tables.table(columns, rows, Paper(cols=28, crlf=True))[1] == "abcdefghijklmnop  note  more"
    assert tables.table(columns, rows, Paper(cols=22, crlf=True))[1] == "abcd...nop  note  more"
    assert tables.table(columns, rows, Paper(cols=20, crlf=True))[1] == "abcdef...lmnop  note"
    assert tables.table(columns, rows, Paper(cols=10, crlf=True))[1] == "abcd...nop"


@given(
    st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30)), max_size=5),
    st.integers(20, 90),
)
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], cols: int) -> None:
    columns = (Column("A", least=8), Column("B", least=8), Column("C", rank=1))

    lines = tables.table(columns, rows, Paper(cols=cols, crlf=True))

    assert max(map(tables.width, lines)) <= cols
    assert len(lines) == len(rows) + 1


def test_a_column_that_folds_goes_on_beneath() -> None:
    columns = (Column("AGE"), Column("MESSAGE", least=7, folds=True))

    assert tables.table(columns, [("5m", "it was pulled"), ("9m", "")], Paper(cols=12, crlf=True)) == [
        "AGE  MESSAGE",
        "5m   it was",
        "     pulled",
        "9m",
    ]
    assert tables.table((Column("A"), Column("B", folds=True)), [("x", "one seven 3")], Paper(cols=9, crlf=True)) == [
        "A  B",
        "x  one",
        "   seven",
        "   3",
    ]


def test_a_text_beside_its_head_goes_on_beneath_its_beginning() -> None:
    said = tables.beside("Name:   ", "one two three", Paper(cols=16, crlf=True))

    assert said == ["Name:   one two", "        three"]
    assert tables.beside("Name:   ", "one two three", PIPE) == ["Name:   one two three"]
    assert tables.beside("Name:   ", "", PIPE) == ["Name:"]


@given(st.text(st.characters(exclude_characters=" "), max_size=60), st.integers(12, 40))
def test_a_text_beside_its_head_fits_and_is_whole(text: str, cols: int) -> None:
    lines = tables.beside("ab: ", text, Paper(cols=cols, crlf=True))

    assert max(map(tables.width, lines)) <= cols
    assert "".join(line[4:] for line in lines) == printable.line(text)


@given(st.text(max_size=40), st.integers(2, 40))
def test_what_is_folded_fits_and_is_whole(text: str, room: int) -> None:
    pieces = tables.folded(text, room)

    assert "".join(pieces) == text
    assert max(map(tables.width, pieces)) <= room


@given(st.text(max_size=40), st.integers(1, 40))
def test_what_is_cut_fits_and_keeps_both_ends(text: str, room: int) -> None:
    cut = tables.cut(text, room)

    assert tables.width(cut) <= room
    if tables.width(text) <= room:
        assert cut == text


@given(st.lists(st.text(max_size=20), max_size=5), st.booleans())
def test_a_text_holds_no_control_but_its_line_ends(lines: list[str], crlf: bool) -> None:  # noqa: FBT001 - generated
    said = tables.text(lines, Paper(cols=80, crlf=crlf)).decode()

    end = "\r\n" if crlf else "\n"
    assert said.count(end) == len(lines)
    assert all(char.isprintable() or char == " " or not _acts(char) for char in said.replace(end, ""))


def _acts(char: str) -> bool:
    return ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F


def test_json_is_ascii_and_one_line_each() -> None:
    said = tables.json_lines([{"text": "\x1b[31m\u2028é"}, {}], PIPE)

    assert said.isascii()
    assert b"\x1b" not in said
    assert [json.loads(line) for line in said.splitlines()] == [{"text": "\x1b[31m\u2028é"}, {}]


@pytest.mark.parametrize(
    ("pty", "paper"),
    [
        (None, PIPE),
        (Pty(term="xterm", size=WindowSize(cols=100, rows=30)), Paper(cols=100, crlf=True)),
        (Pty(term="xterm", size=WindowSize(cols=0, rows=0)), Paper(cols=None, crlf=True)),
    ],
)
def test_what_is_written_on_is_the_terminal_or_a_pipe(pty: Pty | None, paper: Paper) -> None:
    assert tables.paper(pty) == paper
