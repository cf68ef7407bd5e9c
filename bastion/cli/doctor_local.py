"""The checks of `bastion doctor` that need no cluster: database, host key, policy; used by cli.doctor."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from bastion import policyfile
from bastion.cli.doctor_check import broken, failed, ok, warning
from bastion.errors import BastionError, Code
from bastion.identity import keys
from bastion.store import engine, migrate, schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from bastion.cli.doctor_check import Check
    from bastion.policy import Policy

_MAKE_KEY = "make one with `ssh-keygen -t ed25519 -N '' -f FILE`, and set BASTION_SSH_HOST_KEY"


async def database_checks(url: str) -> AsyncIterator[Check]:
    """Whether the record can be kept."""
    try:
        await engine.open_engine(url).dispose()
    except BastionError as error:
        yield broken("database", error, "")
        yield failed("migrations", "not checked", "mend the database first")
        return
    try:
        await migrate.check(url)
    except BastionError as error:
        if error.code is Code.RECORD_UNAVAILABLE:
            yield broken("database", error, "see that it runs, and that BASTION_DATABASE_URL is right")
            yield failed("migrations", "not checked", "mend the database first")
        else:
            yield ok("database", "it answers")
            yield broken("migrations", error, "")
    else:
        yield ok("database", "it answers")
        yield ok("migrations", f"its tables are those of this bastion (revision {schema.REVISION})")


def host_key_check(path: Path | None) -> Check:
    """Whether the host's private key can be read, and its fingerprint."""
    if path is None:
        return failed("host-key", "none is named", _MAKE_KEY)
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
        public = _private(data).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        fingerprint = keys.parse(public.decode())[0].id
    except OSError as error:
        return failed("host-key", f"{path}: {error.strerror}", _MAKE_KEY)
    except BastionError as error:
        return broken("host-key", error, _MAKE_KEY)
    except (ValueError, TypeError, AttributeError):  # no key, one with a password, one that ssh does not know
        return failed("host-key", f"{path} is no private key that can be used without a password", _MAKE_KEY)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return warning("host-key", f"{path}, {fingerprint}: everybody on this machine can read it", "chmod o-rwx")
    return ok("host-key", f"{path}, {fingerprint}")


def _private(data: bytes) -> PrivateKeyTypes:
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    return load(data, password=None)


def policy_check(path: Path | None) -> tuple[Check, Policy | None]:
    """Whether the policy can be read, and what it is."""
    if path is None:
        return failed("policy", "none is named, so nobody could be let in", "set BASTION_POLICY_FILE"), None
    try:
        policy = policyfile.load(path)
    except BastionError as error:
        return broken("policy", error, f"try `bastion policy check {path}`"), None
    return ok("policy", f"{path}, {len(policy.roles)} roles, digest {policy.digest}"), policy
