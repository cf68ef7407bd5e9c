"""Passes events between a person and a pod, each shown to the taps first; used by session.

Output is taken ahead of what is forwarded, up to 512 KiB, so that bulk
output shares commits of the record; it is forwarded in order, each event once its
gates have opened.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from bastion.events import Exited, HungUp, Input

if TYPE_CHECKING:
    from bastion.events import Output
    from bastion.ports import Client, ExecStream
    from bastion.taps import Gates, Taps

    Taken = tuple[Output, Gates] | Exited

AHEAD = 16
"""Outputs of at most 32 KiB that may wait for their gates."""


@dataclass(slots=True)
class Count:
    """What passed, in bytes."""

    bytes_in: int = 0
    bytes_out: int = 0


async def relay(client: Client, stream: ExecStream, taps: Taps, count: Count) -> Exited | HungUp:
    """Pass events both ways until the pod's stream ends or the person is gone. Raises what a tap raises."""
    taken: asyncio.Queue[Taken] = asyncio.Queue(AHEAD)

    async def take() -> NoReturn:
        while True:
            event = await stream.next_event()
            if isinstance(event, Exited):
                await taken.put(event)
                await asyncio.Event().wait()  # the end is told by `down`, behind the output before it
            else:
                await taken.put((event, taps.take(event)))

    async def down() -> Exited:
        while not isinstance(next_one := await taken.get(), Exited):
            output, gates = next_one
            await gates.passed()
            count.bytes_out += len(output.data)
            await client.write(output)
        return next_one

    async def up() -> NoReturn:
        while True:
            event = await client.next_event()
            await taps.take(event).passed()
            if isinstance(event, Input):
                count.bytes_in += len(event.data)
            await stream.send(event)

    ends: list[asyncio.Task[Exited | HungUp]] = [
        asyncio.create_task(down(), name="session-down"),
        asyncio.create_task(take(), name="session-take"),
        asyncio.create_task(up(), name="session-up"),
        asyncio.create_task(client.hung_up(), name="session-gone"),
    ]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in ends if task in done).result()  # the pod's own end comes first
    finally:
        for task in ends:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
