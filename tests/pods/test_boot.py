"""What bastion.pods.boot starts is run by real shells and must be what the person asked for."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import termios
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.model import ExecRequest, Pty, WindowSize
from bastion.pods import boot
from bastion.wire.remotecommand import V4, V5
from support.examples import examples
from support.terminal import Terminal
from support.trips import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = "0123456789abcdef0123"
READY = b"\x1e" + MARKER.encode() + b"\x1e"


@pytest.fixture(scope="module", params=["dash", "bash", "busybox"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH whose sh is a certain shell, and whose dd is busybox's if that is busybox's."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("sh", "dd") if request.param == "busybox" else ("sh",):
        (folder / name).symlink_to(program(request.param))
    return f"{folder}:{os.environ['PATH']}"


def program(name: str) -> Path:
    found = shutil.which(name)
    assert found is not None
    return Path(found)


def asked(command: bytes | None, **more: object) -> ExecRequest:
    return ExecRequest(command=command, marker=MARKER, **{"pty": None, "env": (), **more})  # type: ignore[arg-type]  # as given


ENDED = b"\x1d" + MARKER.encode() + b"\x1e"


def run(path: str, request: ExecRequest, protocol: str = V5, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it to its end; the mark that may be printed there, though input had ended, is left out."""
    plan = boot.with_shell(request, protocol)
    done = subprocess.run(plan.argv, env={"PATH": path}, input=stdin, capture_output=True, check=False, timeout=20)
    assert plan.ended == (b"" if request.pty else ENDED)
    done.stderr = done.stderr.removesuffix(plan.ended)
    return done


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


PIECES = st.lists(st.builds(lambda data, times: data * times, st.binary(min_size=1, max_size=9), st.integers(1, 400)))
FRAMINGS = pytest.mark.parametrize("blocks", [False, True], ids=["lines", "blocks"])


class TestV4:
    """v4 cannot say that input ended, so input comes in frames and the end is a frame."""

    @FRAMINGS
    @examples(15)
    @given(pieces=PIECES, cuts=st.lists(st.integers(0, 5000), max_size=4))
    def test_any_bytes_in_any_pieces_arrive_as_they_were(
        self, path: str, *, blocks: bool, pieces: list[bytes], cuts: list[int]
    ) -> None:
        sent = b"".join(boot.framed(piece, blocks=blocks) for piece in pieces) + boot.framed_end
        with Process(path, b"cat; echo end; exit 4") as process:
            for cut in cuts:
                process.give(sent[:cut])
                sent = sent[cut:]
            process.give(sent)

            assert process.rest() == b"".join(pieces) + b"end\n"
            assert process.wait() == 4

    @FRAMINGS
    def test_what_looks_like_a_frame_is_input_as_well(self, path: str, *, blocks: bool) -> None:
        data = (bytes(range(256)) + b"\n.\n-\n\\\n5\n\0") * 20
        sent = boot.framed(data, blocks=blocks) + boot.framed_end + b"what follows is not input\n"

        assert run(path, asked(b"cat"), V4, stdin=sent).stdout[len(READY) :] == data

    def test_a_large_block_that_comes_in_parts_is_one_block(self, path: str) -> None:
        data = os.urandom(50_000)
        sent = boot.framed(data, blocks=True)
        with Process(path, b"cat") as process:
            for part in (sent[:3], sent[3:20_000], sent[20_000:]):
                process.give(part)
                wait_until(process.has_taken_all)
            process.give(boot.framed_end)

            assert process.rest() == data

    @FRAMINGS
    def test_a_command_that_does_not_read_ends_while_input_is_still_open(self, path: str, *, blocks: bool) -> None:
        with Process(path, b"echo done; exit 3") as process:
            process.give(boot.framed(bytes(2000), blocks=blocks))

            assert process.rest() == b"done\n"
            assert process.wait() == 3

    @FRAMINGS
    def test_a_command_that_reads_a_part_ends_with_its_own_status(self, path: str, *, blocks: bool) -> None:
        sent = boot.framed(bytes(20_000), blocks=blocks) * 20 + boot.framed_end

        done = run(path, asked(b"head -c 3000 | wc -c; exit 3"), V4, stdin=sent)

        assert (done.stdout[len(READY) :].strip(), done.stderr, done.returncode) == (b"3000", b"", 3)

    @FRAMINGS
    def test_a_command_that_closes_its_input_goes_on(self, path: str, tmp_path: Path, *, blocks: bool) -> None:
        os.mkfifo(tmp_path / "go")
        with Process(path, f"exec </dev/null; read -r _ < {tmp_path}/go; echo on; exit 3".encode()) as process:
            process.give(boot.framed(bytes(2000), blocks=blocks))
            (tmp_path / "go").write_bytes(b"\n")

            assert process.rest() == b"on\n"
            assert process.wait() == 3

    @FRAMINGS
    @pytest.mark.parametrize("size", [4, 2000])
    def test_input_that_waits_for_answers_gets_them_as_it_goes(self, path: str, *, blocks: bool, size: int) -> None:
        with Process(path, b'while read -r l; do echo "got $l"; done') as process:
            for letter in (b"a", b"b"):
                process.give(boot.framed(letter * size + b"\n", blocks=blocks))
                assert process.line() == b"got " + letter * size + b"\n"
            process.give(boot.framed_end)
            assert process.wait() == 0

    @FRAMINGS
    def test_a_program_that_does_not_read_stops_whoever_sends(self, path: str, tmp_path: Path, *, blocks: bool) -> None:
        os.mkfifo(tmp_path / "go")
        one = boot.framed(os.urandom(20_000), blocks=blocks)
        with Process(path, f"read -r _ < {tmp_path}/go; wc -c".encode()) as process:
            given = process.give_until_full(one)
            (tmp_path / "go").write_bytes(b"\n")
            process.give((one * 2)[given % len(one) :] + boot.framed_end)  # the rest of that frame, and another

            assert given < 1_000_000
            assert int(process.rest()) == (given // len(one) + 2) * 20_000
            assert process.wait() == 0

    def test_a_shell_that_ends_at_what_fails_decodes_as_well(self, path: str) -> None:
        environment = {"PATH": path, "SHELLOPTS": "errexit:pipefail"}  # bash heeds it
        plan = boot.with_shell(asked(b"cat"), V4)
        sent = boot.framed(b"small", blocks=True) + boot.framed(bytes(2000), blocks=True) + boot.framed_end

        done = subprocess.run(plan.argv, env=environment, input=sent, capture_output=True, check=False, timeout=20)

        assert done.stdout == plan.ready_for_blocks + b"small" + bytes(2000)
        assert (done.stderr.removesuffix(plan.ended), done.returncode) == (b"", 0)

    def test_where_dd_reads_exactly_what_it_is_asked_for_the_mark_says_so(self, path: str) -> None:
        plan = boot.with_shell(asked(b"echo x"), V4)

        assert run(path, asked(b"echo x"), V4).stdout == plan.ready_for_blocks + b"x\n"

    @pytest.mark.parametrize(
        "dd",
        [
            "",
            "exit 0",
            "cat",
            'for a; do shift; [ "$a" = iflag=fullblock ] || set -- "$@" "$a"; done; exec /bin/dd "$@"',
            'case $* in *iflag*) echo "dd: unknown operand" >&2; exit 1 ;; esac; exec /bin/dd "$@"',
            'exec head -c "${1#bs=}"; echo more',
        ],
        ids=["none", "nothing", "all", "one read", "no iflag", "busybox head"],
    )
    def test_where_it_does_not_input_goes_on_as_lines(self, path: str, tmp_path: Path, dd: str) -> None:
        for name in ("cat", "head"):
            (tmp_path / name).symlink_to(program("busybox"))
        (tmp_path / "sh").symlink_to(Path(path.split(":", maxsplit=1)[0], "sh").resolve())
        if dd:
            (tmp_path / "dd").write_text(f"#!/bin/sh\n{dd}\n")
            (tmp_path / "dd").chmod(0o755)
        sent = boot.framed(bytes(2000), blocks=False) + boot.framed_end

        done = run(str(tmp_path), asked(b"cat"), V4, stdin=sent)

        assert done.stdout == READY + bytes(2000)
        assert (done.stderr, done.returncode) == (b"", 0)

    def test_input_that_cannot_be_passed_on_is_no_end_of_input_and_no_success(self, path: str, tmp_path: Path) -> None:
        (tmp_path / "dd").write_text('#!/bin/sh\n[ "$1" != bs=2000 ] || kill -KILL $$\nexec /bin/dd "$@"\n')
        (tmp_path / "dd").chmod(0o755)
        sent = boot.framed(bytes(1500), blocks=True) + boot.framed(bytes(2000), blocks=True) + boot.framed_end

        done = run(f"{tmp_path}:{path}", asked(b"cat >/dev/null; echo over"), V4, stdin=sent)

        assert done.returncode == -9

    def test_a_terminal_needs_no_frames(self) -> None:
        pty = Pty(term="xterm", size=WindowSize(cols=80, rows=24))

        assert not boot.with_shell(asked(None, pty=pty), V4).framed_input


@pytest.mark.parametrize("protocol", [V5, V4])
class TestEnd:
    """A program on pipes has ended when the mark says so; what it left of its input is taken before that is told."""

    @pytest.mark.parametrize(
        ("command", "said", "status"),
        [
            (b"head -c 10; exit 3", b"x" * 10, 3),
            (b"echo done", b"done\n", 0),
            (b"exec sh -c 'exit 7'", b"", 7),
            (b"kill -TERM $$", b"", 143),
            (b"echo left; kill -KILL $$", b"left\n", 137),
            (b"trap 'echo told; exit 4' TERM; kill -TERM 0; sleep 20", b"told\n", 4),
            (b"for s in HUP INT QUIT ALRM USR1 USR2; do trap : $s; kill -$s 0; done; exit 5", b"", 5),
            (b"exec >&- 2>&-; exit 6", b"", 6),
            (b"unset BASTION_SESSION; exit 8", b"", 8),
            (b"unset BASTION_SESSION; exit 9 #" + b"x" * 200_000, b"", 9),
        ],
        ids=lambda value: value[:20].decode() if isinstance(value, bytes) else str(value),
    )
    def test_the_rest_of_the_input_is_taken_and_the_status_is_the_programs_own(
        self, path: str, protocol: str, command: bytes, said: bytes, status: int
    ) -> None:
        plan = boot.with_shell(asked(command), protocol)
        piece = b"x" * 50_000
        with started(path, plan) as (process, stdin, stdout, stderr):
            stdin.write((boot.framed(piece, blocks=True) if plan.framed_input else piece) * 100)
            assert up_to_mark(stderr) == b""
            assert process.poll() is None  # its input may still bring something
            stdin.write(boot.framed_end if plan.framed_input else b"")
            stdin.close()

            shown = stdout.read()
            assert stderr.read() == b""
            assert process.wait() == status
        mark = next(one for one in plan.marks if shown.startswith(one))
        assert shown[len(mark) :] == said

    def test_what_it_left_running_keeps_its_output(self, path: str, protocol: str, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "go")
        plan = boot.with_shell(
            asked(f"{{ read -r _ < {tmp_path}/go; echo late; }} & echo soon; exit 3".encode()), protocol
        )
        with started(path, plan) as (process, stdin, stdout, stderr):
            assert up_to_mark(stderr) == b""
            (tmp_path / "go").write_bytes(b"\n")
            stdin.close()

            assert stdout.read().endswith(b"soon\nlate\n")
            assert process.wait() == 3

    @pytest.mark.parametrize("where", [b"", b" >&2"], ids=["stdout", "stderr"])
    def test_nobody_needs_to_read_for_it_to_end(self, path: str, protocol: str, where: bytes) -> None:
        """Whoever asked for the output may be gone, and the program was ended for that."""
        plan = boot.with_shell(asked(b"yes" + where + b" & sleep 0.1; kill -KILL $! $$"), protocol)
        with started(path, plan) as (process, stdin, _stdout, _stderr):
            stdin.close()

            assert process.wait() == 137
            wait_until(lambda: not is_group(process.pid))

    @pytest.mark.parametrize("command", [b"", b"#" + b"x" * 200_000 + b"\n"], ids=["short", "long"])
    def test_the_program_leads_a_process_group_of_its_own(self, path: str, protocol: str, command: bytes) -> None:
        done = run(
            path,
            asked(
                command
                + b"set -- $(cat /proc/$$/stat); echo $(($5 == $$)) $(($6 == $$)) $((BASTION_SESSION_LEADER == $$))"
            ),
            protocol,
            stdin=boot.framed_end if protocol == V4 else b"",
        )

        assert done.stdout.split(b"\x1e")[-1].split(b"\x1f")[-1] == b"1 1 1\n"

    @pytest.mark.parametrize("command", [b"exit 3", b"exit 3 #" + b"x" * 200_000], ids=["short", "long"])
    def test_without_setsid_it_is_led_by_what_started_it(
        self, path: str, protocol: str, tmp_path: Path, command: bytes
    ) -> None:
        for name in ("cat", "dd"):
            (tmp_path / name).symlink_to(program("busybox"))
        (tmp_path / "sh").symlink_to(Path(path.split(":", maxsplit=1)[0], "sh").resolve())
        show = b'set -- $(cat /proc/$$/stat); echo "$(($6 == BASTION_SESSION_LEADER))"; '

        with started(str(tmp_path), boot.with_shell(asked(show + command), protocol)) as (process, stdin, stdout, _):
            stdin.close()

            assert stdout.read().endswith(b"1\n")
            assert process.wait() == 3

    def test_a_terminal_has_no_such_mark(self, protocol: str) -> None:
        pty = Pty(term="xterm", size=WindowSize(cols=80, rows=24))

        assert boot.with_shell(asked(b"true", pty=pty), protocol).ended == b""


@contextlib.contextmanager
def started(path: str, plan: boot.Boot) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes], IO[bytes]]]:
    """It and its pipes, in a process group of its own; killed if it takes 20 seconds, so that nothing waits for it."""
    with subprocess.Popen(
        plan.argv,
        env={"PATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as process:
        late = threading.Timer(20, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            yield process, process.stdin, process.stdout, process.stderr
        finally:
            late.cancel()


def is_group(number: int) -> bool:
    """Whether anything is left of a process group."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def up_to_mark(stderr: IO[bytes]) -> bytes:
    """What is said before the end mark; all there is, if that does not come."""
    said = b""
    while not said.endswith(ENDED) and (one := stderr.read(1)):
        said += one
    return said.removesuffix(ENDED)


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


class Process:
    """A started request over v4, its mark read; a context that ends its input and waits for it."""

    def __init__(self, path: str, command: bytes) -> None:
        plan = boot.with_shell(asked(command), V4)
        self._process = subprocess.Popen(
            plan.argv,
            env={"PATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin, self._stdout, self._stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert self._stdout.read(len(READY)) == plan.ready_for_blocks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        self._stdout.close()
        self._stderr.close()
        self._process.wait(30)

    def give(self, data: bytes) -> None:
        """Write all of it, however long that takes."""
        while data:
            data = data[self._stdin.write(data) :]

    def give_until_full(self, data: bytes) -> int:
        """Write it again and again until there is no room for half a second; the bytes that were written."""
        given = 0
        os.set_blocking(self._stdin.fileno(), False)
        while select.select([], [self._stdin], [], 0.5)[1]:
            given += self._stdin.write(data[given % len(data) :]) or 0
        os.set_blocking(self._stdin.fileno(), True)
        return given

    def has_taken_all(self) -> bool:
        """Whether all that was given has been read."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self._stdin, termios.FIONREAD, waiting)
        return not waiting[0]

    def line(self) -> bytes:
        """The next line of output."""
        return self._stdout.readline()

    def rest(self) -> bytes:
        """Output to its end. Input ends with the program, as the end mark asks for."""
        ending = threading.Thread(target=self._end_input)
        ending.start()
        said = self._stdout.read()
        ending.join()
        return said

    def _end_input(self) -> None:
        up_to_mark(self._stderr)
        self._stdin.close()

    def wait(self) -> int:
        """The status."""
        return self._process.wait(30)
