"""How a stream ended: what a runtime says of a program it could not start, and what only looks like that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.events import Exited
from bastion.model import Outcome
from bastion.pods.ends import begun, ended, may_complain, never_started
from bastion.wire.remotecommand import ExitStatus

DOCKER = "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown\r\n"
RUNC = "exec failed: unable to start container process: {}"
RUNC_LOG = 'time="2026-11-23T21:00:00Z" level=error msg="exec failed: unable to start container process: {}"\n'
RUNC_TTY = "\x1b[31mERRO\x1b[0m[0000] exec failed: unable to start container process: {} \r\n"
CRUN = "{}: No such file or directory\n"
CRUN_LOG = '{{"msg":"{}: No such file or directory","level":"error","time":"2026-11-23T21:00:00.1Z"}}\n'
CRUN_OLD = '{{"msg":"exec failed: {}: No such file or directory","level":"error"}}\n'
CRUN_TIME = "2026-11-23T21:00:00.123456Z: {}: No such file or directory\n"

NO_SH, NO_SH_CRUN = 'exec: "sh": executable file not found in $PATH', "executable file `sh` not found in $PATH"
COMPLAINTS = [
    *(form.format(NO_SH) for form in (DOCKER, RUNC, RUNC_TTY, "ERRO[0000] " + RUNC)),
    RUNC_LOG.format(NO_SH.replace('"', '\\"')),
    *(form.format(NO_SH_CRUN) for form in (CRUN, CRUN_LOG, CRUN_OLD, CRUN_TIME)),
]
STATUSES = st.sampled_from((1, 126, 127, 255))


@pytest.mark.parametrize("complaint", COMPLAINTS)
@pytest.mark.parametrize("status", [1, 126, 127, 255])
def test_a_runtime_that_found_no_shell_is_understood_on_either_stream(complaint: str, status: int) -> None:
    for said in ((complaint.encode(), b""), (b"", complaint.encode())):
        error = never_started(begun(Exited(status, Outcome.EXITED), *said))

        assert (error.code, error.user_message) == (Code.NO_SHELL, "this container has no shell")


def test_another_program_that_cannot_be_started_is_told_in_short() -> None:
    said = RUNC_LOG.format('exec: \\"/app\\": permission denied').encode()

    end = begun(Exited(255, Outcome.EXITED), said)

    assert end == Exited(
        126, Outcome.NOT_STARTED, 'the container could not start this: exec: "/app": permission denied'
    )
    assert never_started(end).code is Code.NOT_STARTED


def test_a_warning_ahead_of_the_complaint_does_not_hide_it() -> None:
    said = b'time="2026-11-23T21:00:00Z" level=warning msg="cgroups"\n' + RUNC_LOG.format(NO_SH).encode()

    assert begun(Exited(255, Outcome.EXITED), b"", said).outcome is Outcome.NOT_STARTED


@given(said=st.lists(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), max_size=3), status=STATUSES)
def test_what_any_program_says_is_not_taken_for_a_complaint(said: list[bytes], status: int) -> None:
    end = Exited(status, Outcome.EXITED)

    assert begun(end, *said) is end


@pytest.mark.parametrize(
    "line",
    [
        f"sh: {RUNC.format(NO_SH)}",
        f"  {DOCKER.format(NO_SH)}",
        '{"msg":"started","level":"error"}',
        'time="2026-11-23T21:00:00Z" level=info msg="exec failed: not now"',
        "OCI runtime create failed",
        "ERRO[0000] listening",
    ],
)
def test_what_only_resembles_one_is_what_a_program_says(line: str) -> None:
    end = Exited(1, Outcome.EXITED)

    assert begun(end, line.encode(), line.encode()) is end
    assert not may_complain(line.encode() + b"\n")


@given(complaint=st.sampled_from(COMPLAINTS), status=st.integers(0, 255), outcome=st.sampled_from(Outcome))
def test_a_program_that_ended_well_or_otherwise_had_begun(complaint: str, status: int, outcome: Outcome) -> None:
    end = Exited(status, outcome)

    is_understood = outcome is Outcome.EXITED and status > 0
    assert (begun(end, complaint.encode()).outcome is Outcome.NOT_STARTED) == (
        is_understood or outcome is Outcome.NOT_STARTED
    )


@given(complaint=st.sampled_from(COMPLAINTS[:-1]), data=st.data())
def test_a_complaint_on_stdout_is_waited_for_in_whatever_pieces_it_comes(complaint: str, data: st.DataObject) -> None:
    said = complaint.encode()
    at = data.draw(st.integers(0, len(said)))

    assert may_complain(said[:at])


@given(first=st.characters(exclude_characters="O\x1btEF{e", codec="utf-8"), rest=st.text(max_size=100))
def test_any_other_output_is_passed_on_at_once(first: str, rest: str) -> None:
    assert not may_complain((first + rest).encode())


def test_a_first_line_is_not_waited_for_without_bound() -> None:
    assert may_complain(b'time="' + b"x" * 1000)
    assert not may_complain(b'time="' + b"x" * 5000)


@given(code=st.none() | st.integers(0, 255), message=st.text())
def test_every_status_is_an_end_and_only_a_code_is_an_exit(code: int | None, message: str) -> None:
    end = ended(ExitStatus(code=code, message=message))

    assert (end.outcome is Outcome.EXITED) == (code is not None)
    assert end.status in ({126, 255} if code is None else {code})
    assert isinstance(never_started(end), BastionError)
