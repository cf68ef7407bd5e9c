"""How hard tests that try at random try; the fixture `effort` of tests/conftest.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How often tests that try at random try."""

    kills: int = 50
    packets: int = 10_000
    swaps: int = 100
