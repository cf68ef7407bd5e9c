"""Whatever comes in whatever pieces, all of it is shown but the first mark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.pods.endmark import EndMark
from support.examples import examples

MARK = b"\x1e0123\x1d"
ALMOST = st.lists(st.sampled_from([MARK, MARK[:1], MARK[:-1], MARK[1:], b"0", b"\x1e0", b"x", b"\x1d"]), max_size=8)
CUTS = st.lists(st.integers(0, 40), max_size=6)


def shown(data: bytes, cuts: list[int], *, releases: bool) -> tuple[bytes, EndMark]:
    """What is shown of data that comes in pieces; releases: what is held back is let go after each."""
    looking, out, begin = EndMark(MARK), b"", 0
    for end in [*sorted(cuts), len(data)]:
        out += looking.take(data[begin:end])
        out += looking.release() if releases else b""
        begin = max(begin, end)
    return out + looking.release(), looking


@examples(300)
@given(pieces=ALMOST, cuts=CUTS)
def test_all_is_shown_but_the_first_mark(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)

    out, looking = shown(data, cuts, releases=False)

    assert out == data.replace(MARK, b"", 1)
    assert looking.found == (MARK in data)


@examples(300)
@given(pieces=ALMOST, cuts=CUTS)
def test_what_was_let_go_of_a_mark_is_shown_once_and_the_mark_still_found(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)

    out, looking = shown(data, cuts, releases=True)

    assert looking.found == (MARK in data)
    at = data.find(MARK)
    rests = {data[:at] + MARK[:count] + data[at + len(MARK) :] for count in range(len(MARK))} if at >= 0 else {data}
    assert out in rests


def test_only_what_may_begin_a_mark_is_held_back() -> None:
    looking = EndMark(MARK)

    assert looking.take(b"text\x1e01") == b"text"
    assert looking.is_doubtful
    assert looking.take(b"no") == b"\x1e01no"
    assert not looking.is_doubtful


def test_most_of_a_mark_is_no_doubt() -> None:
    looking = EndMark(MARK)

    assert looking.take(b"text" + MARK[:-1]) == b"text"
    assert not looking.is_doubtful
    assert looking.take(MARK[-1:]) == b""
    assert looking.found


@pytest.mark.parametrize("data", [b"", b"\x1e", b"\x1e\x1d"])
def test_without_a_mark_nothing_is_looked_for(data: bytes) -> None:
    looking = EndMark(b"")

    assert looking.take(data) == data
    assert (looking.found, looking.is_doubtful) == (False, False)
