"""The one writer of a process, as `ports.AuditLog`; opened by app, used by store.access.

However many sessions write, they share commits: while one transaction runs,
the rows of the next one gather. A caller is answered only after its rows are
committed, or told RECORD_UNAVAILABLE. Until its time is over, what a database that
fails did not take is tried again: one that restarts ends no session.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.model import Outcome
from bastion.records import AuditEvent
from bastion.store.engine import UNAVAILABLE, Interrupted, unavailable
from bastion.store.lease import lease
from bastion.store.orphans import Earlier, ends_of_orphans, lately_ended
from bastion.store.rows import (
    Row,
    chunk_row,
    command_end_row,
    command_row,
    connection_row,
    event_row,
    session_end_row,
    session_row,
)
from bastion.store.transactions import Group, Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from bastion.ports import Clock
    from bastion.records import Chunk, CommandEnd, CommandRecord, ConnectionRecord, SessionEnd, SessionRecord
    from bastion.store.transactions import Change

TIMEOUT_S = 5.0
"""How long a caller waits for its commit, in seconds."""

QUEUE_BYTES = 16 * 1024 * 1024
"""How many bytes may wait to be written; beyond it callers wait."""

LOOK_BACK_S = 60.0
"""How long it may take to find out what earlier lives left, in seconds: it takes longer the more they recorded."""

RETRY_S = 0.1
"""How long to wait after a database failed, in seconds."""

_BATCH_BYTES = 4 * 1024 * 1024  # per transaction, so that one commit stays short
_ROW_BYTES = 512  # what a row counts for beside its chunk's bytes


_STOPPED = "The bastion is stopping; nothing more is recorded."


class _Entry:
    """A group that waits to be written, and the answer its caller waits for."""

    def __init__(self, group: Group, until: float) -> None:
        """`until` is when it is not tried again any more, by the loop's clock."""
        self.group = group
        self.until = until
        self.size = sum(_size(row) for row in group.rows)
        self.queued = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(_look_at)

    def answer(self, error: BastionError | None) -> None:
        """Tell the caller that it is written, or why not."""
        if error is None:
            self.done.set_result(None)
        else:
            # Each caller raises its own, so that tracebacks do not grow into each other.
            self.done.set_exception(BastionError(error.code, error.user_message, detail=error.detail))


class Writer:
    """Writes evidence, as the owner of one chain of events and of the chains of the sessions it starts.

    name: says which instance writes, and stays the same when that instance starts again.
    new_id: makes ids for the writer itself and for the events it writes on its own.
    timeout: seconds a caller waits before it is told RECORD_UNAVAILABLE. Its rows are then withdrawn, if they
    are not being committed at that very moment.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        name: str,
        clock: Clock,
        new_id: Callable[[], str],
        timeout: float = TIMEOUT_S,
    ) -> None:
        self.id = new_id()
        self.name = name
        self._engine = engine
        self._clock = clock
        self._new_id = new_id
        self._timeout = timeout
        self._queue: deque[_Entry] = deque()
        self._queued = 0  # bytes
        self._work = asyncio.Event()  # something waits, or it is time to stop
        self._room = asyncio.Event()  # the queue shrank
        self._closing = False
        self._begun = False
        self._held = AsyncExitStack()  # the lease of the name, once begun
        self._check_lease: Callable[[], None] = lambda: None
        self._started = self._event_of_start()
        self._transactions = Transactions(engine, writer=self.id, started=self._started, timeout=timeout)
        self._task = asyncio.create_task(self._run(), name=f"writer {name}")

    async def begin(self) -> Earlier:
        """Begin the chain of events, and close the sessions that an earlier life of this name left open.

        Returns those, and the sessions whose processes may still be in their pods. For a process that serves; others
        begin with their first event.
        From then on nothing is written while the name is not held, nor ever again once another process has taken it.
        Raises BastionError: CONFLICT if another process of that name is alive, RECORD_UNAVAILABLE.
        """
        if not self._begun:
            self._check_lease = await self._held.enter_async_context(lease(self._engine, self.name))
            self._begun = True
        await self._submit((self._started,))
        try:
            async with asyncio.timeout(LOOK_BACK_S), self._engine.connect() as connection:
                ended = await lately_ended(connection, writer=self.id, name=self.name)
                orphans = await ends_of_orphans(connection, writer=self.id, name=self.name)
        except Exception as error:
            raise unavailable(error, self._engine) from error
        for orphan in orphans:
            told = orphan.event(self._new_id(), self._clock.now())
            await self._submit((*orphan.rows, event_row(told, writer=self.id)))
        left = (*(one for orphan in orphans for one in orphan.left), *ended)
        return Earlier(closed=tuple(orphan.session for orphan in orphans), left=left)

    async def close(self) -> None:
        """Write what is waiting, within the timeout, and stop; what could not be written fails its callers."""
        self._closing = True
        self._work.set()
        await asyncio.wait({self._task}, timeout=self._timeout)
        self._task.cancel()
        await asyncio.wait({self._task})
        self._transactions.close()
        while self._queue:
            self._queue.popleft().answer(BastionError(Code.RECORD_UNAVAILABLE, _STOPPED))
        await self._held.aclose()

    # --- ports.AuditLog --------------------------------------------------------

    async def open_connection(self, connection: ConnectionRecord) -> None:
        """Write down an authenticated connection; a link of this writer's chain."""
        await self._submit((connection_row(connection, writer=self.id),))

    async def start_session(self, session: SessionRecord, command: CommandRecord | None) -> None:
        """Begin a session's chain, together with its command for an exec request."""
        rows = [session_row(session, writer=self.id, writer_name=self.name)]
        if command is not None:
            rows.append(command_row(command, session))
        await self._submit(tuple(rows))

    async def append(self, chunks: Sequence[Chunk]) -> None:
        """Write down runs of transcripts; what is there already, bit for bit, is left as it is."""
        await self._submit(tuple(chunk_row(chunk, sha256=hashlib.sha256(chunk.data).digest()) for chunk in chunks))

    async def end_session(self, end: SessionEnd, command: CommandEnd | None) -> None:
        """End a session's chain, and its command."""
        rows = [] if command is None else [command_end_row(command, session=end.session)]
        await self._submit((*rows, session_end_row(end)))

    async def event(self, event: AuditEvent) -> None:
        """Write down an event; a link of this writer's chain."""
        await self._submit((event_row(event, writer=self.id),))

    # --- for store.access -------------------------------------------------------

    async def change(self, change: Change, told: AuditEvent) -> None:
        """Make a change of state and write down the event that tells of it, in one transaction.

        Raises what `change` raises, and then nothing is written.
        """
        await self._submit((event_row(told, writer=self.id),), change)

    # --- the queue ----------------------------------------------------------------

    async def _submit(self, rows: tuple[Row, ...], change: Change | None = None) -> None:
        entry = _Entry(Group(rows, change), until=asyncio.get_running_loop().time() + self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                while self._queue and self._queued + entry.size > QUEUE_BYTES:
                    self._room.clear()
                    await self._room.wait()
                self._put(entry)
                await asyncio.shield(entry.done)
        except TimeoutError:
            self._withdraw(entry)
            raise BastionError(
                Code.RECORD_UNAVAILABLE, UNAVAILABLE, detail=f"the database did not answer within {self._timeout:g} s"
            ) from None
        except asyncio.CancelledError:
            if not entry.queued:
                self._put(entry)  # evidence outlives its caller
            raise

    def _put(self, entry: _Entry) -> None:
        entry.queued = True
        if self._task.done():
            entry.answer(BastionError(Code.RECORD_UNAVAILABLE, _STOPPED))
            return
        self._queue.append(entry)
        self._queued += entry.size
        self._work.set()

    def _withdraw(self, entry: _Entry) -> None:
        entry.until = 0  # if it is being committed at this moment, let that be the last try
        if entry in self._queue:
            self._queue.remove(entry)
            self._queued -= entry.size

    def _take(self) -> list[_Entry]:
        """What one transaction takes: all that waits, within bounds. A change, which may be refused, goes alone."""
        batch = [self._queue.popleft()]
        size = batch[0].size
        while (
            self._queue
            and batch[0].group.change is None
            and self._queue[0].group.change is None
            and size < _BATCH_BYTES
        ):
            entry = self._queue.popleft()
            batch.append(entry)
            size += entry.size
        self._queued -= size
        self._room.set()
        return batch

    async def _run(self) -> None:
        while not (self._closing and not self._queue):
            if self._queue:
                await self._commit(self._take())
            else:
                self._work.clear()
                await self._work.wait()

    async def _commit(self, batch: list[_Entry]) -> None:
        """Write a batch and answer its callers. One entry's fault never becomes another's."""
        errors = await self._written([entry.group for entry in batch])
        now = asyncio.get_running_loop().time()
        again = []
        for entry, error in zip(batch, errors, strict=True):
            if isinstance(error, Interrupted) and now < entry.until:
                again.append(entry)
            else:
                entry.answer(error)
        if again:
            self._queue.extendleft(reversed(again))
            self._queued += sum(entry.size for entry in again)
            await asyncio.sleep(RETRY_S)

    async def _written(self, groups: Sequence[Group]) -> list[BastionError | None]:
        """Commit groups, unless the name is not ours now: who has it meanwhile has closed our sessions."""
        try:
            self._check_lease()
        except BastionError as error:
            return [error] * len(groups)
        return await self._transactions.write(groups)

    def _event_of_start(self) -> Row:
        event = AuditEvent(
            id=self._new_id(),
            at=self._clock.now(),
            type="writer.started",
            outcome=Outcome.SUCCESS,
            actor="system",
            detail={"writer": self.id, "name": self.name},
        )
        return event_row(event, writer=self.id)


def _size(row: Row) -> int:
    data = row.values.get("data")
    return _ROW_BYTES + (len(data) if isinstance(data, bytes) else 0)


def _look_at(done: asyncio.Future[None]) -> None:
    """Take note of an exception whose caller is gone, or asyncio complains that nobody did."""
    if not done.cancelled():
        done.exception()
