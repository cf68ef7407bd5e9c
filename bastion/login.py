"""What an ssh user name says about where to go; used by gate before anything is looked up, and by console.

The grammar is `[KIND_]NAME.NAMESPACE[+CONTAINER]`, or a reserved name without a
dot for the bastion itself. It says nothing about who the person is.

Only ASCII that fits DNS-1123 passes, checked on the user name as the ssh library
normalised it: `..` as a name would rewrite the path of an API call, and
normalisation turns look-alikes into dots and slashes.
"""

from __future__ import annotations

import re

from bastion.errors import BastionError, Code
from bastion.model import ConsoleLogin, Login, TargetLogin

CONSOLE_NAMES = frozenset({"console", "invite"})
"""The names without a dot that mean the bastion itself."""

_KINDS = {
    "deploy": "deploy",
    "deployment": "deploy",
    "sts": "sts",
    "statefulset": "sts",
    "ds": "ds",
    "daemonset": "ds",
    "job": "job",
}

_SHAPE = "a login looks like NAME.NAMESPACE or NAME.NAMESPACE+CONTAINER, for example web.shop"
_MAX_LABEL = 63  # RFC 1123 as Kubernetes applies it: validation.IsDNS1123Label
_MAX_SUBDOMAIN = 253  # and IsDNS1123Subdomain, which does not limit the single labels
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*", re.ASCII)
_SHOWN = 80  # characters of a wrong login that an error repeats


def parse(text: str) -> Login:
    """Read an ssh user name.

    The long kinds (`deployment`, `statefulset`, `daemonset`) and `KIND/NAME` become
    the short form with `_`, so `parse(str(login)) == login` for every target.

    Raises:
        BastionError: LOGIN_INVALID, with what is wrong and how a login looks.
    """
    if text in CONSOLE_NAMES:
        return ConsoleLogin(name=text)
    place, plus, container = text.partition("+")
    kind, name = _split_kind(text, place)
    name, dot, namespace = name.rpartition(".")
    if not dot:
        raise _no_namespace(text)
    _check(text, "name", name, _SUBDOMAIN, _MAX_SUBDOMAIN)
    _check(text, "namespace", namespace, _LABEL, _MAX_LABEL)
    if plus:
        _check(text, "container", container, _LABEL, _MAX_LABEL)
    return TargetLogin(kind=kind, name=name, namespace=namespace, container=container)


def _split_kind(text: str, place: str) -> tuple[str, str]:
    match = re.search("[_/]", place)
    if match is None:
        return "", place
    word = place[: match.start()]
    if word not in _KINDS:
        raise _invalid(text, f"{_quoted(word)} is not a kind of workload; known are deploy, sts, ds and job")
    return _KINDS[word], place[match.end() :]


def _check(text: str, what: str, value: str, pattern: re.Pattern[str], longest: int) -> None:
    if not value:
        raise _invalid(text, f"the {what} is empty")
    if len(value) > longest:
        raise _invalid(text, f"the {what} is longer than {longest} characters")
    if not pattern.fullmatch(value):
        raise _invalid(
            text,
            f"{_quoted(value)} cannot be a {what}: small letters, digits and '-' only, "
            "and no '-' or '.' at an end or beside a '.'",
        )


def _no_namespace(text: str) -> BastionError:
    return _invalid(
        text,
        "it has no namespace. ssh sends your local user name when none is given: "
        "write ssh NAME.NAMESPACE@BASTION, or set User in your ssh configuration",
    )


def _invalid(text: str, problem: str) -> BastionError:
    return BastionError(Code.LOGIN_INVALID, f"{_quoted(text)} is not a login: {problem} ({_SHAPE})")


def _quoted(text: str) -> str:
    """The text in quotes, short, and ASCII whatever it holds: it goes to a terminal."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
