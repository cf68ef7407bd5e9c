"""A shorter way for channel data through asyncssh; put on each connection by ssh.overrides.preparing, if allowed.

Stock asyncssh sends an encrypted empty packet ahead of each packet (which only CBC
needs, and we offer none), makes a cipher object for each, and copies what it
received once for each packet in it. This does the work once, for channel data
only: everything else and every key exchange takes the stock way. Nonces and
counters are asyncssh's own, so both ways may take turns.

It stands on private parts. `differs` compares them with those it was written
for; where they differ the connection takes the stock way, which is only slower.
"""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import BasicEncryption, ETMEncryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bastion.ssh.overrides.sources import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "2.24.1"

_READ_IN: dict[Callable[..., Any], str] = {
    SSHConnection.data_received: "b2d14a83b2604db6",
    SSHConnection._recv_data: "fc4e0735191bb0fd",
    SSHConnection._recv_pkthdr: "7adc4d88fe20593c",
    SSHConnection._recv_packet: "b3daa22e9763eee9",
    SSHConnection._finish_recv_packet: "e12d96db58b3524e",
    SSHConnection._process_newkeys: "a0331fe3cfd09d0b",
    SSHConnection._force_close: "264b4367525f4f86",
    SSHConnection._send: "c6698a37eb80f574",
    SSHConnection.send_packet: "fb9da7bec6dd395a",
    SSHChannel.send_packet: "00e81b763c8f3dd2",
    SSHChannel.write: "1045e20008469933",
    SSHChannel._flush_send_buf: "3f11e9dc27c58b18",
    SSHChannel._process_data: "342490795c4b893c",
    SSHChannel._accept_data: "33121e9e185c9850",
    BasicEncryption.encrypt_packet: "a2f9b3414dbc6f35",
    ETMEncryption.encrypt_packet: "980e4f1d497c14ec",
    GCMCipher.__init__: "8dbe9e768f4ecf7a",
    GCMCipher._update_iv: "bce250a8d9dc82b6",
    GCMCipher.encrypt_and_sign: "adb87dbdb4f9039a",
    GCMCipher.verify_and_decrypt: "c09eb5b36d0f6a92",
    GCMEncryption.__init__: "96f0b31f70afef1a",
    GCMEncryption.get_mac_params: "27530c5451da2e6b",
    GCMEncryption.encrypt_packet: "6a59190103eaab06",
    GCMEncryption.decrypt_header: "50d9112c6d6c1ced",
    GCMEncryption.decrypt_packet: "6feb840baa1102a4",
}

_LENGTH = 4
_LEAST_PADDING = 4  # RFC 4253 section 6
_POOL = 4096
_DATA_HEAD = struct.Struct(">BBII")  # padding length, type, channel, length of the data
_EXTENDED_HEAD = struct.Struct(">BBIII")  # and, ahead of the length, which stream


def differs() -> str:
    """What in this asyncssh is not as it was read; "" if nothing is."""
    if asyncssh.__version__ != VERSION:
        return f"asyncssh is {asyncssh.__version__}, not {VERSION}"
    return next((name.__qualname__ for name, digest in _READ_IN.items() if fingerprint(name) != digest), "")


def hasten(connection: asyncssh.SSHServerConnection) -> None:
    """Put the fast path on a connection; only if `differs` finds no difference."""
    hastened = cast("Any", connection)
    hastened.bastion_sender = Sender(connection)
    hastened.data_received = Receiver(connection).data_received


class _Cipher:
    """A GCM cipher of asyncssh's with its key schedule kept; the nonce stays where asyncssh has it."""

    def __init__(self) -> None:
        self._of: GCMCipher | None = None
        self._aead = AESGCM(bytes(16))

    def take(self, encryption: GCMEncryption) -> tuple[GCMCipher, AESGCM]:
        """The cipher in use now; after a key exchange it is another."""
        cipher = encryption._cipher
        if cipher is not self._of:
            self._of, self._aead = cipher, AESGCM(cipher._key)
        return cipher, self._aead


class Sender:
    """Sends what channels of one connection hold."""

    def __init__(self, connection: asyncssh.SSHServerConnection) -> None:
        self._conn = connection
        self._cipher = _Cipher()
        self._random = b""

    def flush(self, channel: SSHChannel[bytes]) -> None:
        """Send what the window allows, as far as the short way goes; the rest is for the stock way."""
        packets: list[bytes] = []
        while channel._send_buf and channel._send_window and self._applies():
            packets += self._packet(channel, *self._piece(channel))
        if packets:
            self._conn._send(b"".join(packets))  # not writelines, which in some Pythons tells nobody of a full socket

    def _applies(self) -> bool:
        conn = self._conn
        return (
            conn._send_encryption is not None
            and conn._transport is not None
            and conn._kex_complete
            and conn._auth_complete
            and conn._compressor is None
            and conn._rekey_bytes_sent < conn._rekey_bytes
            and not (conn._rekey_seconds and time.monotonic() >= conn._rekey_time)
        )

    def _piece(self, channel: SSHChannel[bytes]) -> tuple[bytearray, int | None]:
        """The next packet's data and stream, taken from what the channel holds."""
        size = min(channel._send_window, channel._send_pktsize)
        held, stream = channel._send_buf[0]
        if len(held) > size:
            data = held[:size]
            del held[:size]
        else:
            data = held
            del channel._send_buf[0]
        channel._send_buf_len -= len(data)
        channel._send_window -= len(data)
        return data, stream

    def _packet(self, channel: SSHChannel[bytes], data: bytearray, stream: int | None) -> tuple[bytes, bytes]:
        """A packet as it is sent, in two parts (RFC 4253 section 6, RFC 5647 section 7.3)."""
        conn, number = self._conn, cast("int", channel._send_chan)
        head = _DATA_HEAD.size if stream is None else _EXTENDED_HEAD.size
        padding = -(conn._send_enchdrlen - 1 + head + len(data)) % conn._send_blocksize
        if padding < _LEAST_PADDING:
            padding += conn._send_blocksize
        if stream is None:
            start = _DATA_HEAD.pack(padding, MSG_CHANNEL_DATA, number, len(data))
        else:
            start = _EXTENDED_HEAD.pack(padding, MSG_CHANNEL_EXTENDED_DATA, number, stream, len(data))
        plain = b"".join((start, data, self._noise(padding)))
        length = len(plain).to_bytes(_LENGTH, "big")
        sealed = self._sealed(length, plain)
        conn._send_seq = (conn._send_seq + 1) & 0xFFFFFFFF
        conn._rekey_bytes_sent += len(plain)
        return sealed

    def _sealed(self, length: bytes, plain: bytes) -> tuple[bytes, bytes]:
        encryption = self._conn._send_encryption
        if type(encryption) is not GCMEncryption:
            return cast("BasicEncryption", encryption).encrypt_packet(self._conn._send_seq, length, plain)
        cipher, aead = self._cipher.take(encryption)
        sealed = aead.encrypt(cipher._iv, plain, length)
        cipher._update_iv()
        return length, sealed

    def _noise(self, size: int) -> bytes:
        if len(self._random) < size:
            self._random = os.urandom(_POOL)
        noise, self._random = self._random[:size], self._random[size:]
        return noise


class Receiver:
    """Takes what one connection receives. `data_received` takes the place of asyncssh's."""

    def __init__(self, connection: asyncssh.SSHServerConnection) -> None:
        self._conn = connection
        self._cipher = _Cipher()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Take what came from the socket: channel data the short way, other packets one by one the stock way."""
        del datatype
        conn = self._conn
        received = conn._inpbuf + data
        view, at = memoryview(received), 0
        while size := self._size_of_next(view[at:]):
            if not self._deliver(view[at : at + size]):
                conn._inpbuf = bytes(view[at : at + size])
                conn._recv_data()
            at += size
        conn._inpbuf = bytes(view[at:])
        if conn._transport is not None:
            if self._applies():
                conn._reset_keepalive_timer()
            else:
                conn._recv_data()

    def _applies(self) -> bool:
        """Whether the length of the next packet can be read, and nothing but a packet is waited for."""
        conn = self._conn
        return (
            type(conn._recv_encryption) in {GCMEncryption, ETMEncryption}
            and conn._transport is not None
            and conn._recv_handler in {conn._recv_pkthdr, conn._recv_packet}
            and conn._auth_complete
            and conn._decompressor is None
        )

    def _size_of_next(self, data: memoryview) -> int:
        """How many bytes complete the next packet; 0 until all of them are there, or if it is for the stock way."""
        conn = self._conn
        if not self._applies() or len(data) < conn._recv_blocksize:
            return 0
        if conn._recv_handler == conn._recv_packet:  # stock asyncssh has begun it
            size = _LENGTH + conn._pktlen + conn._recv_macsize - conn._recv_blocksize
        else:
            length = int.from_bytes(data[:_LENGTH], "big")
            if length > conn._max_recv_pktlen:
                return conn._recv_blocksize  # as much as stock asyncssh needs to refuse it
            size = _LENGTH + length + conn._recv_macsize
        return size if size <= len(data) else 0

    def _deliver(self, packet: memoryview) -> bool:
        """Deliver a packet if it is channel data, and as it should be; else leave it, and the cipher, as they were."""
        conn = self._conn
        if type(conn._recv_encryption) is not GCMEncryption or conn._recv_handler != conn._recv_pkthdr or conn._kex:
            return False
        cipher, aead = self._cipher.take(conn._recv_encryption)
        try:
            plain = aead.decrypt(cipher._iv, packet[_LENGTH:], packet[:_LENGTH])
        except InvalidTag:
            return False
        channel = self._channel_of(plain)
        if channel is None:
            return False
        cipher._update_iv()
        conn._recv_seq = (conn._recv_seq + 1) & 0xFFFFFFFF
        conn._auth_final = True
        try:
            channel._accept_data(plain[_DATA_HEAD.size : -plain[0]])
        except Exception:  # noqa: BLE001 - as in stock asyncssh: whatever a session raises ends the connection
            conn.internal_error()
        return True

    def _channel_of(self, plain: bytes) -> SSHChannel[bytes] | None:
        """The channel that a packet is data for; None for another packet, or one that is not as it should be."""
        if len(plain) < _DATA_HEAD.size:
            return None
        padding, kind, number, length = _DATA_HEAD.unpack_from(plain)
        if kind != MSG_CHANNEL_DATA or _DATA_HEAD.size + length + padding != len(plain):
            return None
        channel = self._conn._channels.get(number)
        if channel is None or channel._recv_state != "open" or length > channel._recv_window:
            return None
        return channel
