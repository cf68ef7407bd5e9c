"""Typed input is given out only if the terminal showed it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.capture.echo import MAX_LINE, EchoGate, Hidden, Released
from support.examples import examples

I, O = "typed", "shown"  # noqa: E741 - a column of a table

CASES = {
    "a line whose echo came key by key": (
        [(I, b"l"), (O, b"l"), (I, b"s"), (O, b"s"), (I, b"\r"), (O, b"\r\nfile\r\n$ ")],
        [Released(b"ls\r")],
    ),
    "a pasted line whose echo came late": (
        [(I, b"ls -l\r"), (O, b"ls"), (O, b" -l\r\n")],
        [Released(b"ls -l\r")],
    ),
    "echo with colours and bracketed paste around it": (
        [(I, b"ls"), (O, b"\x1b[?2004l\x1b[32ml\x1b[0ms"), (I, b"\r"), (O, b"\x1b[?2004l\r\n")],
        [Released(b"ls\r")],
    ),
    "a password": ([(I, b"hunter2"), (I, b"\r"), (O, b"\r\nWelcome\r\n")], [Hidden("1-8")]),
    "a password that nothing answers but a prompt": ([(I, b"hunter2\r"), (O, b"$ ")], [Hidden("1-8")]),
    "a password whose first letters begin the next output": (
        [(I, b"We\r"), (O, b"\r\nWelcome\r\n")],
        [Hidden("1-8")],
    ),
    "a password that is shown as stars": ([(I, b"hunter2secret"), (O, b"*" * 13), (I, b"\r")], [Hidden("9-16")]),
    "noise while a password is typed": (
        [(I, b"hun"), (O, b"job done"), (I, b"ter2\r"), (O, b"\r\n")],
        [Hidden("1-8")],
    ),
    "a password that is interrupted": (
        [(I, b"hunter2\x03"), (O, b"^C\r\n")],
        [Hidden("1-8"), Released(b"\x03")],
    ),
    "a password with a mistake taken back": ([(I, b"huu\x7fnter2\r"), (O, b"\r\n")], [Hidden("9-16")]),
    "control keys alone": (
        [(I, b"\x03\x04\r\x0c")],
        [Released(b"\x03"), Released(b"\x04"), Released(b"\r"), Released(b"\x0c")],
    ),
    "an arrow key": ([(I, b"\x1b[A"), (O, b"ls -l"), (I, b"\r"), (O, b"\r\n")], [Hidden("1-8")]),
    "a line that was typed ahead of its echo": (
        [(I, b"a\rbb\r"), (O, b"a\r\nbb\r\n")],
        [Released(b"a\r"), Hidden("1-8")],
    ),
    "a line nobody has answered yet": ([(I, b"ls\r")], []),
    "a line without its end": ([(I, b"ls"), (O, b"ls")], []),
    "a line too long to hold": (
        [(I, b"x" * (MAX_LINE + 1) + b"\r"), (O, b"x" * (MAX_LINE + 1) + b"\r\n")],
        [Hidden("4097-4104")],
    ),
}


def run(steps: list[tuple[str, bytes]]) -> list[Released | Hidden]:
    gate = EchoGate()
    return [verdict for side, data in steps for verdict in (gate.typed if side == I else gate.shown)(data)]


@pytest.mark.parametrize("case", CASES)
def test_what_is_given_out_for(case: str) -> None:
    steps, expected = CASES[case]

    assert run(steps) == expected


keys = st.binary(min_size=1, max_size=12)
lines = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=6).map(lambda s: s.encode() + b"\r")


@given(st.lists(st.one_of(st.tuples(st.just(I), st.one_of(keys, lines)), st.tuples(st.just(O), keys)), max_size=20))
@examples(300)
def test_however_it_is_cut_the_result_is_the_same(steps: list[tuple[str, bytes]]) -> None:
    cut = [(side, bytes([byte])) for side, data in steps for byte in data]

    assert run(cut) == run(steps)


# Typed keys and output have no byte in common but the ends of lines: nothing is ever echoed.
typed_bytes = st.lists(st.sampled_from(b"abcXYZ019 \xc3\xa4\r\n\x03\x04\x1b\x7f\t"), max_size=30).map(bytes)
other_bytes = st.lists(st.sampled_from(b"defUVW#*$>\r\n\x1b\x08\x07"), max_size=30).map(bytes)


@given(st.lists(st.one_of(st.tuples(st.just(I), typed_bytes), st.tuples(st.just(O), other_bytes)), max_size=20))
@examples(300)
def test_without_an_echo_no_typed_character_is_given_out(steps: list[tuple[str, bytes]]) -> None:
    released = b"".join(verdict.data for verdict in run(steps) if isinstance(verdict, Released))

    assert set(released) <= {*range(0x20), 0x7F}


def test_a_flood_of_keys_behind_an_undecided_line_is_bounded() -> None:
    gate = EchoGate()
    given = gate.typed(b"x\r" + b"\r" * 100_000)

    assert len(given) > 99_000  # the line was given up as hidden, and what waited behind it went out
    assert given[0] == Hidden("1-8")
