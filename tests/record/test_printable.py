"""Nothing out of a record acts on the terminal it is shown on."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.capture.escapes import MAX_SEQUENCE, Token, Tokenizer, What
from bastion.capture.lines import MAX_COLUMNS, LineRenderer
from bastion.printable import ReplayFilter, line, line_of_bytes
from support.examples import examples

# Said here once more and in another way, so that a mistake there is not a mistake here.
ALLOWED = re.compile(
    r"\x1b(?:[78DEM]|[()][0B]"
    r"|\[[0-9;:]*[ABCDEFGHIJKLMPXZ@`abdefmr]|\[[0-9]*[ST]|\[[su]|\[4[hl]"
    r"|\[\?(?:6|7|12|25|47|1047|1048|1049)(?:;(?:6|7|12|25|47|1047|1048|1049))*[hl])"
)


def played(data: bytes) -> str:
    return ReplayFilter().feed(data)


def assert_harmless(text: str) -> None:
    rest = ALLOWED.sub("", text)
    controls = {char for char in rest if unicodedata.category(char) == "Cc"}

    assert controls <= set("\b\t\n\r\x0e\x0f")


pieces = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [
            b"\x1b",
            b"\x1b[",
            b"\x1b]",
            b"\x1bP",
            b"\x1b\\",
            b"\x07",
            b"\x9b",
            b"\xc2\x9b",
            b"?",
            b";",
            b"6n",
            b"c",
            b"0;",
        ]
    ),
    st.sampled_from([b"\x1b[31m", b"\x1b[?1049h", b"\x1b[2J", b"\x1b[?1000h", b"\x1b[21t", b"\x1b[1;2;3;4;5T"]),
)


@given(st.lists(pieces, max_size=30))
@examples(500)
def test_what_is_played_holds_no_sequence_but_those_allowed(parts: list[bytes]) -> None:
    replay = ReplayFilter()

    assert_harmless("".join(replay.feed(part) for part in parts))


@given(st.lists(pieces, max_size=20))
@examples(300)
def test_however_it_is_cut_the_same_is_played(parts: list[bytes]) -> None:
    data = b"".join(parts)
    replay = ReplayFilter()

    assert "".join(replay.feed(bytes([byte])) for byte in data) == played(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b]52;c;cm0gLXJmIC8=\x07",
        b"\x1b]0;title\x1b\\",
        b"\x1b]8;;http://evil\x1b\\",
        b"\x1bP$qm\x1b\\",
        b"\x1b_Gf=100;AAAA\x1b\\",
        b"\x1b^private\x1b\\",
        b"\x1b[21t",
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[6n",
        b"\x1b[?6n",
        b"\x1b[>4;1m",
        b"\x1b[?1000;1006h",
        b"\x1b[?2004h",
        b"\x1b[99999999b",
        b"\x1b[1;2;3;4;5T",
        b"\x1b[!p",
        b"\x1bc",
        b"\x1b[5i",
        b"\x05",
        b"\x07",
        "\x9b\x9c".encode(),
        "\u202e".encode(),
        b"\x1b[" + b"1" * MAX_SEQUENCE + b"m",
    ],
)
def test_what_could_act_is_dropped(data: bytes) -> None:
    assert played(b"a" + data + b"b") == "ab"


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b[1;38;5;196mred\x1b[m\r\n",
        b"\x1b[38:2::1:2:3mx",
        b"\x1b[2J\x1b[H\x1b[10;20Hx\x1b[K",
        b"\x1b[?1049h\x1b[?25l\x1b[1;24r\x1b[?1049l",
        b"\x1b7\x1b8\x1bM\x1b(0lqk\x1b(B",
        "gr\u00fc\u00df \u65e5\u672c \U0001f468\u200d\U0001f469".encode(),
    ],
)
def test_what_a_picture_needs_passes_as_it_is(data: bytes) -> None:
    assert played(data) == data.decode()


def test_modes_that_are_allowed_pass_without_their_neighbours() -> None:
    assert played(b"\x1b[?1000;25;2004h") == "\x1b[?25h"


def test_an_8_bit_csi_is_no_csi() -> None:
    assert played(b"a\x9b6n") == "a\ufffd6n"


@given(st.binary(max_size=300), st.integers(1, 7))
def test_tokens_are_the_stream_in_order(data: bytes, step: int) -> None:
    tokens = Tokenizer()
    found = [token for at in range(0, len(data), step) for token in tokens.feed(data[at : at + step])]
    text = b"".join(token.data for token in found if token.what is What.TEXT)

    assert not re.search(rb"[\x00-\x1f\x7f]", text)
    assert all(len(token.data) == 1 for token in found if token.what is What.CONTROL)


def test_a_sequence_without_end_is_not_kept() -> None:
    tokens = Tokenizer()
    found = [list(tokens.feed(data)) for data in (b"\x1b[", b"1" * 100_000, b"m")]

    assert found == [[], [], [Token(What.BROKEN, b"")]]
    assert len(tokens._open) == 0


# --- one record, one line ------------------------------------------------------------


@given(st.text(max_size=100))
@examples(300)
def test_a_field_is_one_line_that_cannot_act(text: str) -> None:
    shown = line(text)

    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in shown)
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ümläut 日本", "plain ümläut 日本"),
        ("\x1b[2J\r\n\x7f\x9b", "\\x1b[2J\\x0d\\x0a\\x7f\\x9b"),
        ("a\u202eb\u2066c\u2028d\u2029", "a\\u202eb\\u2066c\\u2028d\\u2029"),
        ("\udc80\U000e0041", "\\udc80\\U000e0041"),
    ],
)
def test_escapes_are_visible(text: str, shown: str) -> None:
    assert line(text) == shown


def test_bytes_that_are_not_utf_8_are_visible() -> None:
    assert line_of_bytes(b"caf\xe9 \x1b") == "caf\\xe9 \\x1b"


@given(st.binary(max_size=100))
@examples(300)
def test_any_bytes_are_one_line_that_cannot_act(data: bytes) -> None:
    shown = line_of_bytes(data)

    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in shown)


# --- lines of text ---------------------------------------------------------------------


def rendered(data: bytes, step: int = 10_000) -> list[str]:
    renderer = LineRenderer()
    found = [text for at in range(0, len(data), step) for text in renderer.feed(data[at : at + step])]
    return [*found, *renderer.finish()]


NOT_SHOWN = "[alternate screen: {} not shown; see play]"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\r\ntwo\r\nthree", ["one", "two", "three"]),
        (b"10%\r20%\r100%\r\n", ["100%"]),
        (b"lsx\b \b -l\r\n", ["ls -l"]),
        (b"\x1b[1;31mred\x1b[0m text\r\n", ["red text"]),
        (b"long line\r\x1b[Kshort\r\n", ["short"]),
        (b"abc\x1b[2D\x1b[P\r\n", ["ac"]),
        (b"ac\b\x1b[@b\r\n", ["abc"]),
        (b"a\tb\r\n", ["a       b"]),
        (b"x\x1b[5Gy\r\n", ["x   y"]),
        (b"$ vim\r\n\x1b[?1049hfull screen\r\n~\x1b[?1049l$ \r\n", ["$ vim", NOT_SHOWN.format("2 lines"), "$"]),
        (b"\x1b[?47hnever left\r\n", [NOT_SHOWN.format("1 line")]),
        (b"\x1b[?1047h\x1b[3;1Ha\x1b[mb\x1b[5Hc\x1b[1Ad\x1b[?1047l$ ", [NOT_SHOWN.format("3 lines"), "$"]),
        (
            b"half\x1b[?1049hx\n\n\x1b[?1049l\x1b[?1049hy\x1b[?1049l done",
            [NOT_SHOWN.format("1 line")] * 2 + ["half done"],
        ),
        (b"\x1b[?1049h\x1b[2J\x1b[?1049l$ ", ["$"]),
        ("gr\u00fc\u00dfe\r\n".encode(), ["gr\u00fc\u00dfe"]),
        (b"\xff\r\n", ["\ufffd"]),
        (b"\x1b]0;title\x07x\r\n", ["x"]),
    ],
)
def test_lines_are_what_stood_there_in_the_end(data: bytes, lines: list[str]) -> None:
    assert rendered(data) == lines
    assert rendered(data, step=1) == lines


@given(st.lists(pieces, max_size=30))
def test_lines_have_no_control_characters(parts: list[bytes]) -> None:
    for text in rendered(b"".join(parts)):
        assert not re.search(r"[\x00-\x1f\x7f]", text)


def test_no_line_grows_without_bound() -> None:
    lines = rendered(b"\x1b[9999@" * 500 + b"\x1b[9999Cx" * 500 + b"y" * 100_000)

    assert max(map(len, lines)) <= MAX_COLUMNS
