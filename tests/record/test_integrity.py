"""The hash chain: canonical facts, links, and where a chain first breaks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.integrity import GENESIS, Link, canonical, link_hash, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bastion.integrity import Fact

facts = st.dictionaries(
    st.text(max_size=8), st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.binary(max_size=8), st.none())
)


def chain_of(all_facts: list[Mapping[str, Fact]], name: str = "s1") -> list[Link]:
    links, prev = [], GENESIS
    for position, each in enumerate(all_facts):
        digest = link_hash(prev, chain=name, position=position, kind="event", facts=each)
        links.append(Link(chain=name, position=position, kind="event", prev_hash=prev, hash=digest, facts=each))
        prev = digest
    return links


def test_canonical_json_is_sorted_ascii_without_blanks_and_bytes_are_hex() -> None:
    assert canonical({"b": b"\x00\xff", "a": "\u00fc\x1b\udc80", "n": None, "t": True, "i": -7}) == (
        b'{"a":"\\u00fc\\u001b\\udc80","b":"00ff","i":-7,"n":null,"t":true}'
    )


def test_a_link_is_hashed_as_documented() -> None:
    body = json.dumps(
        {"x": 1, "link.chain": "s1", "link.position": 0, "link.kind": "event"}, sort_keys=True, separators=(",", ":")
    )
    found = link_hash(GENESIS, chain="s1", position=0, kind="event", facts={"x": 1})

    assert found == hashlib.sha256(b"\x00" + bytes(32) + body.encode()).digest()


def test_floats_have_no_canonical_form() -> None:
    wrong: Any = {"x": 1.5}
    with pytest.raises(TypeError):
        canonical(wrong)


@given(st.lists(facts, max_size=6))
def test_a_chain_that_nobody_touched_holds(all_facts: list[Mapping[str, Fact]]) -> None:
    links = chain_of(all_facts)
    verdict = verify("s1", links)

    assert verdict.intact
    assert verdict.head.length == len(links)
    assert verdict.head.hash == (links[-1].hash if links else GENESIS)


@given(st.lists(facts, min_size=2, max_size=6), st.data())
def test_a_changed_moved_removed_or_added_link_breaks_the_chain_where_it_stands(
    all_facts: list[Mapping[str, Fact]], data: st.DataObject
) -> None:
    links = chain_of(all_facts)
    at = data.draw(st.integers(0, len(links) - 2))
    changed = dataclasses.replace(links[at], facts={**links[at].facts, "more": 1})
    broken = {
        "changed": [*links[:at], changed, *links[at + 1 :]],
        "removed": [*links[:at], *links[at + 1 :]],
        "doubled": [*links[: at + 1], links[at], *links[at + 1 :]],
        "swapped": [*links[:at], links[at + 1], links[at], *links[at + 2 :]],
        "faulty": [*links[:at], dataclasses.replace(links[at], fault="its bytes are wrong"), *links[at + 1 :]],
    }
    positions = {}
    for how, tampered in broken.items():
        found = verify("s1", tampered).broken
        assert found is not None, how
        positions[how] = found.position

    assert positions == {"changed": at, "removed": at, "doubled": at + 1, "swapped": at, "faulty": at}


def test_a_chain_put_in_the_place_of_another_does_not_hold() -> None:
    assert not verify("s2", chain_of([{"x": 1}], "s1")).intact


def test_a_verdict_says_where_and_why() -> None:
    links = chain_of([{"x": 1}, {"x": 2}, {"x": 3}])
    links[1] = dataclasses.replace(links[1], facts={"x": 7})

    assert str(verify("s1", links).broken) == "link 1 (event): its content is not what its hash was made from"
