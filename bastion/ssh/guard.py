"""Keeps a bug in one callback from dropping a whole connection; used by ssh.channel and ssh.connection.

asyncssh closes the connection when a callback raises, and with it every other
session on it. A guarded callback logs the trace for operators and gives the
answer that refuses.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import asyncssh
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

_log = structlog.get_logger("bastion")


def guarded(*, answer: Answer) -> Callable[[Callable[Arguments, Answer]], Callable[Arguments, Answer]]:
    """Have a callback give that answer where it would raise; what asyncssh itself is to see passes."""

    def around(callback: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
        @functools.wraps(callback)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
            try:
                return callback(*args, **kwargs)
            except asyncssh.Error:
                raise
            except Exception:  # noqa: BLE001 - any bug at all
                _log.exception("callback.bug", callback=callback.__qualname__)
                return answer

        return call

    return around


def guarded_async(
    *,
    answer: Answer,
) -> Callable[[Callable[Arguments, Coroutine[Any, Any, Answer]]], Callable[Arguments, Coroutine[Any, Any, Answer]]]:
    """The same for a callback that is a coroutine."""

    def around(
        callback: Callable[Arguments, Coroutine[Any, Any, Answer]],
    ) -> Callable[Arguments, Coroutine[Any, Any, Answer]]:
        @functools.wraps(callback)
        async def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
            try:
                return await callback(*args, **kwargs)
            except asyncssh.Error:
                raise
            except Exception:  # noqa: BLE001 - any bug at all
                _log.exception("callback.bug", callback=callback.__qualname__)
                return answer

        return call

    return around
