"""Settings: defaults, the file, the environment over it, and every unknown name refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from bastion import settings
from bastion.errors import BastionError, Code
from bastion.settings import DatabaseSettings, Settings, SshSettings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BASTION_")]:
        monkeypatch.delenv(name)


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bastion.yaml"
    path.write_text(text)
    return path


def test_without_a_file_and_variables_the_defaults_hold_and_nothing_is_open() -> None:
    read = settings.load(None)

    assert read == Settings()
    assert (read.ssh.host, read.policy.file, read.ssh.host_key) == ("127.0.0.1", None, None)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASTION_SSH_PORT", "2022")
    monkeypatch.setenv("BASTION_SSH_HOST_KEY", "/etc/bastion/host_key")
    monkeypatch.setenv("BASTION_DATABASE_URL", "postgresql://bastion:secret@db/bastion")
    path = file(tmp_path, "ssh: {port: 22, host: 0.0.0.0}\nrecording:\n  timeout_s: 2.5\n")

    read = settings.load(path)

    assert read.ssh == SshSettings(port=2022, host="0.0.0.0", host_key=Path("/etc/bastion/host_key"))  # noqa: S104 - a value
    assert read.recording.timeout_s == 2.5
    assert read.database.url == "postgresql://bastion:secret@db/bastion"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shh: {port: 22}", "bastion.yaml:1: unknown key 'shh'; did you mean 'ssh'?"),
        ("log: {level: info}\nssh:\n  prot: 22", "bastion.yaml:3: unknown key 'prot' in ssh; did you mean 'port'?"),
        ("ssh:\n  port: x", "bastion.yaml:2: ssh.port: input should be a valid integer"),
        ("ssh: {port: 65536}", "bastion.yaml:1: ssh.port: input should be less than or equal to 65535"),
        (
            "ssh: {login_timeout_s: 1e300}",
            "bastion.yaml:1: ssh.login_timeout_s: input should be less than or equal to 3600",
        ),
        ("ssh: {max_startups: '10:0:5'}", "bastion.yaml:1: ssh.max_startups: FULL must be"),
        ("ssh: {login_timeout_s: .inf}", "bastion.yaml:1: ssh.login_timeout_s: input should be a valid number"),
        ("recording: {timeout_s: 0}", "bastion.yaml:1: recording.timeout_s: input should be greater than 0"),
        ("log: {level: loud}", "bastion.yaml:1: log.level: input should be 'debug', 'info', 'warning' or 'error'"),
        ("ssh: {port: }", "bastion.yaml:1: ssh.port must have a value"),
        ("ssh: {port: [1]}", "bastion.yaml:1: ssh.port must have a value"),
        ("ssh: 22", "bastion.yaml:1: ssh must be a mapping"),
        ("ssh: {port: 1}\nssh: {port: 2}", "bastion.yaml:2: ssh stands here a second time"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BastionError) as refused:
        settings.load(file(tmp_path, text))
    assert refused.value.code is Code.INVALID
    assert refused.value.user_message.startswith(f"{tmp_path}/{says}")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "BASTION_SSH_PRT",
            "22",
            "unknown variable BASTION_SSH_PRT in the environment; did you mean 'BASTION_SSH_PORT'?",
        ),
        ("bastion_ssh_prt", "22", "unknown variable bastion_ssh_prt in the environment"),
        ("BASTION_SSH", '{"port": 22}', "unknown variable BASTION_SSH in the environment"),
        ("BASTION_PORT", "22", "unknown variable BASTION_PORT in the environment"),
        ("BASTION_SSH_PORT", "x", "BASTION_SSH_PORT: ssh.port: input should be a valid integer"),
        ("BASTION_DATABASE_URL", "", "BASTION_DATABASE_URL: database.url: string should have at least 1 character"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BastionError) as refused:
        settings.load(None)
    assert refused.value.code is Code.INVALID
    assert refused.value.user_message.startswith(says)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BASTION_CONFIG", "bastion.yaml"),
        ("BASTION_SESSION", "0123456789abcdef0123"),
        ("BASTION_SERVICE_HOST", "10.96.0.7"),
        ("BASTION_SERVICE_PORT", "22"),
        ("BASTION_SERVICE_PORT_SSH", "22"),
        ("BASTION_PORT", "tcp://10.96.0.7:22"),
        ("BASTION_PORT_22_TCP", "tcp://10.96.0.7:22"),
        ("BASTION_PORT_22_TCP_ADDR", "10.96.0.7"),
    ],
)
def test_variables_that_others_set_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    assert settings.load(None) == Settings()


def test_a_password_is_in_no_error_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://bastion:hunter2@db/bastion"
    monkeypatch.setenv("BASTION_DATABASE_URL", url)
    monkeypatch.setenv("BASTION_SSH_PORT", "x")

    with pytest.raises(BastionError) as refused:
        settings.load(None)
    assert "hunter2" not in f"{refused.value}{refused.value.__cause__}{DatabaseSettings(url=url)!r}"


def test_settings_cannot_be_changed_and_unknown_names_cannot_be_given() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().ssh.port = 1
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings.model_validate({"ssh": {"prt": 1}})


def test_values_made_in_code_do_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASTION_SSH_PORT", "1")

    assert Settings.model_validate({"ssh": {"host": "::1"}}).ssh == SshSettings(host="::1")


def test_every_setting_says_what_it_is() -> None:
    source = Path(settings.__file__).read_text().splitlines()
    for field in Settings.model_fields.values():
        assert isinstance(field.default, BaseModel)
        for name in type(field.default).model_fields:
            line = next(i for i, text in enumerate(source) if text.startswith(f"    {name}: "))
            assert source[line + 1].strip().startswith('"""'), name
