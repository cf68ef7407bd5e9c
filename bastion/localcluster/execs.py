"""The exec and attach subresources: from the upgrade to the last frame; used by subresources.

Recorded behaviour that looks wrong and is right (tests/data/kube-wire, exec-*): a stream that goes leaves the process
alive without a HUP; a program that does not exist is told after the 101; the end is sent all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion.localcluster import statuses, subprotocols, websocket
from bastion.localcluster.images import NotExecutableError
from bastion.localcluster.websocket import ProtocolError, WebSocket
from bastion.wire.remotecommand import Channel, parse_resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bastion.localcluster.connection import Connection
    from bastion.localcluster.http import Request
    from bastion.localcluster.mains import Main
    from bastion.localcluster.process import Process, Stdio
    from bastion.localcluster.runtime import ContainerName, Runtime
    from bastion.localcluster.subprotocols import Subprotocol

_REMEMBERED, _ARGUMENTS, _SHOWN = 10_000, 6, 100  # commands that were begun: how many, how much of each

_FAILED = 'error executing command in container: failed to exec in container: failed to start exec "{}": {}'
_RUNTIME = "OCI runtime exec failed: exec failed: unable to start container process: {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an exec request asks for (PodExecOptions)."""

    argv: tuple[str, ...]
    container: str
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @property
    def outputs(self) -> tuple[Channel, ...]:
        """The channels that are written, lowest first; a terminal has no stderr of its own."""
        wanted = ((Channel.STDOUT, self.stdout), (Channel.STDERR, self.stderr and not self.tty))
        return (*(channel for channel, asked in wanted if asked), Channel.STATUS)


def parse_options(request: Request) -> Options:
    """The options in a query. Raises ApiError: 500 for an argument that is not UTF-8."""
    try:
        argv = tuple(value.decode() for name, value in request.query if name == "command")
    except UnicodeDecodeError:
        raise statuses.internal_error("string field contains invalid UTF-8") from None
    return Options(
        argv=argv,
        container=request.param("container"),
        stdin=request.flag("stdin"),
        stdout=request.flag("stdout"),
        stderr=request.flag("stderr"),
        tty=request.flag("tty"),
    )


class Execs:
    """Serves exec and attach streams, and knows which are open.

    known: the subprotocols this server speaks. new_exec_id: 64 hexadecimal digits.
    begun: the beginnings of the last commands that were begun, and where.
    """

    def __init__(self, runtime: Runtime, known: Sequence[Subprotocol], new_exec_id: Callable[[], str]) -> None:
        self._runtime = runtime
        self._known = known
        self._new_exec_id = new_exec_id
        self._open: dict[Connection, ContainerName] = {}
        self.begun: deque[tuple[ContainerName, tuple[str, ...]]] = deque(maxlen=_REMEMBERED)
        self._left_alone: set[asyncio.Task[None]] = set()

    def streams(self, namespace: str, pod: str) -> Iterable[Connection]:
        """The connections of a pod's open streams."""
        return [one for one, name in self._open.items() if (name.namespace, name.pod) == (namespace, pod)]

    def all_streams(self) -> Sequence[Connection]:
        """The connections of every open stream."""
        return list(self._open)

    @contextlib.contextmanager
    def open(self, connection: Connection, name: ContainerName) -> Iterator[None]:
        """A stream to a container lasts as long as this block; one that breaks is only aborted."""
        self._open[connection] = name
        try:
            yield
        except ProtocolError:
            connection.abort()
        except ConnectionError:
            pass  # the client vanished before anything was started, or at the very end
        finally:
            del self._open[connection]

    async def exec(self, request: Request, connection: Connection, name: ContainerName, image: str) -> None:
        """Upgrade, run a command and finish the connection. Raises ApiError before the upgrade."""
        options = parse_options(request)

        def start() -> Process:
            self.begun.append((name, tuple(os.fsdecode(part)[:_SHOWN] for part in options.argv[:_ARGUMENTS])))
            return self._runtime.start(name, image, options.argv, tty=options.tty)

        await self._serve(request, connection, name, options, start)

    async def attach(self, request: Request, connection: Connection, name: ContainerName, main: Main) -> None:
        """Upgrade, and share the main process of a container until it ends. Raises ApiError before the upgrade."""
        options = replace(parse_options(request), tty=main.tty)
        await self._serve(request, connection, name, options, main.attach)

    async def _serve(
        self,
        request: Request,
        connection: Connection,
        name: ContainerName,
        options: Options,
        begin: Callable[[], Stdio],
    ) -> None:
        if not websocket.is_upgrade(request):
            raise statuses.bad_request("Upgrade request required")
        if not (options.stdin or options.stdout or options.stderr):
            raise statuses.plain(400, "you must specify at least 1 of stdin, stdout, stderr")
        spoken = subprotocols.choose(websocket.offered(request), self._known)
        if spoken is None:
            raise statuses.no_subprotocol()
        connection.write(websocket.accept(request, spoken.name).head())
        with self.open(connection, name):
            await self._run(WebSocket(connection), spoken, options, begin)

    async def _run(self, socket: WebSocket, spoken: Subprotocol, options: Options, begin: Callable[[], Stdio]) -> None:
        opcode, parts = spoken.message(options.outputs[0], b"")  # "connected"
        await socket.send(opcode, *parts)
        try:
            stdio = begin()
        except NotExecutableError as error:
            cause = _FAILED.format(self._new_exec_id(), _RUNTIME.format(error))
            await socket.finish(spoken.failed(cause))
            return
        try:
            code = await _Stream(socket, spoken, options, stdio).run()
        except BaseException:
            self._leave_alone(stdio)
            raise
        if code is None:
            self._leave_alone(stdio)
            await socket.finish()
            return
        stdio.release()
        await socket.finish(spoken.exited(code, options.argv))

    def _leave_alone(self, stdio: Stdio) -> None:
        task = asyncio.ensure_future(stdio.outlive())
        self._left_alone.add(task)
        task.add_done_callback(self._left_alone.discard)


class _Stream:
    """One running stream: frames in, frames out."""

    def __init__(self, socket: WebSocket, spoken: Subprotocol, options: Options, stdio: Stdio) -> None:
        self._socket = socket
        self._spoken = spoken
        self._options = options
        self._stdio = stdio
        self._copying = asyncio.Lock()  # held while input waits to be taken

    async def run(self) -> int | None:
        """The exit status once the process ended and all of its output is sent; None if the client left first.

        Raises:
            ProtocolError: the client broke the protocol.
            ConnectionResetError: it vanished.
        """
        if not self._options.stdin:
            self._stdio.close_stdin()
        done = asyncio.ensure_future(self._output())
        left = asyncio.ensure_future(self._input())
        gone = asyncio.ensure_future(self._socket.wait_gone())  # seen also while a process does not take its input
        tasks = (done, left, gone)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
            if left.done():
                left.result()
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _output(self) -> int:
        sources = [(self._stdio.stdout, Channel.STDOUT, self._options.stdout)]
        if self._stdio.stderr is not None:
            sources.append((self._stdio.stderr, Channel.STDERR, self._options.stderr))
        try:
            async with asyncio.TaskGroup() as group:
                for source in sources:
                    group.create_task(self._forward(*source))
        except* ConnectionError:
            raise ConnectionResetError from None
        return await self._stdio.wait()

    async def _forward(self, descriptor: int, channel: Channel, wanted: bool) -> None:  # noqa: FBT001 - of a table
        """Pass on output. With its end the input ends, once what came of it was taken, as containerd does."""
        while data := await self._stdio.read(descriptor):
            if wanted:
                opcode, parts = self._spoken.message(channel, data)
                await self._socket.send(opcode, *parts)
        async with self._copying:
            self._stdio.close_stdin()

    async def _input(self) -> None:
        """Until the client closes or vanishes."""
        if self._spoken.text:
            await self._text_input()
            return
        channel = -1
        while (piece := await self._socket.receive()) is not None:
            data = piece.data
            if piece.first:
                channel, data = (data[0], data[1:]) if data else (-1, b"")
            await self._take(channel, data)

    async def _text_input(self) -> None:
        message = bytearray()
        while (piece := await self._socket.receive()) is not None:
            message += piece.data
            if piece.last:
                frame = self._spoken.parse(bytes(message))
                message.clear()
                await self._take(frame[0] if frame else -1, frame[1:])

    async def _take(self, channel: int, data: bytes) -> None:
        match channel:
            case Channel.STDIN if self._options.stdin:
                async with self._copying:
                    await self._stdio.write(data)
            case Channel.RESIZE:
                with contextlib.suppress(OSError):  # the terminal may be gone already
                    if size := parse_resize(data):
                        self._stdio.resize(size)
            case Channel.CLOSE if self._spoken.half_close and data[:1] == bytes([Channel.STDIN]):
                self._stdio.close_stdin()
            case _:
                pass  # unknown channels are ignored (recorded)
