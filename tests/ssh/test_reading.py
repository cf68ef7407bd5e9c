"""How much is read from a client at once: little while its packets take long, as much as possible otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bastion.ssh.overrides.connections import LEAST_READ, LONGEST_S, MOST_READ, next_read


def test_a_flood_of_small_packets_is_soon_read_in_small_pieces() -> None:
    per_byte, size = 1.0 / MOST_READ, MOST_READ  # as if the most that is read at once took a second
    times = []
    for _ in range(100):
        times.append(size * per_byte)
        size = next_read(size, size, times[-1])

    assert max(times[1:]) <= LONGEST_S * 1.001
    assert min(times[1:]) >= LONGEST_S / 8


def test_after_a_slow_moment_bulk_data_is_read_in_large_pieces_again() -> None:
    size = next_read(MOST_READ, MOST_READ, 5.0)
    assert size == LEAST_READ
    for _ in range(7):
        size = next_read(size, size, LONGEST_S / 10)

    assert size == MOST_READ


def test_few_bytes_say_nothing_about_what_could_be_read() -> None:
    assert next_read(LEAST_READ, 100, 0.0) == LEAST_READ


@given(
    st.integers(min_value=LEAST_READ, max_value=MOST_READ),
    st.integers(min_value=1, max_value=MOST_READ),
    st.floats(min_value=0, max_value=1e6),
)
def test_it_stays_within_its_bounds(size: int, taken: int, seconds: float) -> None:
    assert LEAST_READ <= next_read(size, min(size, taken), seconds) <= MOST_READ
