"""Which functions of asyncssh stand behind ours, and whether they are those that were read; used by its siblings.

Without what is overridden the server would be unsafe, so a difference is a refusal to start.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHConnection, SSHServerConnection

from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_IN: dict[Callable[..., Any], str] = {
    SSHServerChannel._process_exec_request: "be64cc45db37b0b5",
    SSHServerChannel._process_env_request: "c6847fe6051100fa",
    SSHServerChannel._process_subsystem_request: "8169245ec89aebe8",
    SSHServerChannel._process_auth_agent_req_at_openssh_dot_com_request: "e8c6c60e423d58a6",
    SSHServerChannel._process_x11_req_request: "9b3c4d8658c40f2d",
    SSHServerChannel._start_session: "4ef1112382d829bb",
    SSHServerChannel._process_close: "65c1f876b753b91a",
    SSHServerChannel._flush_send_buf: "3f11e9dc27c58b18",
    SSHServerChannel._accept_data: "33121e9e185c9850",
    SSHServerChannel._deliver_data: "bd94ccbaa59ab510",
    SSHServerConnection.create_server_channel: "b008e7eebd09049c",
    SSHConnection._recv_version: "05573b0ac8886bf3",
    SSHConnection._process_kexinit: "439bdf2fc55e6737",
    SSHConnection._choose_alg: "539a102decdbce87",
    SSHConnection._send_kexinit: "275ddc818b59f44b",
    SSHConnection.pause_writing: "a69ec7dae4f504a2",
    SSHConnection.resume_writing: "a324675672f6b924",
    SSHConnection.connection_made: "e7b867af0f590a2c",
    SSHConnection._finish_userauth: "bd2146536318273d",
    SSHConnection.send_userauth_failure: "30f1eb63d0cb74c9",
    SSHConnection._login_timer_callback: "fc3cf4a0305863dc",
    SSHConnection._keepalive_timer_callback: "6d8aa6656cfc6003",
    SSHConnection._force_close: "264b4367525f4f86",
}


def check() -> None:
    """Refuse to start on an asyncssh whose overridden parts are not those that were read."""
    for function, digest in _READ_IN.items():
        if fingerprint(function) != digest:
            raise BastionError(
                Code.INVALID,
                f"asyncssh {asyncssh.__version__} differs from the version this was written for"
                f" in {function.__qualname__}; install what requirements.lock names",
            )


def fingerprint(function: Callable[..., Any]) -> str:
    """The first 16 hex digits of the SHA-256 of a function's source; "" where there is no source to read."""
    try:
        source = inspect.getsource(function)
    except OSError:
        return ""
    return hashlib.sha256(source.encode()).hexdigest()[:16]
