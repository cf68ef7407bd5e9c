"""TLS to the API server: whom we trust, what we show, which name we look for; used by pods.configuration."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from bastion.pods.reread import Reread

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from bastion.pods.kubeconfig import Material
    from bastion.ports import Clock

Pair = tuple[bytes, bytes]
"""A client certificate with its chain, and its private key, each in PEM; both empty for none."""


class Context(ssl.SSLContext):
    """One that looks for another name in the certificate of one host (tls-server-name).

    aiohttp takes such a name for a direct connection, and forgets it for one through a proxy.
    """

    host = ""
    name = ""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the signature of the standard library
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As the standard library's, which says no more."""
        if self.name and server_hostname == self.host:
            server_hostname = self.name
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class Tls:
    """The context for connections to one API server, made anew when one of its files has changed."""

    def __init__(
        self,
        read: Callable[[], tuple[bytes, Pair]],
        make: Callable[[bytes, Pair], ssl.SSLContext],
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        """Makes the first context.

        read: gives the CA certificates and our own pair.
        make: makes a context of them (`context_of`).

        Raises:
            OSError: a file cannot be read.
            ValueError: it is not what it should be.
        """
        self._files = Reread(read, clock=clock, log=log)
        self._make = make
        self._log = log
        self._made_of = self._files.get()
        self._context = make(*self._made_of)
        self._useless: tuple[bytes, Pair] | None = None

    def context(self, own: Pair | None) -> ssl.SSLContext:
        """The same object as long as nothing changes.

        own: shown in place of the files' pair, if there is one.
        """
        authority, pair = self._files.get()
        material = (authority, own or pair)
        if material != self._made_of:
            self._remake(material)
        return self._context

    def _remake(self, material: tuple[bytes, Pair]) -> None:
        try:
            self._context = self._make(*material)
        except ValueError as error:  # such as a certificate that was replaced, and its key not yet
            self._files.forget()
            if material != self._useless:
                self._log.warning("kubernetes.not_reread", cause=str(error))
            self._useless = material
        else:
            self._made_of = material


def bytes_of(material: Material) -> bytes:
    """What it holds; data wins over a file. Raises OSError."""
    return material.data or (Path(material.file).read_bytes() if material.file else b"")


def context_of(authority: bytes, pair: Pair, *, verify: bool, host: str, name: str) -> ssl.SSLContext:
    """A context for connections to an API server.

    authority: CA certificates in PEM; none is this machine's own.
    name: which name is looked for in the certificate of `host`; "" is the host itself.

    Raises:
        ValueError: one of them cannot be used.
    """
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.host, context.name = host, name
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # clusters have CAs that newer versions of Python would refuse
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authority:
        _trust(context, authority)
    else:
        context.load_default_certs()
    if pair[0]:
        _show(context, pair)
    return context


def _trust(context: ssl.SSLContext, authority: bytes) -> None:
    try:
        context.load_verify_locations(cadata=authority.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise ValueError(f"the certificate-authority is no list of certificates in PEM ({_reason(error)})") from error


def _show(context: ssl.SSLContext, pair: Pair) -> None:
    """Load a pair from memory that has a path for a moment: OpenSSL wants a file, and a key belongs on no disk."""
    memory = os.memfd_create("client-certificate")
    try:
        os.write(memory, b"\n".join(pair))
        context.load_cert_chain(f"/proc/self/fd/{memory}", password="")  # a key with a password would ask for it
    except ssl.SSLError as error:
        raise ValueError(f"the client certificate cannot be used with its key ({_reason(error)})") from error
    finally:
        os.close(memory)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "no PEM").lower().replace("_", " ")
