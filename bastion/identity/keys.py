"""One OpenSSH public key line to its fingerprint, the weak and the wrong refused; used by `bastion keys add`.

The line is `TYPE BASE64 [COMMENT]`, as `ssh-keygen` writes it into a .pub file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING

from bastion.errors import BastionError, Code
from bastion.model import Credential

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import SSHPublicKeyTypes

_RSA = "ssh-rsa"
_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        _RSA,
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
_RSA_BITS = range(2048, 16384 + 1)
"""Below it can be broken; above it OpenSSH itself refuses."""

_MAX_TEXT = 16 * 1024
"""Characters; four times a line with the largest RSA key."""

_MAX_COMMENT = 256
_CERTIFICATE = re.compile(r"\S+-cert-v\d+@openssh\.com(\s|$)")
_HOW = "give the one line of a .pub file: TYPE BASE64 [COMMENT]"


def parse(text: str) -> tuple[Credential, str]:
    """Read one public key line: the credential it is recorded as, and its comment ("" without one).

    The credential's id is the fingerprint that `ssh-keygen -lf` prints.

    Raises:
        BastionError: INVALID, with what is wrong; the key itself is never repeated.
    """
    kind, blob, comment = _split(_the_one_line(text))
    _check_strength(kind, _load(kind, blob))
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return Credential(kind="key", id=f"SHA256:{digest}"), comment


def _the_one_line(text: str) -> str:
    if "PRIVATE KEY-----" in text or "PuTTY-User-Key-File" in text:
        raise _invalid(
            "this is a PRIVATE key: it must never leave its owner's machine, and if others saw it, make a new one. "
            "The public key is in the file of the same name that ends in .pub"
        )
    if "BEGIN SSH2 PUBLIC KEY" in text or "BEGIN PUBLIC KEY" in text:
        raise _invalid(f"this is a public key in another format; `ssh-keygen -i -f FILE` converts it; {_HOW}")
    if len(text) > _MAX_TEXT:
        raise _invalid(f"this is longer than any public key; {_HOW}")
    lines = [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise _invalid(f"there is no key; {_HOW}")
    if len(lines) > 1:
        raise _invalid("there are several lines; add one key at a time")
    return lines[0]


def _split(line: str) -> tuple[str, bytes, str]:
    kind, _, rest = line.partition(" ")
    if _CERTIFICATE.match(line):
        raise _invalid(f"this is a certificate; add the key it was made for; {_HOW}")
    if kind == "ssh-dss":
        raise _invalid("DSA keys are too weak; make one with `ssh-keygen -t ed25519`")
    if kind not in _TYPES:
        if any(word in _TYPES for word in rest.split()):
            raise _invalid(f"options in front of a key are refused: what a person may do stands in the policy; {_HOW}")
        raise _invalid(f"this does not begin with a known type of key ({', '.join(sorted(_TYPES))}); {_HOW}")
    encoded, _, comment = rest.strip().partition(" ")
    comment = comment.strip()
    if len(comment) > _MAX_COMMENT or not comment.isprintable():
        raise _invalid(f"the comment must be printable and at most {_MAX_COMMENT} characters")
    try:
        return kind, binascii.a2b_base64(encoded, strict_mode=True), comment
    except ValueError as error:
        raise _invalid(f"the part after {kind} is not base64; was a piece lost in copying? {_HOW}") from error


def _load(kind: str, blob: bytes) -> SSHPublicKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - slow to import, and few commands need it
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    try:
        return serialization.load_ssh_public_key(kind.encode() + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid(f"this is not a whole {kind} key; was a piece lost in copying? {_HOW}") from error


def _check_strength(kind: str, key: SSHPublicKeyTypes) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 - slow to import

    if isinstance(key, RSAPublicKey) and key.key_size not in _RSA_BITS:
        raise _invalid(
            f"this {kind} key has {key.key_size} bits; {_RSA_BITS.start} to {_RSA_BITS.stop - 1} are accepted. "
            "Make a new one with `ssh-keygen -t ed25519`"
        )


def _invalid(problem: str) -> BastionError:
    return BastionError(Code.INVALID, problem)
