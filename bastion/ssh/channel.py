"""One ssh session channel as a ports.Client: callbacks in, events out; made by ssh.connection for each channel.

Reading from the person stops when 256 KiB wait in the inbox, writing waits when
asyncssh has more than it can send: so memory is bounded both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncssh

from bastion import lifecycle, printable
from bastion.events import HungUp
from bastion.model import Action, Pty, Stream, WindowSize
from bastion.ssh import environment, terminalmodes
from bastion.ssh.guard import guarded
from bastion.ssh.inbox import Inbox
from bastion.trip import Asked, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bastion.events import ClientEvent, Output, Signalled
    from bastion.ssh.overrides import PodChannel

MAX_VARIABLES = 64
MAX_REFUSED_NAMES = 50
LARGEST_SIZE = 0xFFFF

SETTLE_S = 0.05
"""What comes at once on stderr and stdout is written by clients in another order: a line taken back comes alone."""

_ERASE_LINE = "\x1b[K"  # ECMA-48 EL


class SessionChannel(asyncssh.SSHServerSession[bytes]):
    """A channel that becomes a trip when a shell or a command is asked for."""

    def __init__(
        self,
        start: Callable[[SessionChannel, Asked], None],
        refuse: Callable[[Refusal], None],
    ) -> None:
        """`start` begins the trip; `refuse` writes down what never becomes one."""
        self._start = start
        self._refuse = refuse
        self._pty: Pty | None = None
        self._env: dict[str, str] = {}
        self._refused_env: list[str] = []
        self._refused_more = 0
        self._asked: Asked | None = None
        self._subsystem = ""
        self._refused_forwards: set[str] = set()
        self._writable = asyncio.Event()
        self._writable.set()
        self._shown_waiting = False  # the last line on the terminal says what is waited for
        self._gone: asyncio.Future[HungUp] = asyncio.get_running_loop().create_future()

    # --- requests, before the trip ---

    def connection_made(self, chan: PodChannel) -> None:  # type: ignore[override]  # ours is the only kind made
        """Take the channel."""
        self._chan = chan
        self._inbox = Inbox(pause=chan.pause_reading, resume=chan.resume_reading)

    @guarded(answer=False)
    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        """Take a terminal, once and before the start."""
        if self._pty is not None or self._asked is not None:
            return False
        size = WindowSize(cols=min(term_size[0], LARGEST_SIZE), rows=min(term_size[1], LARGEST_SIZE))
        modes = terminalmodes.stty_words(term_modes)
        self._pty = Pty(term=environment.terminal(term_type), size=size, modes=modes)
        return True

    @guarded(answer=False)
    def env_requested(self, name: str, value: str) -> bool:
        """Take what the allow-list lets pass; the rest is refused quietly and recorded by name."""
        if environment.passes(name, value) and len(self._env) < MAX_VARIABLES:
            self._env[name] = value
            return True
        short = name[:64]
        if short not in self._refused_env:
            if len(self._refused_env) < MAX_REFUSED_NAMES:
                self._refused_env.append(short)
            else:
                self._refused_more += 1
        return False

    @guarded(answer=False)
    def shell_requested(self) -> bool:
        """Begin a shell."""
        return self._ask(None)

    @guarded(answer=False)
    def command_requested(self, command: bytes) -> bool:
        """Begin a command."""
        return self._ask(command)

    @guarded(answer=False)
    def subsystem_requested(self, subsystem: str) -> bool:
        """Take the request, to refuse it with words: a client whose request fails shows none."""
        self._subsystem = subsystem[:32]
        return True

    @guarded(answer=False)
    def forwarding_requested(self, what: str) -> bool:
        """Refuse ssh -A, -X and -Y; each once on a channel is enough to say so."""
        if what not in self._refused_forwards:
            self._refused_forwards.add(what)
            reason = f"forwarding of {what} is not offered"
            self._refuse(Refusal(action=Action.FORWARD, rule="forwarding", reason=reason))
        return False

    @guarded(answer=False)
    def break_received(self, msec: int) -> bool:
        """Refuse: a pod exec has no break, and RFC 4335 wants a failure then."""
        del msec
        return False

    @guarded(answer=None)
    def session_started(self) -> None:
        """Begin the trip, now that the client knows its request was taken."""
        if self._asked is not None:
            self._start(self, self._asked)
            return
        reason = f"the {self._subsystem} subsystem is not offered; to copy files use tar or cat as a command"
        action = Action.SFTP_READ if self._subsystem == "sftp" else f"subsystem:{self._subsystem}"
        self._refuse(Refusal(action=action, rule="subsystem", reason=reason))
        self.notice(reason)
        self.exit(lifecycle.DENIED)

    def _ask(self, command: bytes | None) -> bool:
        self._asked = Asked(
            command=command,
            pty=self._pty,
            action=Action.SHELL if command is None else Action.EXEC,
            env=tuple(item for item in self._env.items() if item[0] != "TERM" or self._pty is None),
            refused_env=(*self._refused_env, *([f"and {self._refused_more} more"] if self._refused_more else ())),
        )
        return True

    # --- what the person does ---

    @guarded(answer=None)
    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Take input."""
        del datatype
        self._inbox.put(data)

    @guarded(answer=True)
    def eof_received(self) -> bool:
        """Take the end of input; the channel stays open for output."""
        self._inbox.close()
        return True

    @guarded(answer=None)
    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """Take a size; one of zero is none."""
        del pixwidth, pixheight
        if self._pty is not None and width and height:
            self._inbox.resize(WindowSize(cols=min(width, LARGEST_SIZE), rows=min(height, LARGEST_SIZE)))

    @guarded(answer=None)
    def signal_received(self, signal: str) -> None:
        """Take a signal."""
        self._inbox.signal(signal[:16])

    @guarded(answer=None)
    def close_received(self) -> None:
        """The person closed the channel without waiting for its end."""
        self.hang_up("the client closed the session")

    @guarded(answer=None)
    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended under the channel."""
        self.hang_up(f"the connection was lost ({exc})" if exc else "the client closed the session")

    def hang_up(self, reason: str) -> None:
        """End the trip as if the person had gone; for the person's end and for the server's."""
        self._writable.set()
        if not self._gone.done():
            self._gone.set_result(HungUp(reason))

    # --- ports.Client ---

    async def next_event(self) -> ClientEvent:
        """Wait for what the person does next."""
        return await self._inbox.next_event()

    async def next_signal(self) -> Signalled:
        """Wait for the next signal, whatever was sent before it; once this is asked for, it alone gives signals."""
        return await self._inbox.next_signal()

    async def hung_up(self) -> HungUp:
        """Return once the person is gone."""
        return await asyncio.shield(self._gone)

    @property
    def is_gone(self) -> bool:
        """Whether the person is gone."""
        return self._gone.done()

    async def write(self, output: Output) -> None:
        """Send output; returns when more may be sent."""
        if self._shown_waiting:
            self._end_waiting()
            await asyncio.sleep(SETTLE_S)
        self._send(output.data, output.stream)
        await self._writable.wait()

    def notice(self, text: str) -> None:
        """One line of ours, on stderr."""
        end = "\r\n" if self._pty else "\n"
        self._end_waiting()
        self._send(f"bastion: {printable.line(text)}{end}".encode(errors="replace"), Stream.STDERR)

    def waiting(self, text: str) -> None:
        """One passing line on stderr, in place of the last such line; nothing without a terminal."""
        if self._pty is None:
            return
        cols = self._pty.size.cols or 80
        dumb = self._pty.term in {"", "dumb"}
        line = f"bastion: {printable.line(text)}"
        shown = f"{line}\r\n" if dumb else f"\r{_ERASE_LINE}{line[: cols - 1]}"
        self._shown_waiting = not dumb
        self._send(shown.encode(errors="replace"), Stream.STDERR)

    def _end_waiting(self) -> None:
        """Take back the passing line, so that what comes next begins where it stood."""
        if self._shown_waiting:
            self._shown_waiting = False
            self._send(f"\r{_ERASE_LINE}".encode(), Stream.STDERR)

    def exit(self, status: int) -> None:
        """Report the exit status and close the channel once everything is sent."""
        self._end_waiting()
        with contextlib.suppress(OSError):
            self._chan.exit(status)

    def pause_writing(self) -> None:
        """Asyncssh holds more than it can send."""
        if not self._gone.done():
            self._writable.clear()

    def resume_writing(self) -> None:
        """Asyncssh can take more."""
        self._writable.set()

    def _send(self, data: bytes, stream: Stream) -> None:
        with contextlib.suppress(OSError):  # the person is gone: hung_up says so
            self._chan.write(data, asyncssh.EXTENDED_DATA_STDERR if stream is Stream.STDERR else None)
