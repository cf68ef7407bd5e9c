"""The cluster's own CA and the server's certificate, kept in a directory; used by __main__ at start."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bastion.localcluster.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

_CA_LIFE = dt.timedelta(days=3650)
_SERVER_LIFE = dt.timedelta(days=365)
_MARGIN = dt.timedelta(days=1)
"""A certificate with less than this left is made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Where the PEM files are."""

    ca: Path
    server: Path
    server_key: Path


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(directory: Path, now: dt.datetime) -> Certificates:
    """The certificates of a directory; made, or made anew, where they are missing or no longer valid."""
    found = Certificates(ca=directory / "ca.crt", server=directory / "server.crt", server_key=directory / "server.key")
    ca_key = directory / "ca.key"
    ca = _load(found.ca, ca_key, now)
    if ca is None:
        ca = _make_ca(now)
        _save(ca, found.ca, ca_key)
    server = _load(found.server, found.server_key, now)
    if server is None or not _issued(ca.certificate, server.certificate):
        _save(_make_server(ca, now), found.server, found.server_key)
    return found


def _load(certificate: Path, key: Path, now: dt.datetime) -> _Signer | None:
    """A pair that belongs together and is valid for a while; else None."""
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or loaded.public_key() != private.public_key():
        return None
    valid = loaded.not_valid_before_utc <= now < loaded.not_valid_after_utc - _MARGIN
    return _Signer(loaded, private) if valid else None


def _issued(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _make_ca(now: dt.datetime) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("bastion embedded cluster")
    usage = _usage(key_cert_sign=True)
    builder = (
        _builder(name, name, key.public_key(), now, _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _Signer(builder.sign(key, hashes.SHA256()), key)


def _make_server(ca: _Signer, now: dt.datetime) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1"))]
    builder = (
        _builder(_name("localhost"), ca.certificate.subject, key.public_key(), now, _SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(key_cert_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    return _Signer(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _save(signer: _Signer, certificate: Path, key: Path) -> None:
    pem = signer.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key, pem)
    write_private(certificate, signer.certificate.public_bytes(serialization.Encoding.PEM))
