"""`bastion audit` and `bastion db` as people run them, on both databases."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.cli.audit import parse_when
from bastion.cli.main import main
from bastion.store import open_store
from bastion.store.migrate import upgrade
from bastion.wire.transcript import Frame, Kind
from support import records
from support.databases import raw_engine, sqlite_url
from support.records import START, SettableClock, counted_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

BASTION = Path(sys.executable).with_name("bastion")
EVIL = b"\x1b]0;owned\x07\x1b[2Jls\r\n\xe2\x80\xae\xff --all"


def environment(url: str, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8", "BASTION_DATABASE_URL": url, **more}


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command printed."""

    stdout: str
    stderr: str


def bastion(url: str, *arguments: str, status: int = 0) -> Result:
    """Run the command line in this process: much faster, and the same but for the terminal."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["bastion", *arguments])
        patch.setenv("BASTION_DATABASE_URL", url)
        found = main()
    assert found == status, err.getvalue()
    return Result(out.getvalue(), err.getvalue())


def rows(url: str, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
    printed = bastion(url, "audit", *arguments, "--json", status=status).stdout
    return [json.loads(line) for line in printed.splitlines()]


FRAMES = [
    records.output(100_000, b"$ echo gr\xc3"),
    records.output(200_000, b"\xbc\xc3\x9fe\r\ngr\xc3\xbc\xc3\x9fe\r\n"),
    Frame(at_us=300_000, kind=Kind.RESIZE, data=b"120x40"),
    records.output(400_000, b"\x1b[31mred\x1b[m \x1b]52;c;ZXZpbA==\x07\x1b[6n\r\n"),
    Frame(at_us=500_000, kind=Kind.MARKER, data=b"exit 3"),
]


@pytest.fixture
def url(database_url: str) -> str:
    asyncio.run(fill(database_url))
    return database_url


async def fill(database_url: str) -> None:
    """A whole session with a hostile command, one that is open, and events."""
    async with open_store(database_url, name="bastion-0", clock=SettableClock(), new_id=counted_ids()) as store:
        writer = store.writer
        await writer.open_connection(records.connection())
        await writer.start_session(records.session("aaaa1111bbbb"), records.command("cmd1", "aaaa1111bbbb", text=EVIL))
        await writer.append([records.chunk("aaaa1111bbbb", seq, FRAMES[seq : seq + 1]) for seq in range(len(FRAMES))])
        await writer.end_session(records.session_end("aaaa1111bbbb"), records.command_end("cmd1"))
        other = records.session("aaaa2222cccc", person="bob", namespace="prod", pod="db", after_s=60, pty=False)
        await writer.start_session(other, records.command("cmd2", other.id, text=b"uptime", after_s=60))
        refused = dataclasses.replace(
            records.event("e1", "session.refused"), reason="no role\x1b[2J\nallows it", rule="policy.default"
        )
        await writer.event(refused)


# --- listings ------------------------------------------------------------------------


def test_sessions_as_json_say_who_where_when_and_how_it_ended(url: str) -> None:
    [open_one, whole] = rows(url, "sessions")

    assert whole["id"] == "aaaa1111bbbb"
    assert {key: whole[key] for key in ("person", "credential", "namespace", "pod", "container", "action")} == {
        "person": "alice",
        "credential": "SHA256:abc",
        "namespace": "shop",
        "pod": "web",
        "container": "app",
        "action": "shell",
    }
    assert (whole["started_at"], whole["ended_at"]) == ("2026-03-01T12:00:00.123456Z", "2026-03-01T12:00:10.123456Z")
    assert (whole["status"], whole["outcome"], whole["source"]) == (3, "exited", "192.0.2.7")
    assert (open_one["id"], open_one["status"], open_one["ended_at"]) == ("aaaa2222cccc", None, None)


def test_commands_as_json_are_exact_even_if_they_are_not_utf_8(url: str) -> None:
    [plain, evil] = rows(url, "commands")

    assert (plain["text"], plain["status"], "text_base64" in plain) == ("uptime", None, False)
    assert base64.b64decode(evil["text_base64"]) == EVIL
    assert evil["text"] == EVIL.decode(errors="replace")
    assert (evil["person"], evil["pod"], evil["session"], evil["status"]) == ("alice", "web", "aaaa1111bbbb", 3)


def test_events_as_json_tell_of_refusals(url: str) -> None:
    [event] = [row for row in rows(url, "events") if row["type"] == "session.refused"]

    assert (event["rule"], event["actor"], event["detail"]) == (
        "policy.default",
        "cli:root@host",
        {"tries": 2, "first": True},
    )


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--person", "alice"], ["aaaa1111bbbb"]),
        (["--pod", "db"], ["aaaa2222cccc"]),
        (["-n", "shop"], ["aaaa1111bbbb"]),
        (["--since", "2026-03-01T12:00:30Z"], ["aaaa2222cccc"]),
        (["--until", "2026-03-01T13:00:30+01:00"], ["aaaa1111bbbb"]),
        (["--since", "2026-03-02"], []),
        (["--person", "alice' OR '1'='1"], []),
        (["--person", "\udcff"], []),  # as Python has an argument that is not UTF-8
    ],
)
def test_listings_are_filtered(url: str, filters: list[str], found: list[str]) -> None:
    assert [row["id"] for row in rows(url, "sessions", *filters)] == found


def test_a_cut_off_listing_says_so_on_stderr(url: str) -> None:
    result = bastion(url, "audit", "sessions", "--limit", "1", "--json")

    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == "There are more than this one: see --limit, --since, --until.\n"
    bastion(url, "audit", "play", "aaaa1")
    assert "more than these 2:" in bastion(url, "audit", "events", "--limit", "2").stderr


@pytest.mark.parametrize("listing", ["sessions", "commands", "events"])
def test_tables_hold_one_line_for_each_entry_and_nothing_that_acts(url: str, listing: str) -> None:
    shown = bastion(url, "audit", listing).stdout
    lines = shown.splitlines()

    assert len(lines) == 1 + len(rows(url, listing))
    assert lines[0].startswith(("STARTED (UTC)", "AT (UTC)"))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)


def test_a_wrong_time_names_its_flag(url: str) -> None:
    assert "--since" in bastion(url, "audit", "sessions", "--since", "yesterday", status=2).stderr


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2h", START - timedelta(hours=2)),
        ("30m", START - timedelta(minutes=30)),
        ("7d", START - timedelta(days=7)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00:00.5Z", datetime(2026, 1, 31, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_times_are_understood(text: str, meant: datetime) -> None:
    assert parse_when(text, START) == meant


@given(st.text(max_size=12))
def test_any_text_is_a_time_in_utc_or_a_clean_error(text: str) -> None:
    try:
        assert parse_when(text, START).tzinfo is UTC
    except (ValueError, OverflowError) as error:
        assert str(error)  # noqa: PT017 - the error is one of two outcomes


# --- one session ------------------------------------------------------------------------


def test_show_says_it_all_on_one_page_and_verifies_the_chain(url: str) -> None:
    page = bastion(url, "audit", "show", "aaaa1").stdout

    for said in (
        "alice, by key SHA256:abc, from 192.0.2.7",
        "web.shop+app (pod UID uid-1)",
        "xterm 100x30",
        "role developer, rule roles.developer.allow[0], policy sha256:1234",
        "RBAC: allowed by RoleBinding",
        "status 3, exited",
        "5 in, 70 out",
        "complete",
        "verified, 9 links",
        "LD_PRELOAD",
        "\\x1b]0;owned\\x07",
    ):
        assert said in page
    assert "\x1b" not in page


def test_what_passed_in_a_session_that_was_cut_off_is_not_known(url: str) -> None:
    asyncio.run(start_again(url, SettableClock()))
    [cut_off] = rows(url, "sessions", "--person", "bob")
    [shown] = rows(url, "show", "aaaa2222")

    for said in (cut_off, shown):
        assert (said["complete"], said["bytes_in"], said["bytes_out"]) == (False, None, None)
    assert re.search("^Bytes +not known$", bastion(url, "audit", "show", "aaaa2222").stdout, re.MULTILINE)


def test_when_a_session_that_was_cut_off_ended_is_not_known_but_between_when(url: str) -> None:
    next_start = START + timedelta(hours=8)
    asyncio.run(start_again(url, SettableClock(next_start)))
    [cut_off] = rows(url, "sessions", "--person", "bob")
    [shown] = rows(url, "show", "aaaa2222")
    [closed] = rows(url, "sessions", "--person", "alice", "--limit", "1")

    for said in (cut_off, shown):
        assert (said["started_at"] <= said["ended_after"], said["ended_at"]) == (True, None)
        assert said["ended_before"] == "2026-03-01T20:00:00.123456Z"
    assert [event["type"] for event in shown["events"]] == ["session.incomplete"]
    assert (closed["ended_after"], closed["ended_before"], closed["ended_at"] is None) == (None, None, False)
    page = bastion(url, "audit", "show", "aaaa2222").stdout
    for words in (
        "^Ended +at a time that is not known: after .* UTC, .* and before 2026-03-01 20:00:00 UTC",
        "^  2026-03-01 20:00:00  session.incomplete, failed: bastion ended without closing",
    ):
        assert re.search(words, page, re.MULTILINE)


async def start_again(url: str, clock: SettableClock) -> None:
    async with open_store(url, name="bastion-0", clock=clock, new_id=counted_ids("next")) as store:
        assert len((await store.writer.begin()).closed) == 1


def test_show_says_where_a_chain_is_broken_and_fails_after_its_page(url: str) -> None:
    asyncio.run(tamper(url))
    page = bastion(url, "audit", "show", "aaaa1111bbbb", status=1)

    assert "broken at link 3 (transcript_chunk)" in page.stdout
    assert page.stdout.endswith("[status 3]\n")
    [shown] = rows(url, "show", "aaaa1111bbbb", status=1)
    assert (shown["chain"]["intact"], shown["chain"]["links"]) == (False, 3)


async def tamper(url: str) -> None:
    engine = raw_engine(url)
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.exec_driver_sql("ALTER TABLE transcript_chunk DISABLE TRIGGER USER")
        else:
            await connection.exec_driver_sql("DROP TRIGGER transcript_chunk_no_update")
        await connection.exec_driver_sql("UPDATE transcript_chunk SET data = hash WHERE seq = 1")
    await engine.dispose()


@pytest.mark.parametrize(("prefix", "said"), [("zz", "audit sessions"), ("aaaa", "aaaa1111bbbb, aaaa2222cccc")])
def test_a_session_that_is_not_one_is_an_error_of_one_line(url: str, prefix: str, said: str) -> None:
    result = bastion(url, "audit", "show", prefix, status=1)

    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


# --- transcripts --------------------------------------------------------------------------


def test_exported_asciicast_is_version_2_with_commands_as_markers(url: str) -> None:
    lines = [json.loads(line) for line in bastion(url, "audit", "export", "aaaa1").stdout.splitlines()]
    [header, *events] = lines

    assert (header["version"], header["width"], header["height"], header["env"]) == (2, 100, 30, {"TERM": "xterm"})
    assert [event[1] for event in events] == ["m", "o", "o", "r", "o", "m"]
    assert events[1:3] == [[0.1, "o", "$ echo gr"], [0.2, "o", "üße\r\ngrüße\r\n"]]
    assert events[3] == [0.3, "r", "120x40"]


def test_exported_text_is_what_stood_on_the_screen(url: str) -> None:
    text = bastion(url, "audit", "export", "aaaa1", "--format", "text").stdout

    assert text == "$ echo grüße\ngrüße\nred\n"


def test_exported_json_is_exact(url: str) -> None:
    [header, *frames] = rows(url, "export", "aaaa1")
    data = [base64.b64decode(f["text_base64"]) if "text_base64" in f else f["text"].encode() for f in frames]

    assert header["id"] == "aaaa1111bbbb"
    assert [(f["at_us"], f["kind"]) for f in frames] == [(f.at_us, f.kind.name.lower()) for f in FRAMES]
    assert data == [frame.data for frame in FRAMES]


def test_an_export_never_overwrites(url: str, tmp_path: Path) -> None:
    target = tmp_path / "session.cast"
    bastion(url, "audit", "export", "aaaa1", "--output", str(target))
    first = target.read_text()
    refused = bastion(url, "audit", "export", "aaaa1", "--output", str(target), status=1)

    assert "--output" in refused.stderr
    assert target.read_text() == first
    assert json.loads(first.splitlines()[0])["version"] == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_reading_a_transcript_is_an_event(url: str) -> None:
    bastion(url, "audit", "play", "aaaa1")
    bastion(url, "audit", "export", "aaaa1")
    bastion(url, "audit", "show", "aaaa1")
    told = [row for row in rows(url, "events") if row["type"].startswith("recording.")]

    assert {row["type"] for row in told} == {"recording.played", "recording.exported"}
    assert {row["session"] for row in told} == {"aaaa1111bbbb"}
    assert all(row["actor"].startswith("cli:") for row in told)


def test_a_damaged_transcript_is_an_error_of_one_line(url: str) -> None:
    asyncio.run(tamper(url))
    result = bastion(url, "audit", "export", "aaaa1", "--format", "text", status=1)

    assert "damaged" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_pipe_gets_what_is_played_at_once_and_filtered(url: str) -> None:
    played = bastion(url, "audit", "play", "aaaa1").stdout

    assert played == "$ echo grüße\r\ngrüße\r\n\x1b[31mred\x1b[m \r\n"


# --- on a terminal -------------------------------------------------------------------------


@pytest.fixture
def sqlite_record(tmp_path: Path) -> str:
    url = sqlite_url(tmp_path / "bastion.db")
    asyncio.run(upgrade(url))
    asyncio.run(fill(url))
    return url


def on_terminal(url: str, *arguments: str, **more: str) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [BASTION, *arguments],
        env=environment(url, **{"TERM": "xterm-256color", "COLUMNS": "80"} | more),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, enough: bytes, *, within_s: float = 30) -> bytes:
    """What a terminal got, up to that text, or to its end if the text is empty."""
    got, deadline = b"", time.monotonic() + within_s
    while not (enough and enough in got):
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, got
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        got += data
    return got


def whole_screen(url: str, arguments: Sequence[str], **more: str) -> str:
    process, terminal = on_terminal(url, *arguments, **more)
    shown = read_until(terminal, b"")
    os.close(terminal)
    assert process.wait(10) == 0
    return shown.decode()


@pytest.mark.parametrize("listing", ["sessions", "commands", "events"])
def test_a_terminal_of_80_columns_gets_a_table_that_fits(sqlite_record: str, listing: str) -> None:
    shown = whole_screen(sqlite_record, ["audit", listing], NO_COLOR="1")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)

    assert max(map(len, plain.splitlines())) <= 80
    assert "alice" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


@pytest.mark.parametrize("listing", ["sessions", "commands"])
@pytest.mark.parametrize("width", [80, 60, 40, 31])
def test_a_narrow_terminal_gets_each_entry_on_one_line_with_its_whole_time_and_id(
    sqlite_record: str, listing: str, width: int
) -> None:
    shown = re.sub(
        r"\x1b\[[0-9;]*m", "", whole_screen(sqlite_record, ["audit", listing], NO_COLOR="1", COLUMNS=f"{width}")
    )
    lines = shown.splitlines()

    assert max(map(len, lines)) <= width
    assert [line[:31].rstrip() for line in lines] == [
        "STARTED (UTC)        SESSION",
        "2026-03-01 12:01:00  aaaa2222cc",
        "2026-03-01 12:00:00  aaaa1111bb",
    ]


def test_playing_on_a_terminal_takes_its_time(sqlite_record: str) -> None:
    began = time.monotonic()
    fast = whole_screen(sqlite_record, ["audit", "play", "aaaa1", "--speed", "100"])
    quick = time.monotonic() - began
    began = time.monotonic()
    slow = whole_screen(sqlite_record, ["audit", "play", "aaaa1", "--speed", "0.2"])
    slowly = time.monotonic() - began

    assert "grüße" in fast
    assert fast == slow
    assert slowly - quick > 1


def test_ctrl_c_ends_playing_quietly_and_puts_the_terminal_right(sqlite_record: str) -> None:
    process, terminal = on_terminal(sqlite_record, "audit", "play", "aaaa1", "--speed", "0.1")
    before = read_until(terminal, b"echo")
    process.send_signal(signal.SIGINT)
    after = read_until(terminal, b"")
    os.close(terminal)

    assert process.wait(10) == 130
    assert b"\x1b[?1049l" in after
    assert b"Traceback" not in before + after
    assert b"Error" not in after


# --- bastion db ---------------------------------------------------------------------------------


def test_db_upgrade_makes_a_database_that_db_check_accepts(empty_database_url: str) -> None:
    if empty_database_url.startswith("sqlite"):
        missing = bastion(empty_database_url, "db", "check", status=2)
        assert "bastion db upgrade" in missing.stderr
    assert "revision" in bastion(empty_database_url, "db", "upgrade").stdout
    assert "revision" in bastion(empty_database_url, "db", "check").stdout
    assert bastion(empty_database_url, "audit", "sessions", "--json").stdout == ""
