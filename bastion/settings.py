"""What an operator may set, from a file and the environment, frozen; read by cli and app, and seen by nothing else.

    file          ssh: {port: 2222}           named by --config or BASTION_CONFIG
    environment   BASTION_SSH_PORT=2222       wins over the file

Fail closed: an unknown name in either place is an error that says the nearest
known one. Paths are relative to the working directory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path  # noqa: TC003 - pydantic looks the types of fields up while the program runs
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bastion import admission, strictyaml
from bastion.errors import BastionError, Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic_settings import PydanticBaseSettingsSource

PREFIX = "BASTION_"
CONFIG_VARIABLE = "BASTION_CONFIG"
LEVEL_VARIABLE = "BASTION_LOG_LEVEL"

_NOT_SETTINGS = frozenset({CONFIG_VARIABLE, "BASTION_SESSION", "BASTION_SESSION_LEADER"})
"""Variables of that prefix that are something else: the file's name, and the marks of a session in a pod."""

_SERVICE_LINK = re.compile(
    r"BASTION_(SERVICE_HOST=.*|SERVICE_PORT(_[A-Z0-9_]+)?=\d+"
    r"|PORT(_\d+_(TCP|UDP|SCTP))?=[a-z]+://.*|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*)"
)
"""What Kubernetes puts into every pod beside a Service named `bastion`."""

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)

_Text = Annotated[str, Field(min_length=1)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_PENALTIES = "authfail:5 noauth:1 grace-exceeded:10 crash:90 min:15 max:600 max-sources:65536"


def _read_by(parse: Callable[[str], object]) -> AfterValidator:
    """Holds a text to what reads it: a ValueError of `parse` is the setting's error."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def names_in(text: str) -> tuple[str, ...]:
    """The names in a list with commas between. Raises ValueError for what cannot be one."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not _NAMESPACE.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a namespace")
    return names


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DatabaseSettings(_Group):
    """Where the record, the people and their keys are kept."""

    url: _Text = Field(default="sqlite+aiosqlite:///bastion.db", repr=False)
    """sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME. SQLite by default: it needs nothing beside it."""


class SshSettings(_Group):
    """The door."""

    host: _Text = "127.0.0.1"
    """Address to listen on. Loopback by default, so that nothing is open to a network unasked."""

    port: Annotated[int, Field(ge=0, le=65535)] = 2222
    """TCP port; 0 is any free one. Above 1024, so that no privilege is needed."""

    host_key: Path | None = None
    """File of the host's private key, required to serve. Never made on the fly: clients must find it unchanged."""

    login_timeout_s: Annotated[_Seconds, Field(le=3600)] = 30
    """Seconds until a connection that has not authenticated is closed. Short: strangers hold it for nothing."""

    keepalive_interval_s: Annotated[_Seconds, Field(le=3600)] = 15
    """Seconds of silence after which a client is asked whether it is there."""

    keepalive_count: Annotated[int, Field(ge=1, le=100)] = 3
    """Questions that may go unanswered; at the next a client is gone, so after 60 s of silence with 15 s each."""

    max_auth_tries: Annotated[int, Field(ge=1, le=10_000)] = 6
    """Failed attempts, of whatever kind, after which a connection is closed; what OpenSSH allows."""

    max_channels: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Sessions that one connection may have open at once; what OpenSSH allows (MaxSessions)."""

    max_startups: Annotated[str, _read_by(admission.parse_max_startups)] = "10:30:100"
    """START:RATE:FULL: while START connections have not logged in yet, RATE per cent of the new ones are refused at
    random, rising to all of them at FULL. OpenSSH's default."""

    max_startups_per_source: Annotated[int, Field(ge=1)] = 9
    """Connections of one address (IPv6: one /64) that may be logging in at once. Less than START, so that one source
    alone keeps nobody else out."""

    penalties: Annotated[str, _read_by(admission.parse_penalties)] = _PENALTIES
    """Seconds for which a source is turned away, by how its connections ended before they logged in; they add up, and
    bite from min on. What is left out keeps its default, which is OpenSSH's; `no` for none."""

    exempt_sources: Annotated[str, _read_by(admission.parse_networks)] = ""
    """Networks, with commas between, without penalties and without the limit for a source: load balancers, their health
    checks and whatever else hides many clients behind one address. Loopback is not special."""

    fast_path: bool = True
    """Take a shorter way through asyncssh for bulk data, if it is the very version that was read for it."""


class KubernetesSettings(_Group):
    """The cluster."""

    kubeconfig: _Text | None = None
    """File that says how to reach the API server; else as kubectl: $KUBECONFIG, ~/.kube/config, the pod's own."""

    context: _Text | None = None
    """Which context of the kubeconfig; without one, its current context."""

    mode: Literal["impersonate", "serviceaccount"] = "impersonate"
    """impersonate: what a person does is asked for in their name, so the cluster's RBAC and audit log know them.
    serviceaccount: for clusters that grant no impersonation; the bastion does it in its own name."""

    namespaces: Annotated[str, _read_by(names_in)] = ""
    """The namespaces that the bastion may look into, with commas between; without any, the whole cluster."""

    patience_s: _Seconds = 15
    """Seconds for which a request that the API server could not answer is tried again before a person is refused."""


class MetricsSettings(_Group):
    """What operators count and watch."""

    host: _Text = "127.0.0.1"
    """Address to answer Prometheus on."""

    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """TCP port for GET /metrics; without one nothing listens."""


class PolicySettings(_Group):
    """Who may do what where."""

    file: Path | None = None
    """The policy file, required to serve."""


class RecordingSettings(_Group):
    """The evidence."""

    timeout_s: _Seconds = 5
    """Seconds that a commit may take before the record counts as lost and sessions end; they are held meanwhile."""


class LogSettings(_Group):
    """What operators read."""

    format: Literal["auto", "json", "console"] = "auto"
    """auto is console on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines that are written."""


class Settings(_Group):
    """Everything that can be set."""

    database: DatabaseSettings = DatabaseSettings()
    ssh: SshSettings = SshSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    metrics: MetricsSettings = MetricsSettings()
    policy: PolicySettings = PolicySettings()
    recording: RecordingSettings = RecordingSettings()
    log: LogSettings = LogSettings()


class _Sourced(BaseSettings, Settings):
    """Settings put together: the environment before the file, which is given as arguments."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        case_sensitive=False,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library calls it with these
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load(config: Path | None) -> Settings:
    """Read the settings: those of the file, if one is named, under those of the environment.

    Raises:
        BastionError: INVALID, with the file and line or the variable; a value is never repeated.
    """
    _check_environment(os.environ)
    where: dict[str, str] = {}
    values: dict[str, Any] = _read(config, where) if config is not None else {}
    try:
        return Settings(**dict(_Sourced(**values)))
    except ValidationError as error:
        raise BastionError(Code.INVALID, "; ".join(_problems(error, where))) from error


def _names() -> dict[str, tuple[str, ...]]:
    """The groups and the names in each."""
    groups = {name: field.default for name, field in Settings.model_fields.items()}
    return {name: tuple(type(default).model_fields) for name, default in groups.items()}


def _variable(group: str, name: str) -> str:
    return f"{PREFIX}{group}_{name}".upper()


def _check_environment(environ: Mapping[str, str]) -> None:
    known = {_variable(group, name) for group, names in _names().items() for name in names}
    for variable, value in environ.items():
        if not variable.upper().startswith(PREFIX) or variable.upper() in known | _NOT_SETTINGS:
            continue
        if not _SERVICE_LINK.fullmatch(f"{variable}={value}"):
            raise BastionError(
                Code.INVALID, f"unknown variable {variable} in the environment{strictyaml.nearest(variable, known)}"
            )


def _read(config: Path, where: dict[str, str]) -> dict[str, dict[str, str]]:
    """The values of a settings file; `where` is filled with the place of each."""
    try:
        with config.open("rb") as file:
            data = file.read(strictyaml.MAX_BYTES + 1)
    except OSError as error:
        message = f"cannot read the settings file {config} (--config or {CONFIG_VARIABLE}): {error.strerror}"
        raise BastionError(Code.INVALID, message) from error
    known = _names()
    result = {}
    for group, section in strictyaml.parse(data, str(config)).fields(known).items():
        fields = section.fields(known[group])
        where.update({f"{group}.{name}": value.where for name, value in fields.items()})
        result[group] = {name: value.scalar() for name, value in fields.items()}
    return result


def _problems(error: ValidationError, where: Mapping[str, str]) -> Iterable[str]:
    for problem in error.errors(include_input=False, include_context=False, include_url=False):
        path = ".".join(map(str, problem["loc"][:2]))
        variable = _variable(*path.split(".")) if "." in path else PREFIX + path.upper()
        place = variable if variable in map(str.upper, os.environ) else where.get(path, variable)
        yield f"{place}: {path}: {_lower(problem['msg'])}"


def _lower(message: Any) -> str:
    text = str(message).removeprefix("Value error, ")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
