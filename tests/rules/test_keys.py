"""Public key lines: the fingerprint is ssh-keygen's, and what is weak or wrong is refused."""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.identity import keys
from bastion.model import Credential

if TYPE_CHECKING:
    from pathlib import Path


def keygen(directory: Path, *arguments: str) -> Path:
    path = directory / "id"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", path, *arguments], check=True, timeout=60)
    return path


def field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def line(kind: str, *fields: bytes) -> str:
    return f"{kind} {base64.b64encode(b''.join(map(field, (kind.encode(), *fields)))).decode()}"


ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
ED25519_LINE = ED25519.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
SK_ED25519_LINE = line("sk-ssh-ed25519@openssh.com", ED25519.public_bytes(Encoding.Raw, PublicFormat.Raw), b"ssh:")


@pytest.mark.parametrize(
    "arguments",
    [("-t", "ed25519"), ("-t", "ecdsa", "-b", "256"), ("-t", "ecdsa", "-b", "384"), ("-t", "ecdsa", "-b", "521")]
    + [("-t", "rsa", "-b", bits) for bits in ("2048", "3072")],
    ids=" ".join,
)
def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    public = keygen(tmp_path, *arguments, "-C", "alice on her laptop").with_suffix(".pub")
    printed = subprocess.run(["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True, timeout=10)

    assert keys.parse(public.read_text()) == (
        Credential(kind="key", id=printed.stdout.split()[1]),
        "alice on her laptop",
    )


def test_a_security_key_is_read_as_ssh_keygen_reads_it(tmp_path: Path) -> None:
    public = tmp_path / "id.pub"
    public.write_text(SK_ED25519_LINE + "\n")
    printed = subprocess.run(["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True, timeout=10)

    assert keys.parse(SK_ED25519_LINE) == (Credential(kind="key", id=printed.stdout.split()[1]), "")


@pytest.mark.parametrize("text", [ED25519_LINE + "\n", f"  {ED25519_LINE} \r\n", f"# my key\n\n{ED25519_LINE}\n\n"])
def test_white_space_and_comment_lines_around_a_key_mean_nothing(text: str) -> None:
    assert keys.parse(text) == keys.parse(ED25519_LINE)


def weak(bits: int) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "there is no key"),
        ("# nothing\n", "there is no key"),
        ("hello", "does not begin with a known type"),
        (f"{ED25519_LINE}\n{ED25519_LINE}\n", "several lines"),
        (f'command="ls" {ED25519_LINE}', "options in front of a key are refused"),
        (f"no-pty {ED25519_LINE}", "options in front of a key are refused"),
        ("ssh-ed25519", "not a whole ssh-ed25519 key"),
        ("ssh-ed25519 AAAA", "not a whole ssh-ed25519 key"),
        (ED25519_LINE[:-3], "not base64"),
        (ED25519_LINE.replace("ssh-ed25519 ", "ssh-rsa "), "not a whole ssh-rsa key"),
        (ED25519_LINE[:40] + "*" + ED25519_LINE[41:], "not base64"),
        (f"{ED25519_LINE} \x1b]0;boo\x07", "the comment must be printable"),
        (f"{ED25519_LINE} {'c' * 300}", "at most 256 characters"),
        ("ssh-ed25519 " + "A" * 20_000, "longer than any public key"),
        (weak(1024), "has 1024 bits; 2048 to 16384 are accepted"),
        (line("ssh-dss", b"p", b"q", b"g", b"y"), "DSA keys are too weak"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "another format; `ssh-keygen -i -f FILE` converts it"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "this is a PRIVATE key"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_weak_or_not_one_public_key_is_refused_with_the_way_out(text: str, because: str) -> None:
    with pytest.raises(BastionError) as refused:
        keys.parse(text)
    assert refused.value.code is Code.INVALID
    assert because in refused.value.user_message


def test_a_private_key_is_refused_with_a_warning_and_never_repeated(tmp_path: Path) -> None:
    private = keygen(tmp_path, "-t", "ed25519").read_text()
    with pytest.raises(BastionError, match="this is a PRIVATE key") as refused:
        keys.parse(private)
    assert private.splitlines()[1] not in str(refused.value)


def test_a_certificate_is_refused(tmp_path: Path) -> None:
    key = keygen(tmp_path, "-t", "ed25519")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", key, "-I", "me", "-n", "alice", key.with_suffix(".pub")], check=True, timeout=10
    )
    with pytest.raises(BastionError, match="this is a certificate"):
        keys.parse((tmp_path / "id-cert.pub").read_text())


def attempt(text: str) -> tuple[Credential, str] | BastionError:
    try:
        return keys.parse(text)
    except BastionError as refused:
        return refused


@given(
    st.text()
    | st.builds(
        "{} {} {}".format,
        st.sampled_from(sorted(keys._TYPES)),
        st.binary().map(base64.b64encode).map(bytes.decode),
        st.text(),
    )
    | st.builds(
        lambda at, x: ED25519_LINE[:at] + x + ED25519_LINE[at + len(x) :], st.integers(0, 80), st.text(max_size=3)
    )
)
def test_any_text_gives_a_fingerprint_or_a_clean_refusal(text: str) -> None:
    match attempt(text):
        case BastionError(code=code):
            assert code is Code.INVALID
        case (credential, comment):
            assert credential.id.startswith("SHA256:")
            assert comment.isprintable()
