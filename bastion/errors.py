"""What can fail: one error type with a stable code; raised in the rooms, mapped to statuses by each door.

    BastionError(code, user_message)     str() is for operators, user_message for the person

A denial is not an error but a value (`model.Deny`).
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Stable names of failures; every door has a table from these to its own status."""

    LOGIN_INVALID = "login_invalid"  # the ssh user name does not say where to go
    TARGET_MISSING = "target_missing"  # no such namespace, pod, workload or container
    TARGET_AMBIGUOUS = "target_ambiguous"  # several things have that name
    TARGET_NOT_RUNNING = "target_not_running"  # found, but nothing can be started in it
    LOCKED_OUT = "locked_out"  # the person was locked, removed or given other groups while they waited
    CLUSTER_DENIED = "cluster_denied"  # the cluster's own RBAC, or its admission, said no
    CLUSTER_UNAVAILABLE = "cluster_unavailable"  # the API server cannot be reached or failed
    NO_SHELL = "no_shell"  # the container has no shell to run
    NOT_STARTED = "not_started"  # the container runtime could not start the command
    STREAM_BROKEN = "stream_broken"  # an open stream broke
    RECORD_UNAVAILABLE = "record_unavailable"  # the record cannot be kept, so nothing may go on
    NOT_FOUND = "not_found"  # a person, key or session that was named does not exist
    CONFLICT = "conflict"  # it exists already, or belongs to somebody else
    INVALID = "invalid"  # a file, flag or value is wrong; the message says which and how


class BastionError(Exception):
    """A failure with a stable code and a sentence for the person that says what to do.

    detail: what operators need beyond it (never shown to the person).
    """

    def __init__(self, code: Code, user_message: str, *, detail: str = "") -> None:
        super().__init__(f"{code}: {user_message}" + (f" ({detail})" if detail else ""))
        self.code = code
        self.user_message = user_message
        self.detail = detail
