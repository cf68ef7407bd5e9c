"""What the bastion and its people need of Kubernetes RBAC, and what must never be had (pure); used by cli.doctor.

This is the one place that says so. The set is the smallest for a mode, the actions that the policy allows and the
namespaces in which it does. Whom the policy lets do less than RBAC can say (labels, containers) is the bastion's part.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.model import Action
from bastion.policy import matches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from bastion.policy import Policy

IMPERSONATE = "impersonate"
SERVICE_ACCOUNT = "serviceaccount"
MODES = (IMPERSONATE, SERVICE_ACCOUNT)
"""Settings' kubernetes.mode: whether people act in their own name, or the bastion in its own for them."""

SESSION_EXTRA = "bastion-session"
"""Under which key the API server's audit log names our session."""

REAPER = "bastion:reaper"
"""The user that ends what sessions leave behind."""

EVERYWHERE = ""
"""The place of a grant for the whole cluster; any other is a namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a Role, and why it is there. names: the only objects it is about; () is all."""

    reason: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    group: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Rules for one subject in one place.

    name: of the Role and its binding. kind: "ServiceAccount", "User" or "Group".
    """

    name: str
    kind: str
    subject: str
    place: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What an access review asks. place: EVERYWHERE is all namespaces, or what has none."""

    verb: str
    resource: str
    subresource: str = ""
    group: str = ""
    name: str = ""
    place: str = EVERYWHERE

    def __str__(self) -> str:
        if self.verb == "*":
            return "do anything"
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        kind = f"{what}.{self.group}" if self.group else what
        return " ".join(filter(None, (self.verb, kind, self.name, self.place and f"in {self.place}")))


_RBAC = "rbac.authorization.k8s.io"
_READ = ("get", "list", "watch")
_CALLED = ("get", "create")  # an upgrade to a WebSocket is a GET, and since 1.35 create is checked too

_LOOKUP = (
    Rule(reason="to find the pod that a login means, and to see what becomes of it", resources=("pods",), verbs=_READ),
    Rule(
        reason="to find the pods of a workload",
        group="apps",
        resources=("deployments", "statefulsets", "daemonsets"),
        verbs=_READ,
    ),
    Rule(reason="and those of a Job", group="batch", resources=("jobs",), verbs=_READ),
    Rule(
        reason="and those of a Deployment, which its ReplicaSets make",
        group="apps",
        resources=("replicasets",),
        verbs=("list", "watch"),
    ),
)
_NAMESPACES = Rule(
    reason="to tell a wrong namespace from a wrong pod's name", resources=("namespaces",), verbs=("get",)
)
_REVIEWS = Rule(
    reason="to ask whether a person may, before the attempt",
    group="authorization.k8s.io",
    resources=("subjectaccessreviews",),
    verbs=("create",),
)
_SESSIONS = Rule(
    reason="to name the session in the API server's audit log",
    group="authentication.k8s.io",
    resources=(f"userextras/{SESSION_EXTRA}",),
    verbs=("impersonate",),
)
_EXEC = Rule(
    reason="to start processes; an exec over WebSocket is a GET, and since 1.35 create is checked too",
    resources=("pods/exec",),
    verbs=_CALLED,
)
_REAP = Rule(
    reason="to end what a session left behind, when the person's rights may be what has just ended",
    resources=("pods/exec",),
    verbs=_CALLED,
)
_DEBUG = Rule(
    reason="to open a shell beside a container that has none", resources=("pods/ephemeralcontainers",), verbs=("patch",)
)
_EVENTS = Rule(reason="to see what happened to a pod", resources=("events",), verbs=("list",))

_FOR: Mapping[Action, tuple[Rule, ...]] = {
    Action.SHELL: (_EXEC,),
    Action.EXEC: (_EXEC,),
    Action.SFTP_READ: (_EXEC,),
    Action.SFTP_WRITE: (_EXEC,),
    Action.DEBUG: (_EXEC, _DEBUG),
    Action.FORWARD: (
        Rule(reason="to reach a pod's ports; both verbs as for exec", resources=("pods/portforward",), verbs=_CALLED),
    ),
    Action.LOGS: (Rule(reason="to read logs", resources=("pods/log",), verbs=("get",)),),
    Action.DESCRIBE: (Rule(reason="to see a pod as it is", resources=("pods",), verbs=("get",)),),
    Action.EVENTS: (_EVENTS,),
    Action.TOP: (Rule(reason="to see what a pod uses", group="metrics.k8s.io", resources=("pods",), verbs=("get",)),),
    Action.PODS: (),  # the bastion's own list, of which people see what the policy lets them reach
}
"""What whoever carries out an action needs."""

_NEVER = (
    ("", "secrets", "", _READ),
    ("", "pods", "attach", _CALLED),
    ("", "pods", "", ("create", "delete")),
    *(("apps", kind, "", ("create",)) for kind in ("deployments", "replicasets", "statefulsets", "daemonsets")),
    *(("batch", kind, "", ("create",)) for kind in ("jobs", "cronjobs")),
    ("", "serviceaccounts", "", ("impersonate",)),
    ("", "serviceaccounts", "token", ("create",)),
    (_RBAC, "roles", "", ("escalate", "bind")),
)
"""What is in no set, as API group, resource, subresource and verbs."""

_ONLY_AS_PEOPLE = (
    ("", "pods", "exec", _CALLED),
    ("", "pods", "portforward", _CALLED),
    ("", "pods", "ephemeralcontainers", ("patch", "update")),
)
"""The same where people act in their own name: what the bastion does as them, and never as itself."""

_CLUSTERS_OWN = ("admin", "kube-controller-manager", "kube-scheduler")
"""Users (system:…) that can do, or have others do, anything."""

_STARTING = frozenset(action for action, rules in _FOR.items() if _EXEC in rules)


def needed(mode: str, policy: Policy, namespaces: Sequence[str] = (), *, account: str = "bastion") -> tuple[Grant, ...]:
    """Everything that has to be granted, the bastion's own first, then what each group of a role needs.

    namespaces: those that the bastion looks into; () is the whole cluster. What the policy says of others is left out.
    account: the name of the bastion's ServiceAccount, which its own Roles have too.
    """
    places = tuple(namespaces) or (EVERYWHERE,)
    own: defaultdict[str, list[Rule]] = defaultdict(list)
    for place in places:
        own[place] += _LOOKUP
    if not namespaces:
        own[EVERYWHERE].append(_NAMESPACES)
    if mode == IMPERSONATE:
        own[EVERYWHERE] += _impersonating(policy)
    else:
        everybody = _reach(policy, namespaces, (role.name for role in policy.roles))
        for place, actions in everybody.items():
            own[place] += (rule for rule in _rules(actions) if rule.resources != ("pods",) or rule.group)
    grants = [
        Grant(name=account, kind="ServiceAccount", subject=account, place=place, rules=tuple(own[place]))
        for place in sorted(own)
    ]
    return (*grants, *(_people(policy, namespaces, account) if mode == IMPERSONATE else ()))


def questions(grant: Grant) -> tuple[Question, ...]:
    """What the subject of a grant has to be allowed, one by one, as a review can ask for it."""
    return tuple(
        Question(
            verb=verb,
            group=rule.group,
            resource=resource.partition("/")[0],
            subresource=resource.partition("/")[2],
            name=name,
            place=grant.place,
        )
        for rule in grant.rules
        for resource in rule.resources
        for verb in rule.verbs
        for name in rule.names or ("",)
    )


def is_anybody(grants: Iterable[Grant]) -> bool:
    """Whether they let the bastion act as any user, because the policy binds groups of people."""
    return any(rule.resources == ("users",) and not rule.names for grant in grants for rule in grant.rules)


def forbidden(mode: str, namespaces: Sequence[str] = (), *, anybody: bool = False) -> tuple[Question, ...]:
    """What the ServiceAccount must not be allowed: each would be a way around the policy and the record.

    namespaces: where to ask too, beside the whole cluster.
    anybody: it acts as any user, of need (`is_anybody`), so the cluster's own users are not asked about.
    """
    users = () if anybody else _CLUSTERS_OWN
    inside = (*_NEVER, *(_ONLY_AS_PEOPLE if mode == IMPERSONATE else ()))
    return (
        Question(verb="*", group="*", resource="*"),
        *(Question(verb=verb, resource="nodes", subresource="proxy") for verb in _CALLED),
        *(Question(verb=verb, group=_RBAC, resource="clusterroles") for verb in ("escalate", "bind")),
        *(Question(verb="impersonate", resource="groups", name=f"system:{name}") for name in ("masters", "nodes")),
        *(Question(verb="impersonate", resource="users", name=f"system:{name}") for name in users),
        *(
            Question(verb=verb, group=group, resource=resource, subresource=subresource, place=place)
            for place in (EVERYWHERE, *namespaces)
            for group, resource, subresource, verbs in inside
            for verb in verbs
        ),
    )


def remarks(mode: str, policy: Policy, namespaces: Sequence[str] = ()) -> tuple[str, ...]:
    """What somebody who grants all this should know."""
    said = []
    for role in policy.roles:
        if mode == IMPERSONATE and not role.kubernetes_groups:
            said.append(
                f"Role {role.name} names no Kubernetes group: bind what its people need to each of them yourself."
            )
        globs = {glob for rule in role.allow for glob in rule.namespaces if _is_pattern(glob)}
        if globs and not namespaces:
            said.append(
                f"Role {role.name} names namespaces by pattern ({', '.join(sorted(globs))}), which RBAC cannot, so its"
                " rights are for the whole cluster and only the policy limits them; --namespace limits them too."
            )
    return tuple(said)


def _impersonating(policy: Policy) -> Iterator[Rule]:
    yield _REVIEWS
    groups = tuple(sorted({group for role in policy.roles for group in role.kubernetes_groups}))
    subjects = {subject for binding in policy.bindings for subject in binding.subjects}
    names: tuple[str, ...] = ()
    reason = (
        "to act as a person: as any user, because the policy binds groups of people, and RBAC has no pattern for"
        " names; but as no ServiceAccount and with no other group"
    )
    if all(subject.startswith("person:") for subject in subjects):
        names = tuple(sorted({REAPER, *(f"bastion:{subject.removeprefix('person:')}" for subject in subjects)}))
        reason = "to act as a person of the policy, or as the one who ends leftover processes"
    yield Rule(reason=reason, resources=("users",), verbs=("impersonate",), names=names)
    if groups:  # a rule without names would be about every group
        reason = "with the groups of the policy's roles, and no others"
        yield Rule(reason=reason, resources=("groups",), verbs=("impersonate",), names=groups)
    yield _SESSIONS


def _people(policy: Policy, namespaces: Sequence[str], account: str) -> Iterator[Grant]:
    groups = sorted({group for role in policy.roles for group in role.kubernetes_groups})
    for group in groups:
        roles = [role.name for role in policy.roles if group in role.kubernetes_groups]
        for place, actions in sorted(_reach(policy, namespaces, roles).items()):
            if rules := _rules(actions):
                yield Grant(name=group, kind="Group", subject=group, place=place, rules=rules)
    everybody = _reach(policy, namespaces, (role.name for role in policy.roles))
    for place, actions in sorted(everybody.items()):
        if actions & _STARTING:
            yield Grant(name=f"{account}-reaper", kind="User", subject=REAPER, place=place, rules=(_REAP,))


def _reach(policy: Policy, namespaces: Sequence[str], roles: Iterable[str]) -> dict[str, set[Action]]:
    """Where some roles allow which actions. RBAC has no patterns: one is resolved, or else means the whole cluster."""
    found: defaultdict[str, set[Action]] = defaultdict(set)
    names = set(roles)
    for role in policy.roles:
        for rule in role.allow if role.name in names else ():
            for glob in rule.namespaces:
                for place in _places(glob, namespaces, policy.protected):
                    found[place] |= rule.actions
    anywhere = found[EVERYWHERE]
    return {place: rest for place, actions in found.items() if (rest := actions - (anywhere if place else frozenset()))}


def _places(glob: str, namespaces: Sequence[str], protected: Collection[str]) -> Collection[str]:
    """What a namespace of an allow rule means; no pattern reaches a protected one, as in the policy."""
    if namespaces:
        return [one for one in namespaces if matches(glob, one) and (one == glob or one not in protected)]
    return [EVERYWHERE if _is_pattern(glob) else glob]


def _is_pattern(glob: str) -> bool:
    return bool({"*", "?"} & set(glob))


def _rules(actions: Collection[Action]) -> tuple[Rule, ...]:
    """What some actions need, each rule once, in the order of the actions."""
    return tuple(dict.fromkeys(rule for action in Action if action in actions for rule in _FOR[action]))
