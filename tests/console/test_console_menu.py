"""The menu as a function of keys: on a terminal with a cursor, and on one without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.console import keys, tables
from bastion.console.choices import Choice, Left, Opened, matching
from bastion.console.keys import Character, Key, Press
from bastion.console.menu import MOST_SHOWN, Menu, opened
from bastion.console.numbered import NumberedList
from bastion.model import TargetLogin, WindowSize
from support.screen import Screen

USUAL = WindowSize(cols=80, rows=24)


def choice(name: str, namespace: str = "shop", container: str = "", note: str = "Running") -> Choice:
    where = TargetLogin(kind="", name=name, namespace=namespace, container=container)
    return Choice(login=where, text=str(where), note=note)


SHOP = (
    choice("api-1"),
    choice("api-2"),
    choice("db", "prod"),
    choice("web", container="app"),
    choice("web", container="log"),
)


def menu(size: WindowSize = USUAL, choices: tuple[Choice, ...] = SHOP) -> Menu:
    return opened(choices, size)


def pressed(one: Menu | NumberedList, *typed: Press | str) -> Menu | NumberedList | Opened | Left:
    """What it is after some keys; a text stands for its characters."""
    now: Menu | NumberedList | Opened | Left = one
    for key in typed:
        for press in [Character(char) for char in key] if isinstance(key, str) else [key]:
            assert isinstance(now, Menu | NumberedList), f"{now} before {press}"
            now = now.press(press)
    return now


# --- keys -----------------------------------------------------------------------


def read(data: bytes) -> list[Press]:
    """All the keys of what was typed, nothing more to come."""
    found: list[Press] = []
    while data:
        key, length = keys.first(data, more=False)
        assert key is not None
        assert length > 0
        found.append(key)
        data = data[length:]
    return found


@pytest.mark.parametrize(
    ("data", "means"),
    [
        (b"a", [Character("a")]),
        ("é日".encode(), [Character("é"), Character("日")]),
        (b"\r", [Key.ENTER]),
        (b"\n", [Key.ENTER]),
        (b"\x03\x04\x15\x17\x0c", [Key.INTERRUPT, Key.END_OF_INPUT, Key.ERASE_LINE, Key.ERASE_WORD, Key.REDRAW]),
        (b"\x7f\x08", [Key.BACKSPACE, Key.BACKSPACE]),
        (b"\x0e\x10", [Key.DOWN, Key.UP]),
        (b"\x1b[A\x1b[B\x1bOA\x1bOB", [Key.UP, Key.DOWN, Key.UP, Key.DOWN]),
        (
            b"\x1b[5~\x1b[6~\x1b[1~\x1b[4~\x1b[H\x1b[F",
            [Key.PAGE_UP, Key.PAGE_DOWN, Key.FIRST, Key.LAST, Key.FIRST, Key.LAST],
        ),
        (b"\x1b[1;5A", [Key.UP]),
        (b"\x1b[C\x1b[202~\x1b[<0;1;1M", [Key.OTHER] * 3),
        (b"\x1b[200~\x1b[201~", [Key.PASTE_BEGINS, Key.PASTE_ENDS]),
        (b"\x1b", [Key.ESCAPE]),
        (b"\x1b\x1b[A", [Key.ESCAPE, Key.UP]),
        (b"\x1bx", [Key.OTHER]),
        (b"\x1b[", [Key.ESCAPE, Character("[")]),
        (b"\x00\xff\x80a", [Key.OTHER, Key.OTHER, Key.OTHER, Character("a")]),
        (b"\xc3", [Key.OTHER]),
        ("\u202e\u00a0".encode(), [Key.OTHER, Key.OTHER]),
    ],
)
def test_what_a_terminal_sends_is_read_as_keys(data: bytes, means: list[Press]) -> None:
    assert read(data) == means


PIECES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"\x1b[A", b"\x1bOB", b"\x1b[5~", b"\x1b", b"\x1b[", "é".encode(), b"\r", b"\x1b[" + b"1" * 40]),
)


@given(st.lists(PIECES, max_size=8).map(b"".join), st.data())
def test_keys_that_come_in_pieces_are_the_same_keys(data: bytes, cuts: st.DataObject) -> None:
    found: list[Press] = []
    waiting = b""
    at = 0
    while at < len(data):
        length = cuts.draw(st.integers(1, len(data) - at))
        waiting, at = waiting + data[at : at + length], at + length
        while True:
            key, taken = keys.first(waiting, more=True)
            if key is None:
                assert taken == 0
                break
            found.append(key)
            waiting = waiting[taken:]
    assert len(waiting) < keys.LONGEST

    assert found + read(waiting) == read(data)


BEGIN, END = b"\x1b[200~", b"\x1b[201~"


def typed(*pieces: bytes) -> tuple[list[Press], bytes]:
    """The keys of what comes in pieces, as long as they are awaited; and what is left."""
    typing = keys.Typing()
    found = []
    for piece in pieces:
        typing.feed(piece)
        while (key := typing.next(more=True)) is not None:
            found.append(key)
    return found, typing.rest


def characters(text: str) -> list[Press]:
    return [Character(char) for char in text]


@pytest.mark.parametrize(
    ("data", "means"),
    [
        (BEGIN + b"web" + END, characters("web")),
        (BEGIN + b"web\rrm -rf x\r" + END, characters("web")),
        (BEGIN + b"web\nrm -rf x\n" + END + b"x\r", [*characters("webx"), Key.ENTER]),
        (BEGIN + b"\r\nweb" + END, []),
        (BEGIN + b"w\x03\x04\x15\x1b[A\x1bb\x7f" + END, characters("wb")[:1]),
        (BEGIN + b"a\x1b" + END + b"b", characters("ab")),
        (BEGIN + b"a\x1b[" + END + b"b", characters("a[b")),
        (BEGIN + b"a\xc3" + END + b"b", characters("ab")),
        (BEGIN + b"a" + BEGIN + b"b\r" + BEGIN + b"c" + END + b"d", characters("abd")),
        (BEGIN + b"x" * 5000 + END + b"y", characters("x" * keys.MOST_PASTED + "y")),
        (BEGIN + b"\r" + b"\x1b" * 100 + END + b"y", characters("y")),
        (END + b"y", [Key.PASTE_ENDS, Character("y")]),
    ],
)
def test_of_what_is_pasted_only_the_text_of_its_first_line_is_typed(data: bytes, means: list[Press]) -> None:
    assert typed(data) == (means, b"")
    assert typed(*(data[at : at + 1] for at in range(len(data)))) == (means, b"")


PASTED = st.lists(st.one_of(PIECES, st.just(BEGIN)), max_size=6).map(b"".join).filter(lambda data: END not in data)


@given(PASTED, st.data())
def test_whatever_is_pasted_and_however_it_comes_it_presses_no_key_and_ends(data: bytes, cuts: st.DataObject) -> None:
    data = BEGIN + data + END + b"!\r"
    pieces, at = [], 0
    while at < len(data):
        length = cuts.draw(st.integers(1, len(data) - at))
        pieces.append(data[at : at + length])
        at += length

    found, rest = typed(*pieces)

    assert (found[-2:], rest) == ([Character("!"), Key.ENTER], b"")
    assert all(isinstance(key, Character) for key in found[:-1])
    assert typed(data) == (found, rest)


def test_while_something_is_pasted_a_pause_settles_nothing() -> None:
    typing = keys.Typing()
    typing.feed(BEGIN + b"w\x1b")

    assert typing.next(more=False) == Character("w")
    assert (typing.next(more=False), typing.may_go_on) == (None, False)
    typing.feed(b"[201~\x1b")
    assert (typing.next(more=True), typing.may_go_on) == (None, True)
    assert typing.next(more=False) is Key.ESCAPE


# --- the menu ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "end"),
    [
        ((Key.ENTER,), Opened(SHOP[0].login)),
        ((Key.DOWN, Key.DOWN, Key.UP, Key.ENTER), Opened(SHOP[1].login)),
        (("prod", Key.ENTER), Opened(SHOP[2].login)),
        (("WEB LOG", Key.ENTER), Opened(SHOP[4].login)),
        (("web", Key.DOWN, Key.ENTER), Opened(SHOP[4].login)),
        ((Key.DOWN, "api", Key.ENTER), Opened(SHOP[0].login)),
        (("apx", Key.BACKSPACE, "i-2", Key.ENTER), Opened(SHOP[1].login)),
        (("web nonsense", Key.ERASE_WORD, Key.ENTER), Opened(SHOP[3].login)),
        (("nonsense", Key.ERASE_LINE, Key.ENTER), Opened(SHOP[0].login)),
        ((Key.LAST, Key.ENTER), Opened(SHOP[4].login)),
        ((Key.PAGE_DOWN, Key.ENTER), Opened(SHOP[4].login)),
        ((Key.LAST, Key.FIRST, Key.UP, Key.ENTER), Opened(SHOP[0].login)),
        ((Key.OTHER, Key.REDRAW, Key.ENTER), Opened(SHOP[0].login)),
        ((Key.ESCAPE,), Left(0)),
        ((Key.END_OF_INPUT,), Left(0)),
        (("web", Key.INTERRUPT), Left(130)),
    ],
)
def test_keys_lead_to_a_place_or_out(typed: tuple[Press | str, ...], end: Opened | Left) -> None:
    assert pressed(menu(), *typed) == end


def test_enter_opens_nothing_where_nothing_matches() -> None:
    assert isinstance(pressed(menu(), "nonsense", Key.ENTER), Menu)


def test_the_menu_is_drawn_with_a_bar_and_taken_away_again() -> None:
    screen = Screen(WindowSize(cols=80, rows=10))
    screen.feed(b"$ ssh -t bastion\r\n")
    now, drawing = menu(screen.size).draw()
    screen.feed(drawing)

    assert screen.lines[:8] == [
        "$ ssh -t bastion",
        "5 of 5: type to narrow, Enter opens, Esc leaves",
        "> api-1.shop" + " " * 49 + "Running",
        "  api-2.shop" + " " * 49 + "Running",
        "  db.prod" + " " * 52 + "Running",
        "  web.shop+app" + " " * 47 + "Running",
        "  web.shop+log" + " " * 47 + "Running",
        ">",
    ]
    assert drawing.count(b"\x1b[7m") == 1
    assert screen.marks_pastes

    narrowed = pressed(now, "web")
    assert isinstance(narrowed, Menu)
    now, drawing = narrowed.draw()
    assert b"2004" not in drawing
    screen.feed(drawing)
    assert [line.split()[:2] for line in screen.lines[2:5]] == [
        [">", "web.shop+app"],
        ["web.shop+log", "Running"],
        [">", "web"],
    ]
    assert screen.lines[5:] == [""] * 5

    screen.feed(now.erase())
    assert [line for line in screen.lines if line] == ["$ ssh -t bastion"]
    assert (screen.row, screen.col) == (1, 0)
    assert not screen.marks_pastes


def test_at_forty_columns_long_names_lose_their_middle() -> None:
    long = choice("checkout-worker-7d4b9c5f68-x2x8p", "shop-production")
    size = WindowSize(cols=40, rows=10)
    _, drawing = menu(size, (long,)).draw()
    screen = Screen(size)
    screen.feed(drawing)

    assert screen.lines[:3] == ["1 of 1: type, Enter, Esc", "> checkout-worker-7...p.shop-production", ">"]
    assert max(map(len, screen.lines)) < 40


def test_a_name_that_others_wrote_cannot_act_on_the_terminal() -> None:
    _, drawing = menu(choices=(choice("x\x1b]0;owned\x07", note="\x1b[2J"),)).draw()

    screen = Screen(USUAL)
    screen.feed(drawing)
    assert not screen.strange
    assert "\\x1b]0;owned\\x07" in screen.lines[1]


SIZES = st.builds(WindowSize, cols=st.integers(1, 130), rows=st.integers(1, 40))
ROOMY = st.builds(WindowSize, cols=st.integers(12, 80), rows=st.integers(4, 24))
TYPED = st.one_of(
    st.sampled_from([key for key in Key if key not in {Key.ENTER, Key.ESCAPE, Key.INTERRUPT, Key.END_OF_INPUT}]),
    st.sampled_from([Character(char) for char in "awp1- é日"]),
)
CHOICES = st.lists(
    st.builds(
        choice, st.from_regex(r"[a-z0-9]{1,12}(-[a-z0-9]{1,20})?", fullmatch=True), st.sampled_from(["shop", "p" * 63])
    ),
    min_size=1,
    max_size=40,
).map(tuple)


@given(CHOICES, ROOMY, st.lists(st.one_of(TYPED, ROOMY), max_size=15), st.integers(0, 30))
def test_however_it_is_used_it_stays_in_its_place_and_leaves_no_trace(
    choices: tuple[Choice, ...], size: WindowSize, steps: list[Press | WindowSize], above: int
) -> None:
    screen = Screen(size)
    above = min(above, size.rows - 1)
    screen.feed(b"above\r\n" * above)
    now, drawing = opened(choices, size).draw()
    screen.feed(drawing)
    resized = False
    for step in steps:
        if isinstance(step, WindowSize):
            screen, resized = Screen(step), True
            now, drawing = now.resized(step).draw(anew=True)
        else:
            after = now.press(step)
            assert isinstance(after, Menu)
            now, drawing = after.draw()
        screen.feed(drawing)

        found = now.found
        assert found == matching(choices, now.typed)
        assert not found or 0 <= now.at < len(found)
        assert now.top <= now.at < now.top + now.page or not found
        assert screen.lines[screen.row].startswith(">")
        shown = [line for line in screen.lines if line not in {"", "above"}]
        assert len(shown) == now.drawn
        assert shown[0].startswith(f"{len(found)} of {len(choices)}")
        assert max(map(tables.width, shown)) < screen.size.cols
        assert not screen.strange
    screen.feed(now.erase())
    assert {line for line in screen.lines if line} <= {"above"}
    assert resized or screen.lines.count("above") + screen.scrolled >= above
    assert screen.col == 0


@given(CHOICES, SIZES, st.lists(st.one_of(TYPED, SIZES), max_size=10))
def test_no_window_is_too_small_to_go_on(
    choices: tuple[Choice, ...], size: WindowSize, steps: list[Press | WindowSize]
) -> None:
    now = opened(choices, size)
    for step in steps:
        after = now.resized(step) if isinstance(step, WindowSize) else now.press(step)
        assert isinstance(after, Menu)
        now, drawing = after.draw()
        assert drawing
        assert now.page <= MOST_SHOWN
    first = now.press(Key.ENTER)
    assert isinstance(first, Opened) == bool(now.found)


def test_what_is_drawn_for_many_is_bounded() -> None:
    many = tuple(choice(f"pod-{n}") for n in range(10_000))
    _, drawing = menu(WindowSize(cols=200, rows=200), many).draw()

    assert drawing.count(b"\r\n") == MOST_SHOWN + 1


# --- the numbered list --------------------------------------------------------------


def listed(size: WindowSize = USUAL, choices: tuple[Choice, ...] = SHOP) -> NumberedList:
    return NumberedList(choices=choices, size=size).begun()


def test_a_numbered_list_is_said_narrowed_and_chosen_from() -> None:
    screen = Screen(USUAL)
    now, said = listed().draw()
    screen.feed(said)
    assert screen.lines[1:7] == [
        "1 api-1.shop",
        "2 api-2.shop",
        "3 db.prod",
        "4 web.shop+app",
        "5 web.shop+log",
        "number or name:",
    ]

    after = pressed(now, "wex", Key.BACKSPACE, "b", Key.ENTER)
    assert isinstance(after, NumberedList)
    now, said = after.draw()
    screen.feed(said)
    assert screen.lines[6:10] == ["number or name: web", "1 web.shop+app", "2 web.shop+log", "number or name:"]
    assert b"\x1b" not in said

    assert pressed(now, "2", Key.ENTER) == Opened(SHOP[4].login)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (("9", Key.ENTER), "there is no number 9"),
        (("0", Key.ENTER), "there is no number 0"),
        (("nonsense", Key.ENTER), "nothing fits nonsense"),
        (("x", Key.ERASE_LINE, Key.ENTER), "5 web.shop+log"),
        ((Key.REDRAW,), "5 web.shop+log"),
    ],
)
def test_what_leads_nowhere_is_said_and_asked_again(typed: tuple[Press | str, ...], says: str) -> None:
    after = pressed(listed(), *typed)

    assert isinstance(after, NumberedList)
    _, said = after.draw()
    assert says in said.decode()
    assert said.endswith(b"number or name: ")


@pytest.mark.parametrize(("key", "status"), [(Key.ESCAPE, 0), (Key.END_OF_INPUT, 0), (Key.INTERRUPT, 130)])
def test_it_is_left_as_the_menu_is(key: Key, status: int) -> None:
    assert pressed(listed(), "we", key) == Left(status)


def test_who_has_many_is_told_to_narrow_them_down() -> None:
    _, said = listed(choices=tuple(choice(f"pod-{n}") for n in range(60))).draw()

    assert said.count(b"\r\n") == 52
    assert b"and 10 more: type part of a name" in said


@given(CHOICES, ROOMY, st.lists(st.one_of(TYPED, st.just(Key.ENTER)), max_size=20))
def test_its_echo_shows_what_is_being_typed(choices: tuple[Choice, ...], size: WindowSize, steps: list[Press]) -> None:
    screen = Screen(size)
    now: NumberedList | Opened | Left
    now, said = listed(size, choices).draw()
    screen.feed(said)
    for step in steps:
        now = now.press(step)
        if not isinstance(now, NumberedList):
            return
        now, said = now.draw()
        screen.feed(said)
        assert b"\x1b" not in said
        whole = f"number or name: {now.typed}"
        if len(whole) < size.cols and now.typed.isascii():
            assert screen.lines[screen.row] == whole.rstrip()
