"""How tables give way where a terminal is narrow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.cli.output import Column, fitted

GAP = 2
COLUMNS = (Column("time"), Column("person", least=5, rank=1), Column("target", least=6, rank=2), Column("how", rank=3))
WIDTHS = (8, 7, 20, 4)


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (80, {0: 8, 1: 7, 2: 20, 3: 4}),
        (45, {0: 8, 1: 7, 2: 20, 3: 4}),
        (44, {0: 8, 1: 7, 2: 19, 3: 4}),  # the widest of those that may is cut first
        (29, {0: 8, 1: 5, 2: 6, 3: 4}),
        (28, {0: 8, 1: 7, 2: 9}),  # then the highest rank goes
        (22, {0: 8, 1: 7}),
        (8, {0: 8}),
        (5, {0: 5}),  # nothing is left that could give way
    ],
)
def test_a_table_gives_way_column_by_column(room: int, shown: dict[int, int]) -> None:
    assert fitted(COLUMNS, WIDTHS, room) == shown


columns = st.builds(Column, st.just("x"), st.none() | st.integers(1, 30), st.booleans(), st.integers(0, 4))


@given(st.lists(st.tuples(columns, st.integers(1, 300)), min_size=1, max_size=7), st.integers(1, 200))
def test_whatever_can_fit_does_and_no_more_gives_way_than_must(table: list[tuple[Column, int]], room: int) -> None:
    every, widths = [column for column, _ in table], [width for _, width in table]
    shown = fitted(every, widths, room)

    narrowest = [min(width, column.least or width) for column, width in table]
    staying = [at for at, column in enumerate(every) if not column.rank]
    assert set(staying) <= set(shown)
    assert list(shown) == sorted(shown)
    if staying and sum(narrowest[at] + GAP for at in staying) - GAP <= room:
        assert sum(width + GAP for width in shown.values()) - GAP <= room
        assert all(narrowest[at] <= width <= widths[at] for at, width in shown.items())
