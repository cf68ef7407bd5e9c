"""What the API server is made to do wrong, and whom it knows no more; set by control, asked by api."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion.localcluster import statuses

if TYPE_CHECKING:
    from bastion.localcluster.http import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """So many requests fail. match: a part of their path and query. retry_after_s: None sends no such header."""

    times: int
    status: int
    match: str = ""
    retry_after_s: int | None = None


class Faults:
    """The faults of the moment. revoked: the users whose tokens are refused."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self._failure: Failure | None = None

    def fail(self, failure: Failure) -> None:
        """Let the next requests fail, instead of those that were to fail until now. Raises KeyError: no such status."""
        if failure.status not in statuses.FAILURES:
            raise KeyError(failure.status)
        self._failure = failure

    def check(self, request: Request) -> None:
        """Raise ApiError if this request is one that fails."""
        failure = self._failure
        if failure is None or failure.times <= 0 or failure.match not in request.target:
            return
        self._failure = replace(failure, times=failure.times - 1)
        raise statuses.failed(failure.status, failure.retry_after_s)
