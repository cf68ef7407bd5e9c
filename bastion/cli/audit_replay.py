"""`bastion audit play` and `export`: transcripts out of the record; called by cli.audit.

Whoever reads a transcript is in the record before they see its first byte.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from bastion.capture.lines import LineRenderer
from bastion.cli import audit_json, output
from bastion.errors import BastionError, Code
from bastion.model import Outcome, WindowSize
from bastion.printable import RESET, ReplayFilter, line
from bastion.records import AuditEvent
from bastion.store import open_store
from bastion.store.views import Filter
from bastion.system import SystemClock, new_id
from bastion.wire import asciicast
from bastion.wire.transcript import Frame, Kind, TranscriptError, frames_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bastion.store import Store
    from bastion.store.views import SessionView

_NO_TERMINAL = WindowSize(cols=80, rows=24)  # what a player shows a session in that had no terminal
_MOST_MARKERS = 10_000
_OUTPUT = (Kind.STDOUT, Kind.STDERR)


async def play(url: str, prefix: str, *, speed: float | None, idle_limit: float) -> None:
    """Write a session's output to stdout, in time on a terminal or if there is a speed, else at once.

    idle_limit: seconds that a pause may last, before speed. Raises BastionError.
    """
    paced = speed is not None or sys.stdout.isatty()
    async with _opened(url, prefix, "recording.played") as (store, view):
        replay = ReplayFilter()
        last_us = 0
        try:
            async for frame in _frames(store, view):
                if frame.kind not in _OUTPUT:
                    continue
                if paced:
                    await asyncio.sleep(min((frame.at_us - last_us) / 1e6, idle_limit) / (speed or 1))
                last_us = frame.at_us
                _write(sys.stdout, replay.feed(frame.data))
        finally:
            if sys.stdout.isatty():
                _write(sys.stdout, RESET)


async def export(url: str, prefix: str, *, form: str, path: Path | None) -> None:
    """Write a session's transcript to a new file, or to stdout. form: asciicast, text or json. Raises BastionError."""
    async with _opened(url, prefix, "recording.exported") as (store, view):
        with _target(path) as target:
            async for text in _FORMS[form](store, view):
                _write(target, f"{text}\n")


async def _asciicast(store: Store, view: SessionView) -> AsyncIterator[str]:
    record = view.record
    yield asciicast.header(
        record.pty.size if record.pty else _NO_TERMINAL,
        started_at_s=int(record.started_at.timestamp()),
        title=f"{record.person} in {record.target}",
        term=record.pty.term if record.pty else "",
    )
    events = asciicast.Events()
    commands = deque(await _command_markers(store, view))
    async for frame in _frames(store, view):
        while commands and commands[0].at_us <= frame.at_us:
            for text in events.lines(commands.popleft()):
                yield text
        for text in events.lines(frame):
            yield text
    for left in commands:
        for text in events.lines(left):
            yield text
    for text in events.end():
        yield text


async def _command_markers(store: Store, view: SessionView) -> list[Frame]:
    """The session's commands as markers, to jump to in a player."""
    started_at = view.record.started_at
    found = await store.reader.commands(Filter(), limit=_MOST_MARKERS, session=view.record.id)
    return [
        Frame(
            at_us=max(0, (command.record.started_at - started_at) // timedelta(microseconds=1)),
            kind=Kind.MARKER,
            data=command.record.text,
        )
        for command in reversed(found)
    ]


async def _text(store: Store, view: SessionView) -> AsyncIterator[str]:
    renderers = {kind: LineRenderer() for kind in _OUTPUT}
    async for frame in _frames(store, view):
        if frame.kind in renderers:
            for text in renderers[frame.kind].feed(frame.data):
                yield line(text)
    for renderer in renderers.values():
        for text in renderer.finish():
            yield line(text)


async def _json(store: Store, view: SessionView) -> AsyncIterator[str]:
    yield audit_json.dump(audit_json.session(view))
    async for frame in _frames(store, view):
        yield audit_json.dump(audit_json.frame(frame))


_FORMS = {"asciicast": _asciicast, "text": _text, "json": _json}


async def _frames(store: Store, view: SessionView) -> AsyncIterator[Frame]:
    """The transcript. Raises BastionError where it is damaged: what comes before is good."""
    expected = 0
    async for chunk in store.reader.chunks(view.record.id):
        try:
            for frame in frames_of(chunk, expected):
                yield frame
        except TranscriptError as error:
            raise BastionError(
                Code.RECORD_UNAVAILABLE,
                f"The transcript is damaged ({error}); `bastion audit show {view.record.id}` says since where.",
            ) from error
        expected += 1


@asynccontextmanager
async def _opened(url: str, prefix: str, told: str) -> AsyncIterator[tuple[Store, SessionView]]:
    """The store and the session that is meant, after its reading is in the record."""
    clock = SystemClock()
    async with open_store(url, name=f"cli@{socket.gethostname()}", clock=clock, new_id=new_id) as store:
        view = await store.reader.session(prefix)
        target = view.record.target
        await store.writer.event(
            AuditEvent(
                id=new_id(),
                at=clock.now(),
                type=told,
                outcome=Outcome.SUCCESS,
                actor=output.actor(),
                person=view.record.person,
                session=view.record.id,
                namespace=target.namespace,
                pod=target.pod,
                container=target.container,
            )
        )
        yield store, view


@contextmanager
def _target(path: Path | None) -> Iterator[TextIO]:
    """Where an export goes. A file is new, and its owner's alone."""
    if path is None:
        yield sys.stdout
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BastionError(Code.CONFLICT, f"--output {path}: it exists, and is not overwritten.") from None
    except OSError as error:
        raise BastionError(Code.INVALID, f"--output {path}: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yield file


def _write(target: TextIO, text: str) -> None:
    # A locale that cannot say a character shows an escape of it.
    encoding = target.encoding or "utf-8"
    target.write(text.encode(encoding, "backslashreplace").decode(encoding))
    target.flush()
