"""When a node is knocked at, and after which knocks it is lost."""

from __future__ import annotations

import pytest

from bastion.podfacts import pod_facts, target_of
from bastion.pods.knocks import MOST_RARELY, Knocked, Knocks
from support import podobjects

TARGET = target_of(pod_facts(podobjects.pod("web")), "app")


def chances_until_due(knocks: Knocks, *, unanswered: bool = False, unready: bool = False) -> int:
    """At which chance to knock, from now on, it is knocked."""
    return next(number for number in range(1, 1000) if knocks.are_due(unanswered=unanswered, unready=unready))


def long_answered(**doubt: bool) -> Knocks:
    """Knocks at a node that answers each, and stays in doubt."""
    knocks = Knocks()
    for _ in range(10):
        chances_until_due(knocks, **doubt)
        assert knocks.heard(Knocked.ANSWERED, TARGET) == ""
    return knocks


def test_who_is_not_in_doubt_is_not_asked() -> None:
    knocks = Knocks()
    assert not any(knocks.are_due(unanswered=False, unready=False) for _ in range(100))


@pytest.mark.parametrize("doubt", ["unanswered", "unready"])
def test_a_node_that_answers_is_asked_ever_more_rarely(doubt: str) -> None:
    knocks, chances = Knocks(), []
    for _ in range(7):
        chances.append(chances_until_due(knocks, **{doubt: True}))
        knocks.heard(Knocked.ANSWERED, TARGET)

    assert chances == [1, 5, 13, 29, 61, MOST_RARELY + 1, MOST_RARELY + 1]


@pytest.mark.parametrize(("first", "second"), [("unanswered", "unready"), ("unready", "unanswered")])
def test_a_second_reason_is_asked_about_at_once_however_long_the_first_has_been_there(first: str, second: str) -> None:
    knocks = long_answered(**{first: True})
    assert not knocks.are_due(**{"unanswered": False, "unready": False, first: True})

    assert knocks.are_due(unanswered=True, unready=True)
    knocks.heard(Knocked.ANSWERED, TARGET)
    assert chances_until_due(knocks, unanswered=True, unready=True) == 5
    knocks.heard(Knocked.ANSWERED, TARGET)
    assert chances_until_due(knocks, **{second: True}) == 13  # that the first has gone is no news


def test_a_reason_that_comes_back_is_new() -> None:
    knocks = long_answered(unanswered=True)
    assert not knocks.are_due(unanswered=False, unready=False)

    assert knocks.are_due(unanswered=True, unready=False)


@pytest.mark.parametrize("more", [False, True])
def test_a_node_is_lost_that_is_silent_twice_on_end(more: bool) -> None:  # noqa: FBT001 - a parameter of the test
    knocks = Knocks()
    assert knocks.are_due(unanswered=True, unready=False)
    assert knocks.heard(Knocked.SILENT, TARGET) == ""
    assert knocks.are_due(unanswered=True, unready=more)
    assert knocks.heard(Knocked.SILENT, TARGET).startswith("the node of pod web")


def test_a_node_that_answers_between_silences_is_not_lost() -> None:
    knocks = Knocks()
    for _ in range(5):
        chances_until_due(knocks, unanswered=True)
        assert knocks.heard(Knocked.SILENT, TARGET) == ""
        assert knocks.are_due(unanswered=True, unready=False)
        assert knocks.heard(Knocked.ANSWERED, TARGET) == ""


def test_a_node_that_is_away_is_lost_at_once() -> None:
    assert Knocks().heard(Knocked.NODE_AWAY, TARGET).startswith("the node of pod web")
