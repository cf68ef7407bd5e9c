"""Counts what a library logs; used where a library tells of something in no other way."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counter(logging.Handler):
    """Counts the lines that hold some words."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count the line, or not."""
        self.count += self._words in record.getMessage()


@contextmanager
def counted(logger: str, words: str) -> Iterator[Counter]:
    """Count while inside, with the logger at its most talkative."""
    log, counter = logging.getLogger(logger), Counter(words)
    level, propagate = log.level, log.propagate
    log.addHandler(counter)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield counter
    finally:
        log.removeHandler(counter)
        log.setLevel(level)
        log.propagate = propagate
