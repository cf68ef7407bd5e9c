"""The commands of `ssh bastion …`, each in one line of one registry; found and run by console.door.

To add a command, write a function that takes the visit and the options, and give it a line in COMMANDS.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING

from bastion import lifecycle
from bastion.console import arguments, listing, looks, reach, tables, whoami
from bastion.console.arguments import Parser
from bastion.console.selectors import Selector
from bastion.errors import BastionError, Code
from bastion.model import Action
from bastion.policy import may_enter

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable, Sequence

    from bastion.console.visit import Visit

_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command.

    action: what a role must allow for it; None: it is everybody's.
    options: declares its arguments. run: does it, once they are read; returns the exit status.
    """

    name: str
    summary: str
    action: Action | None
    options: Callable[[Parser], object]
    run: Callable[[Visit, Namespace], Awaitable[int]]

    @property
    def parser(self) -> Parser:
        """What reads its arguments."""
        parser = Parser(self.name, self.summary)
        self.options(parser)
        return parser


@dataclass(frozen=True, slots=True)
class Asked:
    """A command with its options, read."""

    command: Command
    options: Namespace

    async def run(self, visit: Visit) -> int:
        """Do it; returns the exit status."""
        return await self.command.run(visit, self.options)


def read(text: bytes) -> Asked:
    """Read a command line; none is `help`. Raises BastionError (INVALID)."""
    name, *rest = arguments.words(text) or ["help"]
    if name in {"-h", "--help"}:
        name = "help"
    command = _named(name)
    if arguments.wants_help(rest):
        command, rest = _BY_NAME["help"], [name]
    return Asked(command, command.parser.parse_args(rest))


def action_of(text: bytes) -> str:
    """What a command line is about, for the record of what became of it: its action, or the console as such."""
    try:
        name = next(iter(arguments.words(text)), "")
    except BastionError:
        name = ""
    command = _BY_NAME.get(name)
    return str(command.action) if command and command.action else "console"


def overview() -> list[str]:
    """Every command in a line."""
    widest = max(len(command.name) for command in COMMANDS)
    return [
        "The commands of this bastion, after `ssh BASTION`:",
        "",
        *(f"  {command.name:{widest}}  {command.summary}" for command in COMMANDS),
        "",
        "`help COMMAND` says more. `ssh NAME.NAMESPACE@BASTION` opens a shell in a pod, and `ssh -t BASTION` a menu.",
    ]


async def _pods(visit: Visit, options: Namespace) -> int:
    person, rules = visit.visitor.person, visit.rooms.policy
    namespace: str = options.namespace or ""
    denial = (
        may_enter(person, namespace, Action.PODS, rules) if namespace else reach.anywhere(person, Action.PODS, rules)
    )
    if denial is not None:
        await visit.refuse(Action.PODS, denial)
        return lifecycle.DENIED
    await visit.begin(Action.PODS, namespace)
    pods = listing.chosen(await visit.reached(Action.PODS), namespace, options.selector)
    if options.json:
        await visit.say(await asyncio.to_thread(listing.json_lines, pods, visit.paper))
    elif pods:
        await visit.say(await asyncio.to_thread(listing.table, pods, visit.rooms.clock.now(), visit.paper))
    else:
        visit.client.notice("no pods that you may see" + (" fit" if namespace or options.selector.requirements else ""))
    return 0


async def _whoami(visit: Visit, options: Namespace) -> int:
    await visit.begin()
    say, rooms = whoami.json_lines if options.json else whoami.text, visit.rooms
    await visit.say(say(visit.visitor, rooms.policy, visit.paper, impersonating=rooms.impersonating))
    return 0


async def _help(visit: Visit, options: Namespace) -> int:
    command: Command | None = options.command
    lines = command.parser.format_help().splitlines() if command else overview()
    await visit.begin()
    await visit.say(tables.text(lines, visit.paper))
    return 0


def _named(name: str) -> Command:
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = get_close_matches(name, _BY_NAME, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; `help` lists the commands there are"
    raise BastionError(Code.INVALID, f"there is no command {name[:_SHOWN]!r}{hint}")


def _of_pods(parser: Parser) -> None:
    namespace, selector = arguments.namespace, arguments.selector
    parser.add_argument("-n", "--namespace", type=namespace, metavar="NS", help="only of this namespace")
    parser.add_argument(
        "-l",
        "--selector",
        type=selector,
        default=Selector(),
        metavar="SELECTOR",
        help="only with these labels: app=web,env!=prod,tier in (a,b),!old",
    )
    _json(parser)


def _of_a_pod(parser: Parser) -> None:
    _target(parser)
    _json(parser)


def _of_logs(parser: Parser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is yet to come, until Ctrl-C")
    parser.add_argument("-p", "--previous", action="store_true", help="of the run before this one")
    parser.add_argument("--tail", type=arguments.count, metavar="N", help="only the last N lines")
    parser.add_argument(
        "--since", type=arguments.duration, metavar="T", help="only the last T, such as 5m, 2h30m or 1d"
    )
    parser.add_argument("--timestamps", action="store_true", help="the time before each line")
    _target(parser)


def _of_help(parser: Parser) -> None:
    parser.add_argument("command", nargs="?", type=_named, metavar="COMMAND", help="the one to be told of")


def _target(parser: Parser) -> None:
    parser.add_argument(
        "target",
        type=partial(arguments.target, parser.name),
        metavar="POD.NS[+CONTAINER]",
        help="as in a login; deploy_NAME.NS and so on, too",
    )


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: JSON Lines")


COMMANDS: Sequence[Command] = (
    Command(name="pods", summary="the pods you may see", action=Action.PODS, options=_of_pods, run=_pods),
    Command(
        name="describe",
        summary="what is known of a pod",
        action=Action.DESCRIBE,
        options=_of_a_pod,
        run=looks.describe,
    ),
    Command(name="logs", summary="what a container printed", action=Action.LOGS, options=_of_logs, run=looks.logs),
    Command(name="events", summary="what happened to a pod", action=Action.EVENTS, options=_of_a_pod, run=looks.events),
    Command(
        name="top", summary="what a pod takes of CPU and memory", action=Action.TOP, options=_of_a_pod, run=looks.top
    ),
    Command(name="whoami", summary="who you are here, and what you may do", action=None, options=_json, run=_whoami),
    Command(name="help", summary="this list, or how one command is used", action=None, options=_of_help, run=_help),
)

_BY_NAME = {command.name: command for command in COMMANDS}
