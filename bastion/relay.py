"""Passes events between a person and a pod, each shown to the taps first; used by session.

Output is taken ahead of what is forwarded, up to 2 MiB, so that bulk
output shares commits of the record; it is forwarded in order, each event once its
gates have opened. Input waits for a pod that does not read it, and signals do not
wait for input: they may be what is to end such a program.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from bastion.events import Exited, Input

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bastion.events import ClientEvent, Output
    from bastion.ports import Client, ExecStream
    from bastion.taps import Gates, Taps
    from bastion.trip import Count

    Taken = tuple[Output, Gates] | Exited

AHEAD = 64
"""Outputs of at most 32 KiB that may wait for their gates."""


async def relay(client: Client, stream: ExecStream, taps: Taps, count: Count) -> Exited:
    """Pass events both ways until the pod's stream ends. Raises what a tap raises.

    Whoever calls it cancels it when the person is gone; nothing they sent is passed on after that.
    """
    taken: asyncio.Queue[Taken] = asyncio.Queue(AHEAD)
    ends: list[asyncio.Task[Exited]] = [
        asyncio.create_task(_down(client, taken, count), name="session-down"),
        asyncio.create_task(_take(stream, taps, taken), name="session-take"),
        asyncio.create_task(_up(client.next_event, client, stream, taps, count), name="session-up"),
        asyncio.create_task(_up(client.next_signal, client, stream, taps, count), name="session-signals"),
    ]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in ends if task in done).result()  # the pod's own end comes first
    finally:
        for task in ends:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def _take(stream: ExecStream, taps: Taps, taken: asyncio.Queue[Taken]) -> NoReturn:
    """Show the taps what the pod says, ahead of what is forwarded."""
    while True:
        event = await stream.next_event()
        if isinstance(event, Exited):
            await taken.put(event)
            await asyncio.Event().wait()  # the end is told by `_down`, behind the output before it
        else:
            await taken.put((event, taps.take(event)))


async def _down(client: Client, taken: asyncio.Queue[Taken], count: Count) -> Exited:
    """Forward what the pod said, in order, each once its gates have opened."""
    while not isinstance(next_one := await taken.get(), Exited):
        output, gates = next_one
        await gates.passed()
        count.bytes_out += len(output.data)
        await client.write(output)
    return next_one


async def _up(
    take: Callable[[], Awaitable[ClientEvent]], client: Client, stream: ExecStream, taps: Taps, count: Count
) -> NoReturn:
    """Forward what the person does, or of that what is taken this way, until they are gone."""
    while True:
        event = await take()
        await taps.take(event).passed()
        if client.is_gone:
            await asyncio.Event().wait()  # until it is cancelled
        if isinstance(event, Input):
            count.bytes_in += len(event.data)
        await stream.send(event)
