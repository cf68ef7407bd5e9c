"""Passes events between a person and a pod, each shown to the taps first; used by session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from bastion.events import Exited, HungUp, Input

if TYPE_CHECKING:
    from bastion.events import PodEvent
    from bastion.ports import Client, ExecStream
    from bastion.taps import Taps


@dataclass(slots=True)
class Count:
    """What passed, in bytes."""

    bytes_in: int = 0
    bytes_out: int = 0


async def relay(client: Client, stream: ExecStream, taps: Taps, count: Count) -> Exited | HungUp:
    """Pass events both ways until the pod's stream ends or the person is gone. Raises what a tap raises."""

    async def down() -> Exited:
        while True:
            event: PodEvent = await stream.next_event()
            if isinstance(event, Exited):
                return event
            await taps.on_event(event)
            count.bytes_out += len(event.data)
            await client.write(event)

    async def up() -> NoReturn:
        while True:
            event = await client.next_event()
            await taps.on_event(event)
            if isinstance(event, Input):
                count.bytes_in += len(event.data)
            await stream.send(event)

    ends: list[asyncio.Task[Exited | HungUp]] = [
        asyncio.create_task(down(), name="session-down"),
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
