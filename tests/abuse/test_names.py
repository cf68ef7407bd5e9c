"""Abuse of names and commands: what a login, a path of the API and an argv can be made of (A10, A11, A12)."""

from __future__ import annotations

import asyncio
import re
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import asyncssh
import pytest
from asyncssh.packet import String
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.login import parse
from bastion.model import ConsoleLogin, ExecRequest, KubeIdentity, Pty, Target, WindowSize
from bastion.pods.answers import Refused
from bastion.pods.api import Api
from bastion.pods.requests import Request
from support.apis import configuration_by, kubeconfig_at, pods_by, retries, told_to_nobody
from support.examples import examples
from support.invariants import assert_no_traceback, assert_whole, now
from support.sshpeer import connected, key_of, logging_in, open_channel
from support.trips import started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import aiohttp

    from bastion.model import Login
    from bastion.ports import Tell
    from support.trips import Bastion

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# What a real client may send, and what saslprep makes of it (RFC 4013: NFKC, and some characters vanish).
HOSTILE = [
    "..",
    "../../x.default",
    "web..default",
    "web.default.",
    "..default",
    "web.default/exec",
    "web%2f..%2f.default",
    "web%2edefault",
    "web\\.default",
    "web@evil.default",
    "we b.default",
    "web.default\x00",
    "web.default\r\nImpersonate-Group: system:masters",
    "\u202eweb.default",
    "Web.Default",
    "-oProxyCommand=id.default",
    "web.default?container=x",
    "web.default#x",
    "web.default+app&tty=true",
    "\u0660.default",
    "a" * 254 + ".default",
    "web." + "n" * 64,
    "a" * 1023,
    "a" * 1024,
    "a" * 100_000,
    "\x1b[2Jweb.default",
    "system:masters",
    "console+x",
]
NORMALISED = ["\uff57\uff45\uff42.default", "web\u2024default", "w\u00adeb.default", "\u24e6\u24d4\u24d1.default"]


async def tried(bastion: Bastion, name: str) -> tuple[bytes, bytes, int | None] | None:
    """What a command under a login gives; None if the login is not let in at all."""
    alice = asyncssh.read_private_key(str(key_of(bastion, "alice")))
    async with logging_in(bastion) as login:
        login.sign(name, alice)
        if await login.answered(1) != ["success"]:
            return None
        channel = await open_channel(login.connection)
        await channel.ask(b"exec", String("hostname"))
        return await channel.wait()


@pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
async def test_a10_hostile_names_lead_nowhere_and_are_explained_in_plain_text(bastion: Bastion) -> None:
    since = now()
    explained = 0
    for name in HOSTILE:
        found = await tried(bastion, name)
        if found is not None:
            out, errors, status = found
            assert (out, status) == (b"", 253), name
            assert re.fullmatch(rb"bastion: [ -~]+\n", errors), name
            explained += 1

    assert explained > len(HOSTILE) // 2
    assert_no_traceback(bastion)
    assert_whole(bastion, since=since, denials={"session.refused": explained})


@pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
async def test_a10_look_alikes_are_the_names_they_are_normalised_to_and_recorded_so(bastion: Bastion) -> None:
    since = now()
    for name in NORMALISED:
        assert await tried(bastion, name) == (b"web\n", b"", 0), name

    assert_whole(bastion, since=since, denials={"session.refused": 0})
    sessions = await asyncio.to_thread(bastion.audit, "sessions", "--limit", str(len(NORMALISED)))
    assert [(one["login"], one["pod"], one["namespace"]) for one in sessions] == [("web.default", "web", "default")] * 4


PIECES = st.sampled_from(
    [
        *("web", "shop", "a", "0", ".", "..", "-", "_", "/", "+", "deploy", "deployment", "sts", "statefulset", "ds"),
        *("daemonset", "job", "console", "invite", "%2f", "%2e", "\\", "@", " ", "\0", "\n", "\r", ":", "?", "#", "&"),
        *("\u202e", "\u2024", "\uff0f", "\uff0e", "\uff57", "\u00ad", "\u200b", "A", "\u0660", "a" * 63, "b" * 250),
    ]
)
NAMES = st.lists(PIECES, max_size=9).map("".join) | st.text(max_size=60)
SPELT = {"deployment": "deploy", "statefulset": "sts", "daemonset": "ds"}


def spelt(text: str) -> str:
    """A login in the one spelling that is printed: `_` after the kind, and the short kinds."""
    kind, separator, rest = re.fullmatch(r"([a-z]*)([_/]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr] # it matches anything
    return f"{SPELT.get(kind, kind)}_{rest}" if separator else text


def read(text: str) -> Login | BastionError:
    """What a login says, or why it says nothing."""
    try:
        return parse(text)
    except BastionError as refused:
        return refused


@given(NAMES)
@examples(400)
def test_a10_a_login_has_one_meaning_or_is_refused_and_means_kubernetes_names(text: str) -> None:
    login = read(text)
    if isinstance(login, BastionError):
        assert login.code is Code.LOGIN_INVALID
        assert login.user_message.isascii()
        assert login.user_message.isprintable()
        return
    if isinstance(login, ConsoleLogin):
        assert text == login.name
        return
    assert str(login) == spelt(text)
    assert parse(str(login)) == login
    assert SUBDOMAIN.fullmatch(login.name)
    assert len(login.name) <= 253
    assert LABEL.fullmatch(login.namespace)
    assert not login.container or LABEL.fullmatch(login.container)


# --- A11, A12: what is asked of the API server ----------------------------------------------


class Asked(Api):
    """The real way to an API server up to the request itself, which is kept instead of sent."""

    server = "https://kubernetes.example:6443/prefix"

    async def get(
        self,
        *path: str,
        query: Sequence[tuple[str, str]] = (),
        identity: KubeIdentity | None = None,
        tell: Tell | None = None,
    ) -> dict[str, Any]:
        del identity, tell
        Request(path=path, query=query).url(self.server)
        return {"metadata": {"name": path[-1], "namespace": path[3], "uid": "uid"}}

    async def open_stream(self, request: Request, protocol: str) -> aiohttp.ClientWebSocketResponse:
        del protocol
        self.url = request.url(self.server)
        raise Refused(404, b"{}")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def api(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    kubeconfig = kubeconfig_at(tmp_path_factory.mktemp("names"), Asked.server)

    async def made() -> Asked:
        return Asked(await configuration_by(kubeconfig), retries())

    api = runner.run(made())
    yield api
    runner.run(api.aclose())


def asked(runner: asyncio.Runner, api: Asked, target: Target, request: ExecRequest) -> list[tuple[str, str]] | None:
    """The query that an exec asks for, its host and path held to what was meant; None if it is refused before."""

    async def go() -> None:
        alice = KubeIdentity(user="bastion:alice")
        async with pods_by(api).exec(target, request, alice, told_to_nobody):
            raise AssertionError("nothing can have answered")

    with pytest.raises(BastionError) as refused:
        runner.run(go())
    if refused.value.code is Code.INVALID:
        return None
    assert refused.value.code is Code.TARGET_MISSING  # by the answer that stands for all
    url = api.url
    assert (url.scheme, url.host, url.port, url.raw_fragment) == ("https", "kubernetes.example", 6443, "")
    steps = [unquote(step) for step in url.raw_path.split("/")]
    assert steps == ["", "prefix", "api", "v1", "namespaces", target.namespace, "pods", target.pod, "exec"]
    return parse_qsl(url.raw_query_string, keep_blank_values=True, strict_parsing=True)


def request(command: bytes | None, *, pty: bool = False) -> ExecRequest:
    return ExecRequest(
        command=command,
        pty=Pty(term="xterm", size=WindowSize(cols=80, rows=24)) if pty else None,
        env=(),
        marker="0123456789",
    )


STREAMS = ["stdin", "stdout", "stderr", "tty", "container"]


@given(namespace=NAMES, pod=NAMES, container=NAMES)
@examples(300)
def test_a11_no_name_leads_to_another_path_or_another_query(
    runner: asyncio.Runner, api: Asked, namespace: str, pod: str, container: str
) -> None:
    target = Target(namespace=namespace, pod=pod, pod_uid="uid", container=container)

    query = asked(runner, api, target, request(b"true"))

    if {namespace, pod} & {"", ".", ".."}:
        assert query is None
    else:
        assert query is not None
        assert [name for name, _ in query if name != "command"] == STREAMS
        assert query[-1] == ("container", container)


COMMANDS = st.lists(
    st.sampled_from(
        [
            *(b"true", b"&tty=true", b"&stdin=false", b"&container=other", b"&command=id", b"?", b"#", b"%26", b"%00"),
            *(
                b"'",
                b'"',
                b"\\",
                b" ",
                b"\n",
                b"\t",
                b";",
                b"$(id)",
                b"`id`",
                b"--",
                b"-c",
                b"\xff",
                b"\xc3\xa9",
                b"x" * 900,
            ),
        ]
    ),
    max_size=12,
).map(b"".join) | st.binary(max_size=80)


@given(command=COMMANDS, pty=st.booleans())
@examples(300)
def test_a12_a_command_is_one_argument_and_adds_nothing_to_the_query(
    runner: asyncio.Runner, api: Asked, *, command: bytes, pty: bool
) -> None:
    target = Target(namespace="shop", pod="web", pod_uid="uid", container="app")

    query = asked(runner, api, target, request(command, pty=pty))

    if query is None:
        assert b"\0" in command
        return
    argv = [value for name, value in query if name == "command"]
    rest = [(name, value) for name, value in query if name != "command"]
    assert rest == [
        ("stdin", "true"),
        ("stdout", "true"),
        ("stderr", str(not pty).lower()),
        ("tty", str(pty).lower()),
        ("container", "app"),
    ]
    assert argv[:2] == ["sh", "-c"]
    try:
        assert argv[-1] == command.decode()
    except UnicodeDecodeError:
        assert all(argument.isascii() for argument in argv)


QUOTED = [
    "app 'x&tty=true' --stdin=false \"&container=sidecar\" %26tty=true",
    "app $(id) `id` ; id | cat > /tmp/a12 && id",
    "app -- -c 'a  b' a\\ b '' \"'\" '\"'",
    "app *.conf ~ $HOME ${PATH} !! #comment",
    "app 'line\none' tab\tstop",
]


@pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
def test_a12_where_there_is_no_shell_the_string_is_split_by_quotes_and_nothing_else(bastion: Bastion) -> None:
    for command in QUOTED:
        done = bastion.ssh("distroless.default@b", command)

        assert done.stdout.decode() == "".join(f"{word}\n" for word in shlex.split(command)[1:]), command
        assert (done.returncode, done.stderr) == (0, b""), command
    assert_whole(bastion)


@pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
def test_a12_no_command_changes_the_streams_the_terminal_or_the_container(bastion: Bastion) -> None:
    since = now()
    command = "true&tty=true&stdin=false&container=sidecar&command=id; hostname >&2; tty; cat"
    with started(bastion.ssh_argv("multi.default@b", command)) as ssh:
        out, errors = ssh.communicate(b"input\n", timeout=60)

    assert b"not a tty\ninput\n" in out
    assert errors == b"multi\n"
    assert_whole(bastion, since=since, denials={"session.refused": 0})
    assert bastion.last_session()["container"] == "app"


@pytest.mark.parametrize("bastion", ["sqlite"], indirect=True, scope="session")
async def test_a12_a_command_that_holds_a_nul_is_refused_and_runs_no_part_of_it(bastion: Bastion) -> None:
    async with connected(bastion) as connection:
        for command in (b"echo ran\0", b"\0", b"echo ran\0; id", b"echo \xff\0"):
            channel = await open_channel(connection)
            assert await channel.ask(b"exec", String(command))
            out, errors, status = await channel.wait()
            assert (out, status) == (b"", 2), command
            assert b"NUL" in errors, command
    assert_whole(bastion)
