"""The shelf finds what was put there, whatever came and went, and tells each change once."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from bastion.podfacts import Owner, WorkloadFacts
from bastion.pods.shelf import Shelf

NAMESPACES, NAMES = st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"])
OWNERS = st.none() | st.sampled_from(["o1", "o2"]).map(lambda uid: Owner(kind="ReplicaSet", name=uid, uid=uid))
ITEMS = st.builds(
    WorkloadFacts, kind=st.just("rs"), namespace=NAMESPACES, name=NAMES, uid=st.sampled_from(["1", "2"]), owner=OWNERS
)


@dataclass(frozen=True)
class Remove:
    namespace: str
    name: str


@dataclass(frozen=True)
class Keep:
    scope: str | None
    present: frozenset[tuple[str, str]]


Step = WorkloadFacts | Remove | Keep
KEEPS = st.builds(Keep, st.none() | NAMESPACES, st.frozensets(st.tuples(NAMESPACES, NAMES)))
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(ITEMS, st.builds(Remove, NAMESPACES, NAMES), KEEPS), max_size=25
)


@given(STEPS)
def test_it_has_what_a_dictionary_would_have(steps: list[Step]) -> None:
    kept: dict[tuple[str, str], WorkloadFacts] = {}
    told: dict[tuple[str, str], WorkloadFacts] = {}

    def changed(namespace: str, name: str, now: WorkloadFacts | None) -> None:
        assert told.get((namespace, name)) != now, "nothing has changed"
        if now is None:
            del told[namespace, name]
        else:
            told[namespace, name] = now

    shelf = Shelf[WorkloadFacts](changed)
    for step in steps:
        match step:
            case WorkloadFacts() as item:
                shelf.put(item)
                kept[item.namespace, item.name] = item
            case Remove(namespace, name):
                shelf.remove(namespace, name)
                kept.pop((namespace, name), None)
            case Keep(scope, present):
                shelf.keep_only(scope, present)
                kept = {key: item for key, item in kept.items() if key in present or scope not in (None, key[0])}
        assert told == kept
        assert {(one.namespace, one.name): one for one in shelf.all(None)} == kept
        assert sorted(shelf.namespaces) == sorted({namespace for namespace, _ in kept})
        for namespace in ("a", "b"):
            assert {one.name for one in shelf.all(namespace)} == {name for place, name in kept if place == namespace}
        for uid in ("o1", "o2"):
            owned = [item for item in kept.values() if item.owner is not None and item.owner.uid == uid]
            assert sorted(shelf.owned_by(uid), key=str) == sorted(owned, key=str)
