"""Which algorithms are offered to whom, where one list for all will not do; put on each by ssh.overrides.preparing.

It stands on asyncssh's private parts, which ssh.overrides.sources compares with those that were read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from asyncssh.packet import PacketDecodeError, SSHPacket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import asyncssh

PATIENCE_S = 0.1
"""How long to wait for what a client offers before we say what we offer."""

_COOKIE = 16
_GCM = b"-gcm@openssh.com"


def prefer_gcm(connection: asyncssh.SSHServerConnection) -> Callable[[], None]:
    """Offer AES-GCM alone to a client that has it; what is returned gives up waiting for its offer.

    The client's order decides (RFC 4253 section 7.1), and OpenSSH before 10.0 puts AES-CTR first, which takes both
    sides more work. So we wait a moment for what the client offers, which it does not wait with, and answer to that.
    A client that does wait for us, or a slow network, gets the whole list.
    """
    changed, loop = cast("Any", connection), connection._loop
    send_kexinit = connection._send_kexinit
    waiting: asyncio.TimerHandle | None = None

    def believe_it_is_not_sent() -> None:
        changed._kexinit_sent = False  # then asyncssh answers the client's

    def send_late() -> None:
        if not connection._client_kexinit and connection._transport is not None:
            send_kexinit()
            changed._kexinit_sent = True

    def stop_waiting() -> None:
        if waiting is not None:
            waiting.cancel()

    def send_chosen_kexinit() -> None:
        nonlocal waiting
        if not connection._client_kexinit:
            loop.call_soon(believe_it_is_not_sent)
            waiting = loop.call_later(PATIENCE_S, send_late)
            return
        stop_waiting()
        if not connection._session_id:
            shared = [name for name in connection._enc_algs if name.endswith(_GCM) and _has(connection, name)]
            changed._enc_algs = shared or connection._enc_algs
        send_kexinit()

    changed._send_kexinit = send_chosen_kexinit
    return stop_waiting


def suit_dropbear(connection: asyncssh.SSHServerConnection) -> None:
    """Offer hmac-sha2-256 to dropbear, and to nobody else.

    Dropbear 2022.83 has no encrypt-then-MAC and, as Debian builds it, no GCM. Its chacha20-poly1305 would be open
    to prefix truncation (CVE-2023-48795), because it does not know the strict key exchange yet; AES-CTR with this
    MAC is not.
    """
    changed = cast("Any", connection)
    send_kexinit = connection._send_kexinit

    def send_suited_kexinit() -> None:
        mac = b"hmac-sha2-256"
        if connection._client_version.startswith(b"SSH-2.0-dropbear") and mac not in changed._mac_algs:
            changed._mac_algs = [*changed._mac_algs, mac]
        send_kexinit()

    changed._send_kexinit = send_suited_kexinit


def _has(connection: asyncssh.SSHServerConnection, cipher: bytes) -> bool:
    """Whether the client offers a cipher for both directions."""
    packet = SSHPacket(connection._client_kexinit)
    try:
        packet.get_bytes(1 + _COOKIE)
        packet.get_namelist()  # key exchanges
        packet.get_namelist()  # host keys
        return cipher in packet.get_namelist() and cipher in packet.get_namelist()
    except PacketDecodeError:
        return False
