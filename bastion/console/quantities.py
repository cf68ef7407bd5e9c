"""Times and amounts as people and the API write them (pure); used by the other modules of console."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction

from bastion.errors import BastionError, Code

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_LONGEST_S = 10 * 365 * 86400

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII | re.IGNORECASE)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_MIB = 1 << 20


def seconds(text: str) -> int:
    """A length of time such as 5m, 2h30m or 1d, in seconds. Raises BastionError (INVALID)."""
    found = _DURATION.fullmatch(text)
    total = sum(int(n or 0) * unit for n, unit in zip(found.groups(), _UNITS_S.values(), strict=True)) if found else 0
    if not 0 < total <= _LONGEST_S:
        raise BastionError(Code.INVALID, f"{text!r} is not a length of time; write it like 5m, 2h30m or 1d")
    return total


def age(since: str, now: datetime) -> str:
    """How long ago an RFC 3339 time was, in at most two units: 45s, 3m20s, 5h12m, 2d4h, 12d; "?" if none is given."""
    if not since:
        return "?"
    total = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    parts = []
    for unit, length in _UNITS_S.items():
        count, total = divmod(total, length)
        parts.append((count, unit))
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = parts[first : first + (1 if parts[first][0] >= 10 else 2)]  # noqa: PLR2004 - of large numbers, one is enough
    return "".join(f"{count}{unit}" for at, (count, unit) in enumerate(shown) if count or not at)


def amount(quantity: str) -> Fraction:
    """A Kubernetes quantity ("250m", "34Mi", "1e3") as a number. Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(quantity)
    number, exponent, suffix = found.groups() if found else ("", None, None)
    if not number or (suffix or "") not in _DECIMAL | _BINARY:
        raise ValueError(f"{quantity!r} is not a quantity")
    if suffix in _BINARY:
        return Fraction(number) * (1 << _BINARY[suffix])
    return Fraction(number) * Fraction(10) ** (int(exponent) if exponent else _DECIMAL[suffix or ""])


def millicores(quantity: str) -> str:
    """CPU as `kubectl top` shows it: thousandths of a core, rounded up, "12m"."""
    return f"{-(-amount(quantity) * 1000 // 1)}m"


def mebibytes(quantity: str) -> str:
    """Memory as `kubectl top` shows it: "34Mi"."""
    return f"{amount(quantity) // _MIB}Mi"


def rfc3339(at: str) -> str | None:
    """A time of the API's as ours are printed: RFC 3339, UTC, microseconds; None for ""."""
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at else None
