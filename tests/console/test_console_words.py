"""What people type at the console: selectors, lengths of time and the words of a command."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.console import arguments, commands, quantities, selectors
from bastion.console.selectors import Operator, Requirement, Selector
from bastion.errors import BastionError, Code
from bastion.model import TargetLogin

LABELS = {"app": "web", "tier": "front", "example.com/team": "shop", "empty": ""}
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web ", True),
        ("app=api", False),
        ("app!=api", True),
        ("app!=web", False),
        ("absent!=x", True),
        ("app in (api, web)", True),
        ("app in(api)", False),
        ("app notin (api,db)", True),
        ("app notin (web)", False),
        ("absent notin (x)", True),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("! app", False),
        ("empty=", True),
        ("app=", False),
        ("empty in ()", True),
        ("app in (,web)", True),
        ("app=web,tier=front,example.com/team=shop", True),
        ("app=web,tier=back", False),
        ("app,!absent,tier in (front)", True),
        ("in in (x)", False),
        ("notin", False),
    ],
)
def test_a_selector_selects_what_kubernetes_would_select(text: str, selects: bool) -> None:  # noqa: FBT001 - a column
    assert selectors.parse(text).selects(LABELS) is selects


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("=web", "'=' where the name of a label is expected"),
        ("app=web,", "it ends too early"),
        (",app", "',' where the name of a label"),
        ("app=web tier=front", "'tier' where ',' is expected"),
        ("app in web", "'web' where '(' is expected"),
        ("app in (web", "')' is missing at its end"),
        ("app in (a b)", "'b' where ')' is expected"),
        ("app>1", "'app>1' cannot be the name of a label"),
        ("app > 1", "'>' after 'app'; expected =, ==, !=, in or notin"),
        ("app=a=b", "'=' where ',' is expected"),
        ("app=-x", "'-x' cannot be the value of a label"),
        ("a/b/c=x", "cannot be the name of a label"),
        ("/a=x", "cannot be the name of a label"),
        ("UPPER.example/a", "cannot be the name of a label"),
        ("!", "it ends too early"),
        ("!!app", "'!' where the name"),
        ("a" * 64, "cannot be the name of a label"),
        ("a=" + "b" * 64, "cannot be the value of a label"),
        ("app=wéb", "cannot be the value of a label"),
    ],
)
def test_a_selector_that_is_wrong_is_refused_with_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(BastionError) as caught:
        selectors.parse(text)

    assert caught.value.code is Code.INVALID
    assert says in caught.value.user_message
    assert "is not a label selector" in caught.value.user_message


NAMES = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,10}[A-Za-z0-9])?", fullmatch=True)
KEYS = st.one_of(
    NAMES, st.builds("{}/{}".format, st.from_regex(r"[a-z0-9]{1,5}(\.[a-z0-9]{1,5})?", fullmatch=True), NAMES)
)
VALUES = st.one_of(st.just(""), NAMES)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(st.sampled_from(Operator))
    takes = operator in {Operator.IN, Operator.NOT_IN}
    values = draw(st.frozensets(VALUES, min_size=1, max_size=3)) if takes else frozenset[str]()
    return Requirement(key=draw(KEYS), operator=operator, values=values)


def written(requirement: Requirement, space: str) -> str:
    match requirement.operator:
        case Operator.EXISTS:
            return f"{space}{requirement.key}{space}"
        case Operator.ABSENT:
            return f"!{space}{requirement.key}"
        case operator:
            values = f",{space}".join(sorted(requirement.values))
            return f"{requirement.key} {operator}{space}({values})"


@given(st.lists(requirements(), max_size=4), st.sampled_from(["", " "]))
def test_every_selector_that_can_be_written_is_read_as_it_was_meant(meant: list[Requirement], space: str) -> None:
    text = ",".join(written(requirement, space) for requirement in meant)

    assert selectors.parse(text) == Selector(tuple(meant))


@given(st.text(alphabet="ab=!,()  in/.-\x00é", max_size=20))
def test_any_text_is_a_selector_or_a_mistake(text: str) -> None:
    try:
        selectors.parse(text).selects(LABELS)
    except BastionError as error:
        assert error.code is Code.INVALID  # noqa: PT017 - there may be no error


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("2h30m", 9000), ("1d", 86400), ("1d1s", 86401), ("90s", 90), ("1d2h3m4s", 93784), ("007s", 7)],
)
def test_a_length_of_time_is_read(text: str, seconds: int) -> None:
    assert quantities.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5x", "0s", "-5m", "5m2h", "1.5h", "5 m", "٣m", "9" * 30 + "d", "5m\n"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(BastionError, match="5m, 2h30m or 1d"):
        quantities.seconds(text)


@given(st.integers(0, 400 * 86400))
def test_an_age_says_the_time_to_a_tenth(passed: int) -> None:
    since = datetime.fromtimestamp(NOW.timestamp() - passed, UTC).isoformat().replace("+00:00", "Z")

    said = quantities.age(since, NOW)

    assert re.fullmatch(r"\d+[dhms](\d+[hms])?", said)
    meant = quantities.seconds(said) if said != "0s" else 0
    assert meant <= passed
    assert passed - meant <= passed / 10


@pytest.mark.parametrize(
    ("since", "said"),
    [
        ("2026-03-01T12:00:00Z", "0s"),
        ("2026-03-01T11:59:15Z", "45s"),
        ("2026-03-01T11:56:40Z", "3m20s"),
        ("2026-03-01T11:57:00Z", "3m"),
        ("2026-03-01T06:48:00Z", "5h12m"),
        ("2026-02-27T08:00:00Z", "2d4h"),
        ("2026-02-17T08:00:00Z", "12d"),
        ("2026-03-01T12:00:09Z", "0s"),
        ("2026-03-01T11:59:58.580577Z", "1s"),
        ("", "?"),
    ],
)
def test_an_age_is_told_in_two_units_at_most(since: str, said: str) -> None:
    assert quantities.age(since, NOW) == said


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("1", Fraction(1)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("250m", Fraction(1, 4)),
        ("1234567n", Fraction(1234567, 10**9)),
        ("34Mi", Fraction(34 << 20)),
        ("1k", Fraction(1000)),
        ("1e3", Fraction(1000)),
        ("2E", Fraction(2 * 10**18)),
        ("12345Ki", Fraction(12345 << 10)),
    ],
)
def test_a_quantity_is_read(quantity: str, number: Fraction) -> None:
    assert quantities.amount(quantity) == number


@pytest.mark.parametrize("quantity", ["", "x", "1x", "-1", "1KI", "1mi", "m", "1 Mi"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantities.amount(quantity)


def test_cpu_and_memory_are_told_as_kubectl_tells_them() -> None:
    assert (quantities.millicores("1234567n"), quantities.millicores("2"), quantities.millicores("0")) == (
        "2m",
        "2000m",
        "0m",
    )
    assert (quantities.mebibytes("35000Ki"), quantities.mebibytes("1Gi")) == ("34Mi", "1024Mi")


@given(st.lists(st.text(min_size=1, max_size=10), max_size=4))
def test_words_are_split_as_a_shell_splits_them(meant: list[str]) -> None:
    line = shlex.join(meant).encode(errors="surrogatepass")

    try:
        assert arguments.words(line) == meant
    except BastionError as error:
        assert error.code is Code.INVALID  # noqa: PT017 - only for what is not UTF-8
        assert any("\ud800" <= char <= "\udfff" for word in meant for char in word)


@pytest.mark.parametrize("line", [b"logs 'web", b"logs \xff", b'"', b"a\\"])
def test_a_line_that_cannot_be_read_is_a_mistake(line: bytes) -> None:
    with pytest.raises(BastionError, match="cannot be read"):
        arguments.words(line)


def test_a_target_is_a_login() -> None:
    assert arguments.target("logs", "deploy_api.shop+app") == TargetLogin(
        kind="deploy", name="api", namespace="shop", container="app"
    )


@pytest.mark.parametrize("text", ["web", "console", "invite", "", "web+a.b", "deploy_web", "x" * 500])
def test_what_names_no_pod_is_a_wrong_argument_and_not_a_wrong_login(text: str) -> None:
    with pytest.raises(BastionError) as caught:
        arguments.target("logs", text)

    said = f"logs: {text[:80]!r} names no pod: write POD.NAMESPACE, for example web.shop"
    assert (caught.value.code, caught.value.user_message) == (Code.INVALID, said)


@pytest.mark.parametrize("text", ["../x.shop", "Web.shop", "web.", "cron_web.shop", "web.shop+"])
def test_what_cannot_be_a_login_is_a_wrong_argument(text: str) -> None:
    with pytest.raises(BastionError, match=r"describe: .* is not a login: ") as caught:
        arguments.target("describe", text)

    assert caught.value.code is Code.INVALID
    assert "local user name" not in caught.value.user_message


WORDS = st.sampled_from(
    ["pods", "logs", "describe", "help", "-n", "-l", "--", "--json", "-f", "--tail", "--tail=3", "-", "a.b", "%s", "5m"]
)


@given(st.one_of(st.binary(max_size=30), st.lists(st.one_of(WORDS, st.text(max_size=5)), max_size=6).map(shlex.join)))
def test_whatever_is_asked_is_a_command_or_a_mistake(line: bytes | str) -> None:
    command = line.encode(errors="replace") if isinstance(line, str) else line
    try:
        asked = commands.read(command)
    except BastionError as error:
        found = (error.code is Code.INVALID, len(error.user_message) < 1000)
        assert found == (True, True)
    else:
        assert asked.command in commands.COMMANDS
    assert commands.action_of(command)


def test_every_command_says_how_it_is_used() -> None:
    for command in commands.COMMANDS:
        said = command.parser.format_help()
        assert said.startswith(f"usage: ssh BASTION {command.name}")
        assert max(map(len, said.splitlines())) <= 78
        assert any(line.split()[:1] == [command.name] for line in commands.overview())
