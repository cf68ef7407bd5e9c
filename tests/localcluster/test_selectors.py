"""Label and field selectors."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.localcluster.selectors import SelectorError, parse_fields, parse_labels

LABELS = {"app": "web", "env": "dev", "tier/x.io": "1", "n": "5", "empty": ""}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app", True),
        ("!app", False),
        ("!gone", True),
        ("app=web", True),
        ("app==web,env=dev", True),
        (" app = web , env != prod ", True),
        ("app!=web", False),
        ("gone!=web", True),
        ("app in (web,db)", True),
        ("app in (db)", False),
        ("gone in (db)", False),
        ("app notin (db)", True),
        ("gone notin (db)", True),
        ("empty=", True),
        ("empty in ()", True),
        ("empty in (,x)", True),
        ("app=,env", False),
        ("n>4,n<6", True),
        ("n>5", False),
        ("app>1", False),
    ],
)
def test_a_label_selector_matches(selector: str, *, expected: bool) -> None:
    assert parse_labels(selector)(LABELS) is expected


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("app in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("app in web", "unable to parse requirement: found 'web' expected: '('"),
        ("app in (web", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("app is web", "unable to parse requirement: found 'is', expected: in, notin, =, ==, !=, gt, lt"),
        ("=web", "unable to parse requirement: found '=', expected: identifier"),
        ("app=web env=dev", "found 'env', expected: ',' or 'end of string'"),
        ("app=web,", "found '', expected: identifier after ','"),
    ],
)
def test_a_label_selector_without_sense_is_told_so(selector: str, said: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_labels(selector)
    assert str(caught.value) == said


@given(st.text(alphabet="ab=!,()<> in" + "é\n\0-", max_size=30) | st.text(max_size=30))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_labels, lambda text: parse_fields(text, ("status.phase",))):
        with contextlib.suppress(SelectorError):
            matches = parse(text)
            assert matches({"metadata": {"name": "x"}}) in (True, False)  # type: ignore[dict-item] # labels or an object


WORD = st.text(alphabet="abz09", min_size=1, max_size=5)


@given(st.dictionaries(WORD, WORD, max_size=3), st.dictionaries(WORD, WORD, max_size=4))
def test_equality_is_being_a_subset(wanted: dict[str, str], labels: dict[str, str]) -> None:
    selector = ",".join(f"{key}={value}" for key, value in wanted.items())
    assert parse_labels(selector)(labels) == (wanted.items() <= labels.items())


@given(WORD, st.sets(WORD, min_size=1, max_size=4), st.dictionaries(WORD, WORD, max_size=4))
def test_notin_is_the_opposite_of_in(key: str, values: set[str], labels: dict[str, str]) -> None:
    listed = ",".join(sorted(values))
    assert parse_labels(f"{key} in ({listed})")(labels) is not parse_labels(f"{key} notin ({listed})")(labels)


def test_field_selectors_look_at_metadata() -> None:
    pod = {"metadata": {"name": "web", "namespace": "default"}}
    assert parse_fields("metadata.name=web,metadata.namespace!=shop", ())(pod)
    assert not parse_fields("metadata.name==db", ())(pod)
    for selector, said in (("spec.x=1", "field label not supported: spec.x"), ("nothing", "invalid selector")):
        with pytest.raises(SelectorError, match=said):
            parse_fields(selector, ())
