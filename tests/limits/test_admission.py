"""Who may begin to log in: what the settings say, how likely a refusal is, and when a penalty bites."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion import settings
from bastion.admission import (
    Ending,
    MaxStartups,
    Penalties,
    Rules,
    parse_max_startups,
    parse_networks,
    parse_penalties,
    source_of,
)
from bastion.errors import BastionError
from bastion.settings import SshSettings
from bastion.ssh.doorkeeper import Doorkeeper, Penalised, Place, TurnedAway
from support.records import SettableClock


@pytest.mark.parametrize(
    ("held", "percent"),
    [(0, 0), (9, 0), (10, 30), (55, 65), (99, 99.22), (100, 100), (1000, 100)],
)
def test_refusals_rise_from_the_rate_at_the_start_to_all_at_full(held: int, percent: float) -> None:
    assert MaxStartups().refused(held) * 100 == pytest.approx(percent, abs=0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10:30:100", MaxStartups()),
        ("1:100:1", MaxStartups(start=1, rate=100, full=1)),
        ("5", MaxStartups(start=5, rate=100, full=5)),
        (" 0:1:9 ", MaxStartups(start=0, rate=1, full=9)),
    ],
)
def test_max_startups_are_read(text: str, expected: MaxStartups) -> None:
    assert parse_max_startups(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be START:RATE:FULL"),
        ("10:30", "must be START:RATE:FULL"),
        ("-1:30:100", "must be START:RATE:FULL"),
        ("10:30:100:", "must be START:RATE:FULL"),
        ("\u0661\u0660", "must be START:RATE:FULL"),
        ("10:0:100", "1 to 100 per cent"),
        ("10:101:100", "1 to 100 per cent"),
        ("10:30:9", "not less than START"),
        ("0", "must be 1 or more"),
    ],
)
def test_max_startups_that_make_no_sense_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_max_startups(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Penalties()),
        (SshSettings().penalties, Penalties()),
        ("crash:5 max-sources:7", Penalties(crash=5, sources=7)),
        ("no", Penalties(authfail=0, noauth=0, grace_exceeded=0, crash=0)),
    ],
)
def test_penalties_are_read_and_what_is_left_out_keeps_its_default(text: str, expected: Penalties) -> None:
    assert parse_penalties(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crsh:5", "has no part 'crsh'; there are authfail, noauth"),
        ("crash", "must give crash a whole number, as in crash:10"),
        ("crash:-1", "must give crash a whole number"),
        ("crash:1 crash:2", "gives crash twice"),
        ("min:700", "a max that is not less than min"),
        ("max-sources:0", "a max-sources of 1 or more"),
        ("no crash:5", "has no part 'no'"),
    ],
)
def test_penalties_that_make_no_sense_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_penalties(text)


@given(st.text())
def test_whatever_is_set_is_read_or_refused_by_a_value_error(text: str) -> None:
    for parse in (parse_max_startups, parse_penalties, parse_networks):
        with contextlib.suppress(ValueError):
            assert parse(text) is not None


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("MAX_STARTUPS", "10:30", "ssh.max_startups: must be START:RATE:FULL, as in 10:30:100, or one number"),
        ("PENALTIES", "crash:x", "ssh.penalties: must give crash a whole number, as in crash:10"),
        ("EXEMPT_SOURCES", "10.0.0.1/8", "ssh.exempt_sources: must be addresses or networks with commas between"),
        ("MAX_CHANNELS", "0", "ssh.max_channels: input should be greater than or equal to 1"),
        ("MAX_STARTUPS_PER_SOURCE", "0", "ssh.max_startups_per_source: input should be greater than or equal to 1"),
    ],
)
def test_a_mistake_in_a_setting_is_said_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"BASTION_SSH_{variable}", value)
    with pytest.raises(BastionError) as refused:
        settings.load(None)
    assert refused.value.user_message.startswith(f"BASTION_SSH_{variable}: {says}")


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.9.8.7", None),
        ("fd00::5", None),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_block_unless_it_is_exempt(host: str, source: str | None) -> None:
    assert source_of(host, parse_networks("10.0.0.0/8, fd00::/8,")) == source


# --- the doorkeeper ---


def doorkeeper(clock: SettableClock, *, chance: float = 0.5, **rules: object) -> Doorkeeper:
    return Doorkeeper(Rules(**rules), clock=clock, chance=lambda: chance)  # type: ignore[arg-type] # as Rules checks them


def entered(keeper: Doorkeeper, host: str) -> Place:
    place = keeper.enter(host)
    assert isinstance(place, Place)
    return place


def rule(keeper: Doorkeeper, host: str) -> str:
    """The rule by which a connection is turned away; "" if it gets a place, which it then leaves by logging in."""
    found = keeper.enter(host)
    if isinstance(found, TurnedAway):
        return found.rule
    found.leave(None)
    return ""


def hosts(count: int) -> list[str]:
    return [str(ipaddress.IPv4Address("198.51.0.0") + number) for number in range(count)]


@pytest.mark.parametrize(("chance", "admitted"), [(0.0, 10), (0.2999, 10), (0.31, 12), (0.9999, 100)])
def test_chance_decides_between_start_and_full_and_nothing_else(chance: float, admitted: int) -> None:
    keeper = doorkeeper(SettableClock(), chance=chance)
    found = [keeper.enter(host) for host in hosts(200)]

    assert keeper.held == sum(isinstance(one, Place) for one in found) == admitted
    assert {one.rule for one in found if isinstance(one, TurnedAway)} == {"max-startups"}


def test_a_place_is_given_back_once_however_often_it_is_left() -> None:
    keeper = doorkeeper(SettableClock(), max_startups=MaxStartups(start=2, rate=100, full=2))
    first, second = (entered(keeper, host) for host in hosts(2))
    assert rule(keeper, "192.0.2.1") == "max-startups"
    first.leave(None)
    first.leave(Ending.CRASH)

    assert keeper.held == 1
    assert rule(keeper, "192.0.2.1") == ""
    second.leave(None)
    assert keeper.held == 0


def test_one_source_gets_no_more_places_than_its_own_and_others_still_get_theirs() -> None:
    keeper = doorkeeper(SettableClock(), exempt=parse_networks("203.0.113.0/24"))
    places = [entered(keeper, f"2001:db8::{number}") for number in range(1, 10)]

    assert rule(keeper, "2001:db8::ffff") == "max-startups-per-source"
    assert rule(keeper, "2001:db8:0:1::1") == ""
    places[0].leave(None)
    assert rule(keeper, "2001:db8::ffff") == ""


def test_an_exempt_source_has_no_limit_of_its_own() -> None:
    keeper = doorkeeper(SettableClock(), chance=0.99, exempt=parse_networks("203.0.113.0/24"))
    places = [entered(keeper, "203.0.113.9") for _ in range(50)]

    assert keeper.held == len(places)


def fail(keeper: Doorkeeper, host: str, ending: Ending) -> None:
    entered(keeper, host).leave(ending)


def test_penalties_add_up_and_bite_from_the_minimum_on_until_they_are_over() -> None:
    clock = SettableClock()
    keeper = doorkeeper(clock)
    fail(keeper, "192.0.2.1", Ending.AUTHFAIL)
    fail(keeper, "192.0.2.1", Ending.AUTHFAIL)
    assert rule(keeper, "192.0.2.1") == ""
    fail(keeper, "192.0.2.1", Ending.AUTHFAIL)
    assert rule(keeper, "192.0.2.1") == "penalty"
    assert rule(keeper, "192.0.2.2") == ""
    clock.at = clock.at.replace(second=14)
    assert rule(keeper, "192.0.2.1") == "penalty"
    clock.at = clock.at.replace(second=16)
    assert rule(keeper, "192.0.2.1") == ""


def test_an_exempt_source_is_never_penalised() -> None:
    keeper = doorkeeper(SettableClock(), exempt=parse_networks("192.0.2.0/24"))
    fail(keeper, "192.0.2.1", Ending.CRASH)
    fail(keeper, "198.51.100.1", Ending.CRASH)

    assert (rule(keeper, "192.0.2.1"), rule(keeper, "198.51.100.1")) == ("", "penalty")


def test_no_penalty_is_longer_than_the_longest() -> None:
    penalised = Penalised(Penalties())
    for _ in range(100):
        penalised.add("a", 90, now=0)

    assert penalised.seconds_left("a", now=0) == 600
    assert penalised.seconds_left("a", now=600) == 0


def test_the_source_that_was_penalised_longest_ago_is_forgotten_when_there_are_too_many() -> None:
    penalised = Penalised(Penalties(sources=3))
    for name in ("a", "b", "c", "a", "d"):
        penalised.add(name, 90, now=1)

    assert [name for name in "abcd" if penalised.seconds_left(name, now=1)] == ["a", "c", "d"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from([0.0, 1.0, 5.0, 10.0, 90.0]),
            st.integers(min_value=0, max_value=90),
        ),
        max_size=60,
    )
)
def test_penalties_keep_to_their_bounds_whatever_happens(happenings: list[tuple[str, float, int]]) -> None:
    rules = Penalties(sources=4, most=120)
    penalised, now = Penalised(rules), 0.0
    for source, seconds, later in happenings:
        now += later
        before = penalised.seconds_left(source, now)
        penalised.add(source, seconds, now)
        after = penalised.seconds_left(source, now)
        assert len(penalised) <= rules.sources
        assert before <= after <= rules.most
        assert after == 0 or after >= rules.at_least or before > 0


def test_random_drops_happen_as_often_as_they_should() -> None:
    numbers = iter(number / 1000 for number in range(1000))
    keeper = Doorkeeper(Rules(per_source=1000), clock=SettableClock(), chance=lambda: next(numbers))
    for host in hosts(10):
        entered(keeper, host)

    assert sum(rule(keeper, "192.0.2.1") == "max-startups" for _ in range(1000)) == 300
