"""What the door offers and what it refuses before anybody is inside."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.trips import wait_until

if TYPE_CHECKING:
    from support.trips import Bastion


def offered(bastion: Bastion, *options: str) -> dict[str, list[str]]:
    """What the server proposes, by what it is for, as an ssh client sees it."""
    done = bastion.ssh("-vv", "-o", "LogLevel=DEBUG2", *options, "web.default@b", "true")
    assert done.returncode == 0
    proposal = done.stderr.decode().partition("peer server KEXINIT proposal")[2]
    lines = re.findall(r"debug2: ([a-zA-Z ]+): (\S+)", proposal)
    found: dict[str, list[str]] = {}
    for name, value in lines:
        found.setdefault(name, value.split(","))
    return found


def test_the_algorithms_are_the_good_ones_curve25519_first(bastion: Bastion) -> None:
    proposal = offered(bastion, "-c", "aes128-ctr,aes256-ctr")

    assert proposal["KEX algorithms"][0] == "curve25519-sha256"
    assert set(proposal["KEX algorithms"]) == {
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "mlkem768x25519-sha256",
        "ext-info-s",
        "kex-strict-s-v00@openssh.com",
    }
    assert proposal["host key algorithms"] == ["ssh-ed25519"]
    assert set(proposal["ciphers ctos"]) == {
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
    }
    assert set(proposal["MACs ctos"]) == {"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"}
    assert proposal["compression ctos"] == ["none"]


def test_a_client_that_has_gcm_is_offered_nothing_else(bastion: Bastion) -> None:
    assert offered(bastion)["ciphers ctos"] == ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]


@pytest.mark.parametrize("principals", [(), ("-n", "web.default"), ("-n", "alice")], ids=["none", "login", "person"])
def test_a_certificate_lets_nobody_in(bastion: Bastion, principals: tuple[str, ...]) -> None:
    folder = bastion.folder
    certificate = folder / "stranger-cert.pub"
    sign = ("ssh-keygen", "-q", "-s", str(folder / "alice"), "-I", "x", *principals, str(folder / "stranger.pub"))
    subprocess.run(sign, check=True)
    try:
        done = bastion.ssh("-o", f"CertificateFile={certificate}", "web.default@b", "true", person="stranger")
    finally:
        certificate.unlink()

    assert done.returncode == 255
    assert b"Permission denied (publickey)" in done.stderr


def test_passwords_and_questions_are_not_asked(bastion: Bastion) -> None:
    done = bastion.ssh(
        *("-o", "PreferredAuthentications=password,keyboard-interactive,none", "-o", "BatchMode=yes"),
        *("web.default@b", "true"),
    )

    assert b"Permission denied (publickey)" in done.stderr


def test_a_client_with_too_many_keys_is_told_so(bastion: Bastion, tmp_path: object) -> None:
    options: list[str] = []
    for number in range(7):
        path = f"{tmp_path}/key{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        options += ["-i", path]

    done = bastion.ssh(*options, "-o", "LogLevel=INFO", "web.default@b", "true", person="stranger")

    assert done.returncode == 255
    assert b"too many keys were refused" in done.stderr
    event = wait_until(
        lambda: [one for one in bastion.audit("events", "--limit", "3") if one["type"] == "login.refused"]
    )[0]
    assert event["reason"]


@pytest.mark.parametrize("subsystem", [b"sftp", b"\xff\xfe", b"a b"])
def test_a_subsystem_is_refused_with_words_whatever_its_name(bastion: Bastion, subsystem: bytes) -> None:
    done = bastion.ssh("-s", "web.default@b", subsystem)

    assert done.returncode == 254
    assert done.stderr.startswith(b"bastion: the ")
    assert done.stdout == b""
