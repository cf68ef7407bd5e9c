"""What bastion.pods.boot starts is run by real shells and must be what the person asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.model import ExecRequest, Pty, WindowSize
from bastion.pods import boot
from bastion.wire.remotecommand import V4, V5
from support.examples import examples
from support.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "0123456789abcdef0123"
READY = b"\x1e" + MARKER.encode() + b"\x1e"


@pytest.fixture(params=["dash", "bash"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH whose sh is a certain shell."""
    shell = shutil.which(request.param)
    assert shell is not None
    (tmp_path / "sh").symlink_to(shell)
    return f"{tmp_path}:{os.environ['PATH']}"


def asked(command: bytes | None, **more: object) -> ExecRequest:
    return ExecRequest(command=command, marker=MARKER, **{"pty": None, "env": (), **more})  # type: ignore[arg-type]  # as given


def run(path: str, request: ExecRequest, protocol: str = V5, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    plan = boot.with_shell(request, protocol)
    return subprocess.run(plan.argv, env={"PATH": path}, input=stdin, capture_output=True, check=False, timeout=20)


def test_the_ready_mark_comes_first_and_the_command_runs_as_it_was_sent(path: str) -> None:
    done = run(path, asked(b"""printf '%s|' "a  b" 'c"d' $((1+1)); echo err >&2; exit 3"""))

    assert done.stdout == READY + b'a  b|c"d|2|'
    assert done.stderr == b"err\n"
    assert done.returncode == 3


def test_the_marker_and_the_passed_environment_reach_the_process_and_nothing_else_of_ours(path: str) -> None:
    done = run(path, asked(b"env", env=(("LANG", "de_DE.UTF-8"), ("LC_ALL", "C"))))

    names = {line.split(b"=")[0] for line in done.stdout.removeprefix(READY).splitlines()}
    assert f"BASTION_SESSION={MARKER}".encode() in done.stdout
    assert b"LANG=de_DE.UTF-8\n" in done.stdout
    assert names <= {
        b"BASTION_SESSION",
        b"BASTION_SESSION_LEADER",
        b"LANG",
        b"LC_ALL",
        b"PATH",
        b"PWD",
        b"SHLVL",
        b"_",
        b"OLDPWD",
    }


def test_standard_input_is_the_commands_own(path: str) -> None:
    assert run(path, asked(b"cat"), stdin=bytes(range(256)) * 100).stdout == READY + bytes(range(256)) * 100


@pytest.mark.parametrize(
    "command",
    [
        b"printf %s 'gr\xfc\xdfe'",
        b"printf %s '\xff\xfe\x80\x01\x1f'",
        b"printf %s 'back\\\\slash \xff %s %d'",
        b"printf %s 'ends in newlines\xff\n\n\n'",
        b"printf %s '" + b"x" * 200_000 + b"'",
        b"printf %s '" + b"\xe9 " * 60_000 + b"'",
        b"# only a comment\n" * 9_000 + b"printf %s yes",
        "printf %s 'grüße'".encode(),
        b"",
    ],
    ids=["latin-1", "bytes", "backslashes", "newlines", "long", "long latin-1", "comments", "utf-8", "empty"],
)
def test_a_command_arrives_whole_whatever_its_bytes_or_length(path: str, command: bytes) -> None:
    expected = subprocess.run(["sh", "-s"], input=command, capture_output=True, check=True)

    done = run(path, asked(command))

    assert done.stdout == READY + expected.stdout
    assert done.stderr == b""


def test_a_long_command_sees_no_arguments_and_no_variable_of_ours(path: str) -> None:
    done = run(path, asked(b"echo $# ${c-unset}; #" + b"x" * 200_000))

    assert done.stdout == READY + b"0 unset\n"


@examples(60)
@given(st.binary(max_size=400).filter(lambda data: b"\0" not in data))
def test_escaped_bytes_come_back_through_printf(data: bytes) -> None:
    escaped = boot.escaped(data)

    printed = subprocess.run(["dash", "-c", 'printf %b "$1"', "sh", escaped], capture_output=True, check=True).stdout

    assert printed == data
    assert all(32 <= byte < 127 for byte in escaped)


@given(st.text(alphabet="a\\\xff", max_size=300))
def test_no_argument_of_a_long_command_ends_inside_an_escape(text: str) -> None:
    command = text.encode("latin-1") + b"\xff" * 60_000

    arguments = boot.with_shell(asked(command), V5).argv[-100:]
    pieces = arguments[arguments.index("--") + 1 :]

    assert "".join(pieces) == boot.escaped(command).decode()
    assert all(len(piece) <= boot.ONE_ARGUMENT for piece in pieces)
    assert all(re.fullmatch(r"(?:\\0[0-7]{3}|[^\\])*", piece) for piece in pieces)


class TestV4:
    """v4 cannot say that input ended, so input comes in lines and the end is a line."""

    def test_input_arrives_whole_and_its_end_ends_the_command(self, path: str) -> None:
        data = bytes(range(256)) * 20 + b"\n.\n-\n\\"
        sent = boot.framed(data[:1000]) + boot.framed(data[1000:]) + boot.framed_end

        done = run(path, asked(b"cat; echo end; exit 4"), V4, stdin=sent + b"what follows is not input\n")

        assert done.stdout == READY + data + b"end\n"
        assert done.returncode == 4

    def test_a_command_that_does_not_read_ends_while_input_is_still_open(self, path: str) -> None:
        plan = boot.with_shell(asked(b"echo done"), V4)
        with subprocess.Popen(plan.argv, env={"PATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read() == READY + b"done\n"
            assert process.wait(10) == 0

    def test_input_that_waits_for_answers_gets_them_as_it_goes(self, path: str) -> None:
        plan = boot.with_shell(asked(b'while read -r l; do echo "got $l"; done'), V4)
        with subprocess.Popen(plan.argv, env={"PATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for word in (b"one", b"two"):
                process.stdin.write(boot.framed(word + b"\n"))
                process.stdin.flush()
                assert process.stdout.readline().removeprefix(READY) == b"got " + word + b"\n"
            process.stdin.write(boot.framed_end)
            process.stdin.flush()
            assert process.wait(10) == 0

    def test_a_terminal_needs_no_frames(self) -> None:
        pty = Pty(term="xterm", size=WindowSize(cols=80, rows=24))

        assert not boot.with_shell(asked(None, pty=pty), V4).framed_input


class TestWithoutShell:
    """A container without a shell runs its own programs by argv."""

    def test_a_command_is_split_as_a_shell_would_and_run_by_none(self) -> None:
        plan = boot.without_shell(asked(b"app --name 'a b' \"$HOME\" c\\ d"), V5)

        assert plan.argv == ("app", "--name", "a b", "$HOME", "c d")
        assert plan.ready == b""

    @pytest.mark.parametrize(
        ("command", "code"),
        [(None, Code.NO_SHELL), (b"app 'open", Code.INVALID), (b"  ", Code.INVALID), (b"app \xff", Code.INVALID)],
    )
    def test_what_cannot_be_run_is_refused(self, command: bytes | None, code: Code) -> None:
        with pytest.raises(BastionError) as caught:
            boot.without_shell(asked(command), V5)

        assert caught.value.code is code


def test_a_command_with_a_nul_byte_is_refused() -> None:
    with pytest.raises(BastionError, match="NUL"):
        boot.with_shell(asked(b"echo \0"), V5)


def test_a_terminal_of_size_zero_is_left_alone(path: str) -> None:
    pty = Pty(term="vt100", size=WindowSize(cols=0, rows=0))

    done = run(path, asked(b"echo $TERM", pty=pty))

    assert done.stdout == READY + b"vt100\n"


class TestTerminal:
    """What a terminal of the pod is like when the person's program begins."""

    ASKED = Pty(
        term="vt100", size=WindowSize(cols=101, rows=33), modes=("intr", "^T", "erase", "^H", "eol", "undef", "-ixon")
    )

    def test_it_has_the_size_and_the_modes_that_were_asked_for(self, path: str) -> None:
        seen = on_a_terminal(path, self.ASKED)

        assert b"rows 33; columns 101;" in seen
        for setting in (b"intr = ^T;", b"erase = ^H;", b"eol = <undef>;", b" -ixon "):
            assert setting in seen

    def test_a_mode_that_stty_does_not_know_costs_the_modes_and_not_the_size(self, path: str) -> None:
        seen = on_a_terminal(path, replace(self.ASKED, modes=("intr", "^T", "no-such-mode")))

        assert b"rows 33; columns 101;" in seen
        assert b"intr = ^C;" in seen

    def test_without_a_size_the_modes_alone_are_set_and_nothing_is_printed(self, path: str) -> None:
        nameless = WindowSize(cols=0, rows=0)

        assert b"intr = ^T;" in on_a_terminal(path, replace(self.ASKED, size=nameless))
        assert on_a_terminal(path, replace(self.ASKED, size=nameless, modes=("no-such-mode",))).startswith(READY)

    def test_a_container_without_stty_is_not_told(self, tmp_path: Path) -> None:
        for program in ("sh", "echo"):
            found = shutil.which(program)
            assert found is not None
            (tmp_path / program).symlink_to(found)

        assert on_a_terminal(str(tmp_path), self.ASKED, b"echo fine") == READY + b"fine\r\n"


def on_a_terminal(path: str, pty: Pty, command: bytes = b"stty -a") -> bytes:
    plan = boot.with_shell(asked(command, pty=pty), V5)
    with Terminal(plan.argv, WindowSize(cols=1, rows=1), {"PATH": path}) as terminal:
        terminal.wait()
        return terminal.seen
