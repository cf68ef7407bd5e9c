"""The console from a channel to its exit status, with the trip and the recorder that production has."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from bastion.console import tables, whoami
from bastion.console.door import Console
from bastion.console.visit import ConsoleRooms
from bastion.events import Input, InputClosed, Resized, Signalled
from bastion.gate import Gate
from bastion.leftovers import Leftovers
from bastion.metrics import Metrics
from bastion.model import Action, Credential, Outcome, Person, Pty, Source, WindowSize
from bastion.policy import Binding, Policy, Role, Rule
from bastion.ports import LogOptions
from bastion.recorder import Recorder
from bastion.refusals import Refusals
from bastion.session import Trips
from bastion.trip import Asked, Visitor
from support.lookings import Cluster, Evidence
from support.lookings import Person as Client
from support.podobjects import RUNNING, pod, terminated, waiting
from support.records import SettableClock, counted_ids

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from bastion.events import ClientEvent
    from bastion.model import KubeIdentity, Target
    from bastion.ports import Tell

LOOKS = {Action.PODS, Action.DESCRIBE, Action.LOGS, Action.EVENTS, Action.TOP}


def role(name: str, *actions: Action, namespaces: tuple[str, ...] = ("shop",), **more: Any) -> Role:
    rule = Rule(name=f"{name}/allow[0]", namespaces=namespaces, actions=frozenset(actions), **more)
    return Role(name=name, kubernetes_groups=(f"bastion:{name}",), allow=(rule,))


POLICY = Policy(
    roles=(
        role("shopper", Action.SHELL, *LOOKS),
        role("reader", Action.LOGS, Action.DESCRIBE, containers=("*", "!vault")),
        role("watcher", Action.EVENTS),
        role("guest", Action.SHELL, *LOOKS, containers=("*", "!secret")),
    ),
    bindings=(
        Binding(role="shopper", subjects=frozenset({"group:shop"})),
        Binding(role="reader", subjects=frozenset({"person:carl", "person:dora"})),
        Binding(role="watcher", subjects=frozenset({"person:dora"})),
        Binding(role="guest", subjects=frozenset({"person:gina"})),
    ),
    digest="0" * 64,
)
WEB = pod("web", containers={"app": RUNNING, "vault": RUNNING}, metadata={"labels": {"app": "web", "tier": "front"}})
OBJECTS = (
    pod("api-1", containers={"api": RUNNING}),
    pod("broken", containers={"app": waiting("CrashLoopBackOff", restartCount=3, containerID="c://1")}),
    WEB,
    pod("db", namespace="prod", containers={"db": RUNNING}),
)


def happened(reason: str, container: str = "", at: str = "2026-03-01T11:59:00Z") -> dict[str, Any]:
    about = {"kind": "Pod", "namespace": "shop", "name": "web", "uid": "uid-web"}
    if container:
        about["fieldPath"] = f"spec.containers{{{container}}}"
    return {
        "metadata": {"name": f"web.{reason}", "creationTimestamp": at},
        "involvedObject": about,
        "type": "Normal",
        "reason": reason,
        "message": f"it was {reason}",
        "lastTimestamp": at,
        "count": 2,
    }


USED = {
    "metadata": {"name": "web", "namespace": "shop"},
    "timestamp": "2026-03-01T11:59:00Z",
    "containers": [
        {"name": "app", "usage": {"cpu": "12m", "memory": "34Mi"}},
        {"name": "vault", "usage": {"cpu": "1234567n", "memory": "1Gi"}},
    ],
}


@dataclass
class Bastion:
    """A console with all its parts, a cluster and a record behind it."""

    cluster: Cluster = field(default_factory=lambda: Cluster(objects=OBJECTS))
    impersonating: bool = True
    known: bool = True
    evidence: Evidence = field(default_factory=Evidence)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock, new_id, log = SettableClock(), counted_ids(), structlog.get_logger("test")
        self.recorder = Recorder(self.evidence)
        trips = Trips(
            gate=Gate(pods=self.cluster, policy=POLICY),
            pods=self.cluster,
            audit=self.evidence,
            refusals=Refusals(self.evidence, clock=clock, new_id=new_id, log=log, start=self._start),
            recorder=self.recorder,
            leftovers=Leftovers(
                pods=self.cluster, audit=self.evidence, clock=clock, new_id=new_id, log=log, metrics=Metrics()
            ),
            clock=clock,
            new_id=new_id,
            log=log,
            later=self._start,
        )
        self.console = Console(
            ConsoleRooms(
                trips=trips,
                looking=self.cluster,
                audit=self.evidence,
                policy=POLICY,
                impersonating=self.impersonating,
                clock=clock,
                new_id=new_id,
            )
        )

    async def run(self, client: Client, command: bytes | None, person: str, login: str, pty: Pty | None) -> None:
        groups = frozenset({"shop"}) if person == "alice" else frozenset[str]()
        visitor = Visitor(
            connection="conn1",
            person=Person(subject=person, groups=groups),
            credential=Credential(kind="key", id="SHA256:abc"),
            source=Source(host="192.0.2.7", port=50000),
            login=login,
        )
        action = Action.SHELL if command is None else Action.EXEC
        async with asyncio.timeout(30):
            asked = Asked(command=command, pty=pty, action=action)

            async def let_in() -> Visitor | None:
                return visitor if self.known else None

            await self.console.run(visitor, asked, client, let_in)
            while self.tasks:
                await self.tasks.pop()
            await self.recorder.drain()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.append(asyncio.create_task(work, name=name))


@pytest.fixture
def bastion() -> Bastion:
    return Bastion()


XTERM = Pty(term="xterm", size=WindowSize(cols=80, rows=24))


async def asked(
    bastion: Bastion,
    command: str | bytes | None,
    *events: ClientEvent,
    person: str = "alice",
    login: str = "console",
    pty: Pty | None = None,
) -> Client:
    """What a person saw of a command; the events are what they did."""
    client = Client(*events)
    line = command.encode() if isinstance(command, str) else command
    await bastion.run(client, line, person, login, pty)
    return client


def lines(client: Client) -> list[str]:
    return client.out.decode().splitlines()


def objects(client: Client) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(client)]


# --- pods -------------------------------------------------------------------------


async def test_pods_lists_what_the_person_may_reach_and_nothing_else(bastion: Bastion) -> None:
    client = await asked(bastion, "pods")

    assert client.status == 0
    table = [line.split() for line in lines(client)]
    assert table == [
        ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "CONTAINERS", "LOGIN"],
        ["shop", "api-1", "1/1", "Running", "0", "?", "api", "api-1.shop"],
        ["shop", "broken", "0/1", "CrashLoopBackOff", "3", "?", "app", "broken.shop"],
        ["shop", "web", "2/2", "Running", "0", "?", "app,vault", "web.shop+app", "web.shop+vault"],
    ]
    event = bastion.evidence.events[0]
    assert (event.type, event.outcome, event.person, event.action, event.rule) == (
        "console.command",
        Outcome.SUCCESS,
        "alice",
        "pods",
        "shopper/allow[0]",
    )
    assert event.detail == {"command": "pods", "policy_digest": POLICY.digest}


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("pods -l tier=front --json", ["web"]),
        ("pods -n shop -l '!tier' --json", ["api-1", "broken"]),
        ("pods -l 'app in (api,none)' --json", ["api-1", "broken"]),
        ("pods --selector=app=none --json", []),
    ],
)
async def test_pods_are_selected(bastion: Bastion, command: str, names: list[str]) -> None:
    client = await asked(bastion, command)

    assert (client.status, [one["pod"] for one in objects(client)]) == (0, names)


async def test_pods_as_json_have_a_login_for_each_container(bastion: Bastion) -> None:
    client = await asked(bastion, "pods -l tier --json")

    assert objects(client) == [
        {
            "namespace": "shop",
            "pod": "web",
            "ready": "2/2",
            "status": "Running",
            "restarts": 0,
            "created_at": None,
            "labels": {"app": "web", "tier": "front"},
            "containers": [
                {"container": "app", "login": "web.shop+app"},
                {"container": "vault", "login": "web.shop+vault"},
            ],
        }
    ]


async def test_no_pods_is_said_on_stderr(bastion: Bastion) -> None:
    client = await asked(bastion, "pods -l app=none")

    assert (client.status, client.out, client.notices) == (0, b"", ["no pods that you may see fit"])


@pytest.mark.parametrize("namespace", ["prod", "nowhere"])
async def test_a_namespace_without_a_rule_is_refused_in_the_same_words_whatever_is_in_it(
    bastion: Bastion, namespace: str
) -> None:
    client = await asked(bastion, f"pods -n {namespace}")

    assert (client.status, client.out) == (254, b"")
    [notice] = client.notices
    assert notice.replace(namespace, "N") == (
        "denied: none of your roles allows pods in namespace N;"
        " ask those who keep the bastion's policy for a role that does"
    )
    assert [(one.type, one.action, one.outcome) for one in bastion.evidence.events] == [
        ("session.refused", "pods", Outcome.DENIED)
    ]


async def test_who_may_list_nowhere_is_refused(bastion: Bastion) -> None:
    client = await asked(bastion, "pods", person="carl")

    assert (client.status, client.out) == (254, b"")
    assert "none of your roles allows pods" in client.notices[0]


async def test_an_api_server_that_is_away_is_no_empty_list(bastion: Bastion) -> None:
    bastion.cluster.away = True
    client = await asked(bastion, "pods")

    assert (client.status, client.out) == (255, b"")
    assert client.notices == ["the cluster's API server cannot be reached"]


async def test_a_table_fits_the_terminal(bastion: Bastion) -> None:
    narrow = Pty(term="xterm", size=WindowSize(cols=40, rows=24))
    client = await asked(bastion, "pods", pty=narrow)

    shown = client.out.decode().split("\r\n")
    assert shown[-1] == ""
    assert len(shown) == 5
    assert max(map(len, shown)) <= 40
    assert "\n" not in client.out.decode().replace("\r\n", "")


# --- looks ------------------------------------------------------------------------


async def test_a_description_is_a_session_and_recorded_as_it_is_shown(bastion: Bastion) -> None:
    bastion.cluster.happened = [happened("Started", "app", "2026-03-01T11:58:00Z"), happened("Scheduled")]
    client = await asked(bastion, "describe web.shop")

    assert client.status == 0
    text = client.out.decode()
    assert text.startswith("Name:             web\nNamespace:        shop\n")
    assert "  vault:\n" in text
    assert text.index("Started") < text.index("Scheduled")
    [session] = bastion.evidence.sessions
    assert (session.action, str(session.target), session.login, session.role) == (
        Action.DESCRIBE,
        "web.shop+app",
        "web.shop",
        "shopper",
    )
    assert [one.text for one in bastion.evidence.commands] == [b"describe web.shop"]
    assert bastion.evidence.shown() == client.out
    assert [(one.status, one.outcome) for one in bastion.evidence.ends] == [(0, Outcome.EXITED)]
    assert {(what, one.user, one.groups) for what, one in bastion.cluster.asked} == {
        ("pod", "bastion:alice", ("bastion:shopper",)),
        ("events", "bastion:alice", ("bastion:shopper",)),
    }


async def test_a_description_speaks_only_of_containers_that_the_role_allows(bastion: Bastion) -> None:
    bastion.cluster.happened = [happened("Started", "app"), happened("Pulled", "vault")]
    carl = await asked(bastion, "describe web.shop", person="carl")
    dora = await asked(bastion, "describe web.shop", person="dora")
    all_of_it = await asked(bastion, "describe web.shop --json")
    one = await asked(bastion, "describe web.shop+app --json")

    assert "vault" not in carl.out.decode()
    assert "not shown: none of your roles allows events here" in carl.out.decode()
    assert "it was Started" in dora.out.decode()
    assert [container["container"] for container in objects(all_of_it)[0]["containers"]] == ["app", "vault"]
    assert [container["container"] for container in objects(one)[0]["containers"]] == ["app"]
    assert [event["reason"] for event in objects(one)[0]["events"]] == ["Started"]
    # Each question is put with the groups of the role that allows it.
    assert {(what, who.groups) for what, who in bastion.cluster.asked if who.user == "bastion:dora"} == {
        ("pod", ("bastion:reader",)),
        ("events", ("bastion:watcher",)),
    }


async def test_rbac_has_the_last_word_on_what_is_looked_at(bastion: Bastion) -> None:
    bastion.cluster.allowed = frozenset({"pod"})
    described = await asked(bastion, "describe web.shop --json")
    refused = await asked(bastion, "events web.shop")

    assert (described.status, objects(described)[0]["events"]) == (0, None)
    assert (refused.status, refused.out) == (254, b"")
    assert refused.notices == ["the cluster's own RBAC does not let you see events"]


class Swapped(Cluster):
    """A cluster in which a pod has become another since it was found: of its containers only vault is left."""

    async def pod(self, target: Target, identity: KubeIdentity, tell: Tell) -> Mapping[str, Any]:
        found = await super().pod(target, identity, tell)
        return {**found, "spec": {**found["spec"], "containers": [{"name": "vault"}]}}


async def test_of_a_pod_in_which_nothing_is_left_that_the_person_sees_nothing_is_described() -> None:
    swapped = Bastion(Swapped(objects=OBJECTS))

    for command in ("describe web.shop", "describe web.shop --json", "describe web.shop+app"):
        client = await asked(swapped, command, person="carl")
        assert (client.status, client.out) == (253, b"")
        said = client.err.decode() + "".join(client.notices)
        assert "pod web in namespace shop was changed meanwhile; ask again" in said
    assert (await asked(swapped, "describe web.shop")).status == 0


@pytest.mark.parametrize("command", ["describe", "logs", "events", "top"])
async def test_where_the_person_has_no_rule_nobody_says_what_is_there(bastion: Bastion, command: str) -> None:
    there = await asked(bastion, f"{command} db.prod")
    absent = await asked(bastion, f"{command} nope.prod")

    assert there.status == absent.status == 254
    assert there.out == absent.out == b""
    assert there.notices == absent.notices
    assert {(one.action, one.namespace) for one in bastion.evidence.events} == {(command, "prod")}
    assert not bastion.cluster.asked


async def test_events_are_told_and_kept_apart_by_container(bastion: Bastion) -> None:
    bastion.cluster.happened = [happened("Pulled", "vault"), happened("Scheduled")]
    table = await asked(bastion, "events web.shop")
    one = await asked(bastion, "events web.shop+app --json")

    assert lines(table)[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "COUNT", "MESSAGE"]
    assert [line.split()[2] for line in lines(table)[1:]] == ["Pulled", "Scheduled"]
    assert [(event["reason"], event["container"], event["count"]) for event in objects(one)] == [("Scheduled", None, 2)]


async def test_no_events_are_said_to_be_none(bastion: Bastion) -> None:
    client = await asked(bastion, "events web.shop")

    assert (client.status, client.out) == (0, b"")
    assert b"nothing is known to have happened to pod web" in client.err


async def test_top_tells_what_is_used(bastion: Bastion) -> None:
    bastion.cluster.measured = USED
    table = await asked(bastion, "top web.shop")
    one = await asked(bastion, "top web.shop+app --json")

    assert [line.split() for line in lines(table)] == [
        ["POD", "CONTAINER", "CPU", "MEMORY"],
        ["web", "app", "12m", "34Mi"],
        ["web", "vault", "2m", "1024Mi"],
    ]
    assert [(used["container"], used["cpu_cores"], used["memory_bytes"]) for used in objects(one)] == [
        ("app", 0.012, 34 << 20)
    ]


async def test_without_a_metrics_api_top_says_so(bastion: Bastion) -> None:
    client = await asked(bastion, "top web.shop")

    assert (client.status, client.out) == (1, b"")
    assert b"this cluster has no metrics API" in client.err
    assert bastion.evidence.ends[0].status == 1


async def test_nothing_is_shown_that_cannot_be_written_down(bastion: Bastion) -> None:
    bastion.evidence.broken = True
    for command in ("pods", "whoami", "help"):
        client = await asked(bastion, command)
        assert (client.status, client.out) == (254, b""), command
        assert client.notices == ["the record cannot be kept now"]


# --- logs -------------------------------------------------------------------------


async def test_a_log_goes_through_a_pipe_byte_for_byte(bastion: Bastion) -> None:
    bastion.cluster.log = [b"one\n\x1b[31mtw", b"o\xff\x00\r\n"]
    client = await asked(bastion, "logs --tail 5 --since 1h --timestamps --previous web.shop+app")

    assert (client.status, client.out) == (0, b"one\n\x1b[31mtwo\xff\x00\r\n")
    assert bastion.evidence.shown() == client.out
    assert bastion.cluster.options == [LogOptions(previous=True, tail=5, since_s=3600, timestamps=True)]


async def test_a_log_cannot_act_on_a_terminal(bastion: Bastion) -> None:
    bastion.cluster.log = [b"a\tb\n\x1b]0;owned\x07\xc3", b"\xa9\xff\r", b"\nprogress\rdone\n\xc2\x9b1m\n"]
    client = await asked(bastion, "logs web.shop", pty=XTERM)

    assert client.out.decode() == "a\tb\r\n\\x1b]0;owned\\x07é\\xff\r\nprogress\r\ndone\r\n\\x9b1m\r\n"
    assert bastion.evidence.shown() == client.out


async def test_what_grows_when_it_is_made_harmless_still_comes_in_small_pieces_and_whole(bastion: Bastion) -> None:
    bastion.cluster.log = [b"\0" * 32 * 1024, b"\xc3", b"\r"]
    client = await asked(bastion, "logs web.shop", pty=XTERM)

    assert client.out == b"\\x00" * 32 * 1024 + b"\\xc3\r\n"
    assert client.largest == 32 * 1024
    assert bastion.evidence.shown() == client.out


async def test_a_log_that_is_followed_ends_with_ctrl_c(bastion: Bastion) -> None:
    bastion.cluster.log, bastion.cluster.goes_on = [b"still here\n"], True
    client = Client()
    run = asyncio.create_task(bastion.run(client, b"logs -f web.shop", "alice", "console", XTERM))
    await client.sees(b"still here")
    client.do(Input(b"x"), Input(b"\x03"))
    await run

    assert client.status == 130
    assert [(one.status, one.outcome) for one in bastion.evidence.ends] == [(130, Outcome.EXITED)]


async def test_through_a_pipe_the_byte_of_ctrl_c_is_a_byte_and_a_signal_ends_it(bastion: Bastion) -> None:
    bastion.cluster.log, bastion.cluster.goes_on = [b"still here\n"], True
    client = Client(Input(b"\x03"), InputClosed())
    run = asyncio.create_task(bastion.run(client, b"logs -f web.shop", "alice", "console", None))
    await client.sees(b"still here")
    assert not run.done()
    client.do(Signalled("INT"))
    await run

    assert client.status == 130


async def test_a_log_that_is_followed_ends_when_the_person_leaves(bastion: Bastion) -> None:
    bastion.cluster.log, bastion.cluster.goes_on = [b"still here\n"], True
    client = Client()
    run = asyncio.create_task(bastion.run(client, b"logs -f web.shop", "alice", "console", None))
    await client.sees(b"still here")
    client.leave()
    await run

    assert [one.outcome for one in bastion.evidence.ends] == [Outcome.HUNG_UP]


# --- a container that is not for everybody ----------------------------------------------

HID = pod(
    "hid",
    containers={
        "secret": waiting("CrashLoopBackOff", restartCount=7, containerID="c://2"),
        "app": {**RUNNING, "restartCount": 1, "containerID": "c://1"},
    },
    ready=False,
    metadata={"annotations": {"kubectl.kubernetes.io/default-container": "secret"}},
)


@pytest.fixture
def hiding() -> Bastion:
    """A bastion before a pod of whose containers gina's role leaves out the default one."""
    about = {"kind": "Pod", "namespace": "shop", "name": "hid", "uid": "uid-hid"}
    happened_here = [
        {**happened("BackOff"), "involvedObject": {**about, "fieldPath": "spec.containers{secret}"}},
        {**happened("Pulled"), "involvedObject": {**about, "fieldPath": "spec.containers{app}"}},
        {**happened("FailedMount"), "involvedObject": about, "message": "no volume for container secret"},
    ]
    used = {
        **USED,
        "containers": [{"name": name, "usage": {"cpu": "1m", "memory": "1Mi"}} for name in ("secret", "app")],
    }
    return Bastion(cluster=Cluster(objects=[HID], happened=happened_here, measured=used, log=[b"one\n"]))


async def test_a_pod_is_summed_up_over_the_containers_that_the_person_sees(hiding: Bastion) -> None:
    table = await asked(hiding, "pods", person="gina")
    [told] = objects(await asked(hiding, "pods --json", person="gina"))
    menu = await asked(hiding, None, Input(b"\x1b"), person="gina", pty=XTERM)
    [everything] = objects(await asked(hiding, "pods --json"))

    assert lines(table)[1].split() == ["shop", "hid", "1/1", "Running", "1", "?", "app", "hid.shop+app"]
    assert (told["ready"], told["status"], told["restarts"]) == ("1/1", "Running", 1)
    assert b"hid.shop+app" in menu.out
    assert b"Running" in menu.out
    assert b"CrashLoopBackOff" not in menu.out
    assert (everything["ready"], everything["status"], everything["restarts"]) == ("1/2", "CrashLoopBackOff", 8)


@pytest.mark.parametrize(
    "command", ["describe", "events", "top", "logs", "describe --json", "events --json", "top --json"]
)
async def test_a_pod_whose_default_container_is_hidden_is_looked_at_in_the_first_that_is_seen(
    hiding: Bastion, command: str
) -> None:
    client = await asked(hiding, f"{command} hid.shop", person="gina")
    named = await asked(hiding, f"{command} hid.shop+secret", person="gina")

    assert client.status == 0, client.notices
    assert client.out
    assert "secret" not in client.out.decode()
    assert [str(one.target) for one in hiding.evidence.sessions] == ["hid.shop+app"]
    assert (named.status, named.out) == (253, b"")


async def test_what_happened_is_told_as_far_as_it_names_no_hidden_container(hiding: Bastion) -> None:
    events = objects(await asked(hiding, "events hid.shop --json", person="gina"))
    [about] = objects(await asked(hiding, "describe hid.shop --json", person="gina"))
    everything = objects(await asked(hiding, "events hid.shop --json"))

    assert {(one["reason"], one["text"]) for one in events} == {
        ("Pulled", "it was Pulled"),
        ("FailedMount", "(not shown)"),
    }
    assert about["events"] == events
    assert about["annotations_withheld"] == ["kubectl.kubernetes.io/default-container"]
    assert (about["status"], about["conditions"]) == ("Running", {})
    assert {one["reason"] for one in everything} == {"BackOff", "Pulled", "FailedMount"}


async def test_a_container_that_somebody_added_is_told_of_only_where_a_rule_names_it(hiding: Bastion) -> None:
    hiding.cluster.objects = [pod("hid", containers={"app": RUNNING}, ephemeral={"debugger": RUNNING})]
    names = {
        container["container"] for one in objects(await asked(hiding, "pods --json")) for container in one["containers"]
    }
    [about] = objects(await asked(hiding, "describe hid.shop --json"))

    assert names == {"app"}
    assert [one["container"] for one in about["containers"]] == ["app"]


async def test_a_pod_that_the_list_does_not_have_yet_is_asked_for(bastion: Bastion) -> None:
    bastion.cluster.measured, bastion.cluster.unlisted = USED, True
    client = await asked(bastion, "top web.shop --json")

    assert [one["container"] for one in objects(client)] == ["app", "vault"]
    assert [what for what, _ in bastion.cluster.asked] == ["usage", "pod"]


# --- whoami, help, mistakes -----------------------------------------------------------


async def test_whoami_says_who_and_what_follows(bastion: Bastion) -> None:
    text = await asked(bastion, "whoami")
    told = await asked(bastion, "whoami --json", person="dora")

    assert lines(text)[:5] == [
        "Person:          alice",
        "Credential:      key SHA256:abc",
        "Groups:          shop",
        "Kubernetes user: bastion:alice",
        "From:            192.0.2.7",
    ]
    assert "    bound to:           group:shop (standing, without an end)" in lines(text)
    assert "    Kubernetes groups:  bastion:shopper" in lines(text)
    [about] = objects(told)
    assert (about["person"], about["credential"], about["kubernetes_user"]) == ("dora", "SHA256:abc", "bastion:dora")
    assert [(one["role"], one["bound_to"], one["actions"]) for one in about["roles"]] == [
        ("reader", ["person:dora"], ["describe", "logs"]),
        ("watcher", ["person:dora"], ["events"]),
    ]


def test_whoami_names_what_deny_rules_take_away() -> None:
    shopper = role("shopper", Action.SHELL, Action.LOGS)
    vault = Rule(name="shopper/deny[0]", namespaces=("shop",), actions=frozenset({Action.SHELL}), containers=("vault",))
    bound = Binding(role="shopper", subjects=frozenset({"person:alice"}))
    rules = Policy(roles=(replace(shopper, deny=(vault,)),), bindings=(bound,), digest="0")
    visitor = Visitor(
        connection="conn1",
        person=Person(subject="alice", groups=frozenset()),
        credential=Credential(kind="key", id="SHA256:abc"),
        source=Source(host="192.0.2.7", port=50000),
        login="b",
    )
    said = whoami.text(visitor, rules, tables.paper(None), impersonating=True).decode().splitlines()
    [about] = [json.loads(whoami.json_lines(visitor, rules, tables.paper(None), impersonating=True))]

    assert "    allows:             logs, shell" in said
    assert "    denies:             shell (in some places, to whatever role allows it)" in said
    assert (about["roles"][0]["actions"], about["roles"][0]["denies"]) == (["logs", "shell"], ["shell"])


async def test_at_forty_columns_what_goes_on_stays_in_its_column(bastion: Bastion) -> None:
    narrow = Pty(term="xterm", size=WindowSize(cols=40, rows=24))
    client = await asked(bastion, "whoami", pty=narrow)

    shown = client.out.decode().split("\r\n")
    assert max(map(len, shown)) <= 40
    at = shown.index("    allows:             describe,")
    assert shown[at + 1 : at + 3] == [f"{'':24}{words}" for words in ("events, logs,", "pods, shell, top")]


async def test_where_nobody_is_impersonated_whoami_says_so() -> None:
    bastion = Bastion(impersonating=False)
    text = await asked(bastion, "whoami")
    told = await asked(bastion, "whoami --json")

    assert "Kubernetes user: the bastion's own: in this cluster it impersonates nobody" in lines(text)
    assert "bastion:" not in text.out.decode()
    [about] = objects(told)
    assert (about["kubernetes_user"], [one["kubernetes_groups"] for one in about["roles"]]) == (None, [[]])


@pytest.mark.parametrize("command", [None, "help", "", "  ", "--help"])
async def test_the_commands_are_listed(bastion: Bastion, command: str | None) -> None:
    client = await asked(bastion, command, person="nobody")

    assert client.status == 0
    for name in ("pods", "describe", "logs", "events", "top", "whoami", "help"):
        assert any(line.startswith(f"  {name} ") for line in lines(client)), name
    [event] = bastion.evidence.events
    assert (event.type, event.action, event.rule) == ("console.command", "", "everybody")
    assert event.detail["policy_digest"] == POLICY.digest


@pytest.mark.parametrize("command", ["help logs", "logs --help", "logs -h nonsense"])
async def test_a_command_says_how_it_is_used(bastion: Bastion, command: str) -> None:
    client = await asked(bastion, command)

    assert client.status == 0
    assert lines(client)[0].startswith("usage: ssh BASTION logs ")
    assert "--since T" in client.out.decode()
    assert not bastion.evidence.sessions


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("pdos", 2, "there is no command 'pdos'; did you mean pods?"),
        ("xyzzy", 2, "there is no command 'xyzzy'; `help` lists the commands there are"),
        ("help xyzzy", 2, "there is no command 'xyzzy'"),
        ("logs", 2, "logs: the following arguments are required: POD.NS[+CONTAINER]; `help logs` says how it is used"),
        ("logs --since 5x web.shop", 2, "logs: argument --since: '5x' is not a length of time"),
        ("logs --tail -1 web.shop", 2, "logs: argument --tail: '-1' is not a number of lines"),
        ("logs --tail x web.shop", 2, "'x' is not a number of lines"),
        ("logs --prev web.shop", 2, "logs: unrecognized arguments: --prev"),
        ("pods -n Shop", 2, "pods: argument -n/--namespace: 'Shop' cannot be the name of a namespace"),
        ("pods -l a=b=c", 2, "is not a label selector"),
        ("pods extra", 2, "pods: unrecognized arguments: extra"),
        ("describe 'web.shop", 2, "this command cannot be read: No closing quotation"),
        (b"describe \xff", 2, "this command cannot be read"),
        (b"pods " + b"x" * 5000, 2, "this command is longer than 4096 bytes"),
        ("pods" + " x" * 1000, 2, "pods: unrecognized arguments: x x x"),
        ("logs api", 2, "logs: 'api' names no pod: write POD.NAMESPACE, for example web.shop"),
        ("describe web", 2, "describe: 'web' names no pod"),
        ("events console", 2, "events: 'console' names no pod"),
        ("top --json web+app", 2, "top: 'web+app' names no pod"),
        ("describe ../x.shop", 2, "describe: '../x.shop' is not a login"),
        ("describe nope.shop", 253, "there is no pod nope in namespace shop"),
    ],
)
async def test_a_mistake_is_explained_and_written_down(
    bastion: Bastion, command: str | bytes, status: int, says: str
) -> None:
    client = await asked(bastion, command)

    assert (client.status, client.out) == (status, b"")
    assert len(client.notices) == 1
    assert says in client.notices[0]
    assert [one.type for one in bastion.evidence.events] == ["session.refused"]


@pytest.mark.parametrize("command", ["whoami", "pods", None])
async def test_a_subject_that_nobody_may_have_is_kept_out(bastion: Bastion, command: str | None) -> None:
    client = await asked(bastion, command, person="reaper", pty=XTERM if command is None else None)

    assert (client.status, client.out) == (254, b"")
    assert [one.rule for one in bastion.evidence.events] == ["reserved-subject"]


async def test_a_login_that_names_a_pod_is_no_business_of_the_console(bastion: Bastion) -> None:
    client = await asked(bastion, None, Input(b"hello"), Input(b"exit"), login="web.shop")
    wrong = await asked(bastion, "pods", login="web")

    assert (client.status, client.out) == (7, b"told hello")
    assert (wrong.status, len(wrong.notices)) == (253, 1)


# --- the menu ---------------------------------------------------------------------------


async def test_the_menu_opens_a_session_like_any_other_and_loses_nothing_typed_ahead(bastion: Bastion) -> None:
    client = await asked(
        bastion,
        None,
        Input(b"we"),
        Resized(WindowSize(cols=60, rows=20)),
        Input(b"b va\rls\n"),
        Input(b"exit"),
        pty=XTERM,
    )

    assert client.status == 7
    assert client.out.endswith(b"told ls\n")
    assert client.notices == ["web.shop+vault"]
    [session] = bastion.evidence.sessions
    assert (session.action, session.login, str(session.target)) == (Action.SHELL, "web.shop+vault", "web.shop+vault")
    assert session.pty is not None
    assert session.pty.size == WindowSize(cols=60, rows=20)
    assert bastion.evidence.shown() == b"told ls\n"
    [event] = bastion.evidence.events
    assert (event.type, event.action, event.rule) == ("console.command", "shell", "shopper/allow[0]")
    assert event.detail == {"command": "menu", "policy_digest": POLICY.digest}


async def test_the_menu_shows_what_runs_and_may_be_entered(bastion: Bastion) -> None:
    client = await asked(bastion, None, Input(b"\x1b"), pty=XTERM)

    assert client.status == 0
    shown = client.out.decode()
    for login in ("api-1.shop", "web.shop+app", "web.shop+vault"):
        assert login in shown
    assert "broken" not in shown
    assert "db.prod" not in shown
    assert shown.endswith("\x1b[J")
    assert "\x1b[?2004l" in shown


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([Input(b"\x03")], 130),
        ([Input(b"\x04")], 0),
        ([InputClosed()], 0),
        ([Signalled("INT")], 130),
        ([Input(b"\x1b"), Input(b"[A"), Input(b"\x1b[B\x1b")], 0),
    ],
)
@pytest.mark.parametrize("term", ["xterm", "dumb"])
async def test_the_menu_is_left(bastion: Bastion, events: Sequence[ClientEvent], status: int, term: str) -> None:
    client = await asked(bastion, None, *events, pty=Pty(term=term, size=WindowSize(cols=80, rows=24)))

    assert client.status == status
    assert not bastion.evidence.sessions


async def test_whoever_is_not_let_in_any_more_when_they_have_chosen_opens_nothing(bastion: Bastion) -> None:
    bastion.known = False
    client = await asked(bastion, None, Input(b"web va\r"), pty=XTERM)

    assert client.status is None  # whoever keeps them out says so, and why
    assert not client.notices
    assert not bastion.evidence.sessions


async def test_what_is_pasted_into_the_menu_opens_nothing_and_runs_nothing(bastion: Bastion) -> None:
    pasted = b"\x1b[200~web app\rrm -rf x\rexit\r\x1b[201~"
    left = await asked(bastion, None, Input(pasted), Input(b"\x1b"), pty=XTERM)
    assert (left.status, bastion.evidence.sessions) == (0, [])
    assert b"> web app" in left.out

    opened = await asked(
        bastion, None, Input(pasted[:20]), Input(pasted[20:]), Input(b"\rls\n"), Input(b"exit"), pty=XTERM
    )
    assert opened.status == 7
    assert bastion.evidence.shown() == b"told ls\n"
    assert [str(one.target) for one in bastion.evidence.sessions] == ["web.shop+app"]


async def test_pastes_are_marked_while_the_menu_is_there_and_not_after_it(bastion: Bastion) -> None:
    client = await asked(
        bastion, None, Resized(WindowSize(cols=60, rows=20)), Input(b"\rls\n"), Input(b"exit"), pty=XTERM
    )

    assert client.out.startswith(b"\x1b[?2004h")
    menu, _, session = client.out.partition(b"\x1b[?2004l")
    assert menu.count(b"2004") == 1
    assert session.endswith(b"\x1b[Jtold ls\n")


async def test_an_arrow_that_comes_in_pieces_is_an_arrow(bastion: Bastion) -> None:
    await asked(bastion, None, Input(b"\x1b"), Input(b"[B"), Input(b"\r"), Input(b"exit"), pty=XTERM)

    assert [str(one.target) for one in bastion.evidence.sessions] == ["web.shop+app"]


@pytest.mark.parametrize("term", ["dumb", ""])
async def test_without_a_cursor_to_move_the_menu_is_a_numbered_list(bastion: Bastion, term: str) -> None:
    pty = Pty(term=term, size=WindowSize(cols=80, rows=24))
    client = await asked(bastion, None, Input(b"web\r2\rexit"), pty=pty)

    assert client.status == 7
    assert [str(one.target) for one in bastion.evidence.sessions] == ["web.shop+vault"]
    shown = client.out.decode()
    assert "\x1b" not in shown
    assert "\r\n1 web.shop+app\r\n2 web.shop+vault\r\nnumber or name: 2\r\n" in shown


async def test_a_terminal_that_does_not_say_how_large_it_is_gets_a_menu_too(bastion: Bastion) -> None:
    client = await asked(
        bastion, None, Input(b"\r"), Input(b"exit"), pty=Pty(term="xterm", size=WindowSize(cols=0, rows=0))
    )

    assert client.status == 7
    assert [str(one.target) for one in bastion.evidence.sessions] == ["api-1.shop+api"]


async def test_who_leaves_the_connection_leaves_the_menu(bastion: Bastion) -> None:
    client = Client()
    run = asyncio.create_task(bastion.run(client, None, "alice", "console", XTERM))
    await client.sees(b"api-1.shop")
    client.leave()
    await run

    assert client.status == 255


async def test_who_may_open_no_shell_gets_no_menu(bastion: Bastion) -> None:
    client = await asked(bastion, None, person="carl", pty=XTERM)

    assert (client.status, client.out) == (254, b"")
    assert [(one.type, one.action) for one in bastion.evidence.events] == [("session.refused", "shell")]


async def test_a_menu_of_nothing_is_a_sentence() -> None:
    bastion = Bastion(cluster=Cluster(objects=[pod("x", containers={"app": terminated("Completed", 0)})]))
    client = await asked(bastion, None, pty=XTERM)

    assert (client.status, client.out) == (0, b"")
    assert client.notices == ["no pod where you may open a shell is running now"]


async def test_a_menu_without_an_api_server_ends_as_a_failure(bastion: Bastion) -> None:
    bastion.cluster.away = True
    client = await asked(bastion, None, pty=XTERM)

    assert (client.status, client.out) == (255, b"")
    assert client.notices == ["the cluster's API server cannot be reached"]
