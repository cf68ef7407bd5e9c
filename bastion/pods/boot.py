"""The argv that starts a person's process in a container, and how its input is written; used by pods.kube, pods.stream.

A pod exec has no environment parameter, no signal channel and a terminal that
starts at 0 by 0 (recorded from a real 1.36), so a few lines of POSIX sh go
ahead of the person's program. They put the session's marker and the passed
environment in place, set the terminal's size and modes before anything can look
at them, print the ready mark and become the program. The mark tells a process
that started from one that never did, and no input is sent before it.

Over v4, where nothing can say that input ended, they also put a decoder between
input and the program. Input comes in frames: printf escapes, which cost a byte
of output some microsecond, or a length and as many bytes as they are, which cost
a frame a process. The second needs a dd that reads exactly what it is asked to;
whether the container has one is found out first and told by the mark.

Without a terminal they outlive the program: they print the end mark and take
what is left of its input until that is ended, which the mark asks for. For where
input waits that nobody reads, containerd tells nobody of the end; and what
closes a connection with something unread in it resets it, so that the status
gets lost on its way, which the API server then calls success.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.wire import remotecommand

if TYPE_CHECKING:
    from bastion.model import ExecRequest, Pty

ONE_ARGUMENT = 120_000
"""Bytes that fit one argument: Linux allows 128 KiB for one string, terminator included."""

BLOCK_FROM = 1024
"""Bytes of input over v4 from which a process costs less than escapes do (with dash; with busybox, from some 300)."""

# $1 marker, $2 size and $3 modes for stty, then NAME=VALUE ..., then -- and what the ending below wants.
# $2 and $3 hold words of ours and numbers, nothing else: they are to be split, and no file name matches them.
# A stty that knows a mode not sets nothing at all, hence the second try. Without arguments it would print.
_PREPARE = """\
export BASTION_SESSION="$1" BASTION_SESSION_LEADER=$$
[ -z "$2$3" ] || stty $2 $3 2>/dev/null || [ -z "$2" ] || stty $2 2>/dev/null
"""
_MARK = """\
printf '\\036%s\\036' "$1"
"""
_ARGUMENTS = """\
shift 3
while [ "$1" != -- ]; do export "$1"; shift; done
shift
"""

_SHELL = """\
if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi
"""

# A command that fits one argument and is UTF-8 is an argument.
_COMMAND = """\
exec sh -c "$1"
"""

# Otherwise it comes as printf escapes in several arguments. $(...) would eat trailing newlines, hence the x.
_JOIN = """\
c=$(printf %b "$@"; printf x)
c=${c%x}
"""
_JOINED = _JOIN + _COMMAND.replace('"$1"', '"$c"')

# Longer than one argument may be, it cannot be handed to another sh: this one evaluates it.
_EVALUATED = (
    _JOIN
    + """\
eval "set --; unset c; $c"
"""
)

# The mark says whether dd reads as much as it is asked to and no more (head does not, in busybox). What it is tried
# with is more than a pipe holds: a dd that is content with one read takes too little, and then c is not what is left.
_V4_MARK = """\
if { printf '%070000dc\\n' 0 | { dd bs=70000 count=1 iflag=fullblock >/dev/null && read -r c && [ "$c" = c ]; }
} 2>/dev/null; then printf '\\036%s\\037' "$1"; else printf '\\036%s\\036' "$1"; fi
"""

# v4 cannot say that input ended, so input comes in frames, see `framed`. The decoder is
# detached, so that a program which ends without reading is not waited for; what is left of it carries the marker.
# That the program reads no more ends it (1 where SIGPIPE is ignored, 141, in ksh93 269). Anything else that does, such
# as no memory for another process, would look like the end of input: then the session ends, too. What is sent to the
# process group (kill 0) is for the program alone.
_V4_HEAD = """\
trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2
( { ( while IFS= read -r l; do
  case $l in
  -*) printf %b "${l#-}" || exit ;;
  [1-9]*) dd bs="$l" count=1 iflag=fullblock || exit ;;
  *) break ;;
  esac
done ) || case $? in 1|141|269) ;; *) kill -KILL $$ ;; esac; } <&3 2>/dev/null & ) 3<&0 | {
exec 3<&-
"""
_V4_TAIL = "}\n"

# They say nothing themselves ("Terminated"), and what is sent to their process group ends them not: without setsid the
# program is in it. An EXIT trap, because an inherited errexit would end them as well. The mark waits beside them for a
# reader, who may be gone: then input ends by itself. It is on stderr, where it is seldom behind other output. What
# prints it is waited for, or it would stay a zombie of a container's first process.
_OUTLIVE_HEAD = """\
trap 's=$?
printf "\\035%s\\036" "$BASTION_SESSION" >&3 &
cat >/dev/null; { kill -KILL $!; wait $!; } || :; exit $s' EXIT
trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2
exec 3>&2 2>/dev/null
(
exec 2>&3 3>&-
"""
# As the leader of a process session and group, as sshd would have it; `$$` there is the program's own.
_LED = """\
if command -v setsid >/dev/null; then exec setsid sh -c {script} sh "$@"; fi
"""
_LEADER = """\
export BASTION_SESSION_LEADER=$$
"""
_OUTLIVE_TAIL = """\
)
exit $?
"""

_UNSAFE = re.compile(rb"[^ !-\[\]-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """How to start one process.

    argv: what the exec asks for.
    ready: what the process prints first on stdout, b"" if it prints nothing of ours.
    framed_input: input must be written by `framed`, because this is v4.
    ready_for_blocks: what it prints instead of `ready` if `framed` may make blocks, b"" if it never does.
    ended: what is printed on stderr once the program has ended, and its input is waited for to end; b"" if nothing is.
    """

    argv: tuple[str, ...]
    ready: bytes
    framed_input: bool
    ready_for_blocks: bytes = b""
    ended: bytes = b""

    @property
    def marks(self) -> tuple[bytes, ...]:
        """What the process may print first on stdout."""
        return (self.ready, self.ready_for_blocks) if self.ready_for_blocks else (self.ready,)


def with_shell(request: ExecRequest, protocol: str) -> Boot:
    """Start the request through the container's sh. Raises BastionError(INVALID) for a command that cannot be one."""
    on_pipes = request.pty is None
    framed_input = on_pipes and protocol == remotecommand.V4
    ending, arguments = _ending(request.command)
    if on_pipes:
        led = _LED.format(script=shlex.quote(_LEADER + ending))
        ending = _OUTLIVE_HEAD + led + ending + _OUTLIVE_TAIL
    mark, ending = (_V4_MARK, _V4_HEAD + ending + _V4_TAIL) if framed_input else (_MARK, ending)
    script = _PREPARE + mark + _ARGUMENTS + ending
    env = [*request.env, ("TERM", request.pty.term)] if request.pty and request.pty.term else request.env
    return Boot(
        argv=(
            *("sh", "-c", script, "sh"),
            request.marker,
            _size(request.pty),
            " ".join(request.pty.modes) if request.pty else "",
            *(f"{name}={value}" for name, value in env),
            "--",
            *arguments,
        ),
        ready=f"\x1e{request.marker}\x1e".encode(),
        framed_input=framed_input,
        ready_for_blocks=f"\x1e{request.marker}\x1f".encode() if framed_input else b"",
        ended=f"\x1d{request.marker}\x1e".encode() if on_pipes else b"",
    )


def without_shell(request: ExecRequest, _protocol: str) -> Boot:
    """Start the request's command by argv, split as a shell would but run by none; it carries no marker.

    Raises BastionError: NO_SHELL if a shell was asked for, INVALID if the command cannot be split.
    """
    if request.command is None:
        raise BastionError(
            Code.NO_SHELL,
            "this container has no shell; you can run a program of its image: ssh … PROGRAM [ARGUMENT ...]",
        )
    try:
        argv = tuple(shlex.split(request.command.decode()))
    except ValueError as error:
        raise BastionError(
            Code.INVALID, f"this container has no shell, and the command cannot be split into arguments: {error}"
        ) from error
    if not argv:
        raise BastionError(Code.INVALID, "this container has no shell, and the command is empty")
    return Boot(argv=argv, ready=b"", framed_input=False)


def framed(data: bytes, *, blocks: bool) -> bytes:
    r"""Input as one frame for the v4 decoder; `framed_end` is the frame after the last.

    A frame is "-" and escapes in a line; or, if it may be a block and is large enough, a line with its length (at
    most ten digits) and the bytes as they are.
    """
    if blocks and len(data) >= BLOCK_FROM:
        return b"%d\n" % len(data) + data
    return b"-" + escaped(data) + b"\n"


framed_end = b".\n"


def escaped(data: bytes) -> bytes:
    r"""Any bytes as printable ASCII that `printf %b` turns back: a byte it would not print as itself is \0ooo."""
    return _UNSAFE.sub(lambda match: b"\\0%03o" % match[0][0], data)


def _size(pty: Pty | None) -> str:
    return f"rows {pty.size.rows} cols {pty.size.cols}" if pty and pty.size.rows and pty.size.cols else ""


def _ending(command: bytes | None) -> tuple[str, list[str]]:
    if command is None:
        return _SHELL, []
    if b"\0" in command:
        raise BastionError(Code.INVALID, "the command holds a NUL byte, which no program can be given")
    try:
        text = command.decode()
    except UnicodeDecodeError:
        text = ""
    if len(command) <= ONE_ARGUMENT and (text or not command):
        return _COMMAND, [text]
    pieces = _pieces(escaped(command).decode())
    return (_JOINED if len(command) <= ONE_ARGUMENT else _EVALUATED), pieces


def _pieces(text: str) -> list[str]:
    """Cut escaped text into arguments, never inside an escape."""
    pieces, at = [], 0
    while at < len(text):
        end = at + ONE_ARGUMENT
        backslash = text.rfind("\\", max(at, end - 4), end)
        if end < len(text) and backslash > end - 5:
            end = backslash
        pieces.append(text[at:end])
        at = end
    return pieces
