"""What operators read on stderr: one line per event, safe on a terminal; set up by cli.serve and cli.demo.

Logs are not the record and hold no secret and no byte of a stream. asyncssh's
own lines start at WARNING whatever is asked for, because below that it writes
user names, commands and environment values as they came.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from bastion import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict, Processor, WrappedLogger

_MAX_DEPTH = 4


class Wanted(Protocol):
    """What to write and how; the settings of the group `log` are one."""

    @property
    def format(self) -> str:
        """`json`, `console`, or `auto`: console on a terminal, else JSON."""

    @property
    def level(self) -> str:
        """`debug`, `info`, `warning` or `error`, for our own lines; those of libraries start at WARNING."""


def configure(wanted: Wanted) -> None:
    """Set up structlog and the standard library's logging, for the whole process, on stderr."""
    console = wanted.format == "console" or (wanted.format == "auto" and sys.stderr.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        one_line,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("bastion").setLevel(wanted.level.upper())
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


def one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> Mapping[str, Any]:
    """A structlog processor: whatever a value holds, it stays on its line and cannot act on a terminal."""
    return {_text(key): value if key.startswith("_") else _safe(value, _MAX_DEPTH) for key, value in event.items()}


def _safe(value: Any, depth: int) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case dict() if depth:
            return {_text(key): _safe(item, depth - 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_safe(item, depth - 1) for item in value]
        case _:
            return _text(value)


def _text(value: Any) -> str:
    return printable.line(str(value))
