"""Debug containers at an API server that answers as told: what they are made as, and why one is not to be had."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from bastion.errors import BastionError, Code
from bastion.model import KubeIdentity, Target
from bastion.pods.debug import MOST_FAILED, TRIES, Debugging
from support import podobjects
from support.apis import api_by, kubeconfig_at, told_to_nobody
from support.podobjects import RUNNING, terminated, waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bastion.model import Beside

    Object = dict[str, Any]

DORA = KubeIdentity(user="bastion:dora", groups=("bastion:debugger",))
TARGET = Target(namespace="shop", pod="web", pod_uid="uid-web", container="app", labels={}, node="")
IMAGE = "local/debian:1"
NAME = "bastion-debug-f7e9dd7d-"
"""What the names of debug containers of that image beside that container begin with."""

RECORDED = Path(__file__).parents[1] / "data" / "kube-wire" / "ephemeral-add.json"


class Pods:
    """One pod. A patch is refused with what `refusals` still holds, before which `meanwhile` come to be there.

    becomes: the status of what is added. mirror: what a webhook puts before the names of images.
    takes_none: as an old API server does (a 1.20 was tried), which answers with 200 and drops it.
    """

    def __init__(self, pod: Object, *refusals: tuple[int, str], becomes: Object | None = None) -> None:
        self.pod = pod
        self.refusals = list(refusals)
        self.meanwhile: list[Object] = []
        self.becomes = becomes or RUNNING
        self.mirror = ""
        self.takes_none = False
        self.asked_for: list[Object] = []

    def add(self, spec: Object, status: Object) -> None:
        """Give the pod an ephemeral container; one of a name that is there already stays as it is."""
        if spec["name"] not in self.names:
            self.pod["spec"].setdefault("ephemeralContainers", []).append(spec)
            self.pod["status"].setdefault("ephemeralContainerStatuses", []).append({"name": spec["name"], **status})

    @property
    def names(self) -> list[str]:
        """The pod's ephemeral containers."""
        return [one["name"] for one in self.pod["spec"].get("ephemeralContainers", ())]

    def become(self, status: Object) -> None:
        """Give all of its ephemeral containers a status."""
        self.pod["status"]["ephemeralContainerStatuses"] = [{"name": name, **status} for name in self.names]

    async def get(self, _request: web.Request) -> web.Response:
        return web.json_response(self.pod)

    async def patch(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text())
        (spec,) = body["spec"]["ephemeralContainers"]
        self.asked_for.append(spec)
        if body["metadata"] != {"uid": self.pod["metadata"]["uid"]}:
            return web.json_response({"kind": "Status", "message": "metadata.uid: field is immutable"}, status=422)
        if self.refusals:
            if self.meanwhile:
                self.add(self.meanwhile.pop(0), RUNNING)
            status, message = self.refusals.pop(0)
            return web.json_response({"kind": "Status", "message": message}, status=status)
        if not self.takes_none:
            self.add({**spec, "image": self.mirror + spec["image"]}, self.becomes)
        return web.json_response(self.pod)


@asynccontextmanager
async def debugging(pods: Pods, folder: Path) -> AsyncIterator[Debugging]:
    app = web.Application()
    path = "/api/v1/namespaces/shop/pods/web"
    app.add_routes([web.get(path, pods.get), web.patch(f"{path}/ephemeralcontainers", pods.patch)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with api_by(kubeconfig_at(folder, f"http://{host}:{port}")) as api:
            yield Debugging(api)
    finally:
        await runner.cleanup()


async def beside(
    pods: Pods, folder: Path, target: Target = TARGET, image: str = IMAGE, user: int | None = None
) -> Beside:
    async with debugging(pods, folder) as those:
        return await those.container(target, image, user, DORA, told_to_nobody)


async def refused(pods: Pods, folder: Path) -> BastionError:
    with pytest.raises(BastionError) as caught:
        await beside(pods, folder)
    return caught.value


def pod(*, context: Object | None = None, of_pod: Object | None = None, user: Object | None = None) -> Object:
    """A pod whose container has this securityContext, in a pod with that one, and runs as a user."""
    status = {**RUNNING, **({"user": {"linux": user}} if user else {})}
    made = podobjects.pod("web", containers={"app": status})
    made["spec"]["containers"][0].update({"securityContext": context} if context else {})
    made["spec"].update({"securityContext": of_pod} if of_pod else {})
    return made


def theirs(name: str, beside: str = "app") -> Object:
    """A debug container that somebody else has added."""
    return {"name": name, "image": IMAGE, "targetContainerName": beside}


@pytest.mark.parametrize(
    ("context", "of_pod", "user", "becomes"),
    [
        ({}, {}, {}, None),
        ({"runAsUser": 5}, {}, {"uid": 7, "gid": 8}, {"runAsUser": 5}),
        ({}, {"runAsUser": 5}, {"uid": 5, "gid": 0}, None),
        ({}, {}, {"uid": 7, "gid": 8}, {"runAsUser": 7, "runAsGroup": 8}),
        ({}, {}, {"uid": 0, "gid": 0}, {"runAsUser": 0, "runAsGroup": 0}),
        (
            {"runAsNonRoot": True, "runAsGroup": 9},
            {"fsGroup": 1},
            {"uid": 7, "gid": 8},
            {"runAsNonRoot": True, "runAsUser": 7, "runAsGroup": 9},
        ),
    ],
)
async def test_it_runs_as_the_user_of_the_container_beside_it(
    context: Object, of_pod: Object, user: Object, becomes: Object | None, tmp_path: Path
) -> None:
    pods = Pods(pod(context=context, of_pod=of_pod, user=user))

    made = await beside(pods, tmp_path)

    assert (made.target.container, made.target.pod_uid, made.files) == (f"{NAME}1", "uid-web", "/proc/1/root")
    assert (made.target.ephemeral, made.target.beside) == (True, "app")
    assert pods.asked_for[0].get("securityContext") == becomes


@pytest.mark.parametrize(
    ("context", "of_pod", "user", "becomes"),
    [
        ({}, {}, {}, {"runAsUser": 65532}),
        ({}, {"runAsNonRoot": True, "fsGroup": 1}, {}, {"runAsUser": 65532}),
        (
            {"runAsNonRoot": True, "runAsGroup": 9},
            {},
            {},
            {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 9},
        ),
        ({"runAsUser": 5}, {}, {}, {"runAsUser": 5}),
        ({}, {"runAsUser": 5}, {}, None),
        ({}, {}, {"uid": 7, "gid": 8}, {"runAsUser": 7, "runAsGroup": 8}),
        ({}, {}, {"uid": 0, "gid": 0}, {"runAsUser": 0, "runAsGroup": 0}),
    ],
)
async def test_it_runs_as_the_user_of_the_role_where_nothing_says_who(
    context: Object, of_pod: Object, user: Object, becomes: Object | None, tmp_path: Path
) -> None:
    pods = Pods(pod(context=context, of_pod=of_pod, user=user))

    await beside(pods, tmp_path, user=65532)

    assert pods.asked_for[0].get("securityContext") == becomes


async def test_a_sidecar_among_the_init_containers_is_as_good_a_target(tmp_path: Path) -> None:
    given = podobjects.pod("web", init={"mesh": {**RUNNING, "user": {"linux": {"uid": 7, "gid": 8}}}})
    given["spec"]["initContainers"][0]["securityContext"] = {"readOnlyRootFilesystem": True}
    pods = Pods(given)

    await beside(pods, tmp_path, replace(TARGET, container="mesh"))

    assert pods.asked_for[0]["securityContext"] == {"readOnlyRootFilesystem": True, "runAsUser": 7, "runAsGroup": 8}
    assert pods.asked_for[0]["targetContainerName"] == "mesh"


async def test_the_user_is_found_where_a_real_cluster_tells_it(tmp_path: Path) -> None:
    """Recorded from a real 1.36."""
    status = json.loads(RECORDED.read_text())["response"]["json"]["status"]["containerStatuses"][0]
    pods = Pods(podobjects.pod("web", containers={"app": {**status, "name": "app"}}))

    await beside(pods, tmp_path)

    assert pods.asked_for[0]["securityContext"] == {"runAsUser": 0, "runAsGroup": 0}


@pytest.mark.parametrize("sharing", ["shareProcessNamespace", "hostPID"])
async def test_where_pid_1_is_another_its_files_are_those_of_its_processes(sharing: str, tmp_path: Path) -> None:
    given = pod()
    given["spec"][sharing] = True

    assert (await beside(Pods(given), tmp_path)).files == "/proc/PID/root of its processes"


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "RunContainerError", "ErrImagePull"])
async def test_what_cannot_start_is_refused_at_once_with_its_message(reason: str, tmp_path: Path) -> None:
    error = await refused(Pods(pod(), becomes=podobjects.waiting(reason, "image has no such user")), tmp_path)

    assert error.code is Code.NOT_STARTED
    assert error.user_message == f"the debug container did not start: {reason}: image has no such user"


# --- none is added without need: it stays in the pod as long as that lives ----------------------


async def test_its_name_says_what_was_wanted(tmp_path: Path) -> None:
    longest = replace(TARGET, container="c" * 63)
    wanted = [
        *((TARGET, IMAGE, None), (TARGET, "local/debian:2", None), (longest, IMAGE, None), (longest, "i" * 200, None)),
        *((TARGET, IMAGE, 0), (TARGET, IMAGE, 65532), (longest, IMAGE, 65532)),
    ]
    pods = Pods(pod())

    names = [(await beside(pods, tmp_path, *one)).target.container for one in wanted * 2]

    assert names[: len(wanted)] == names[len(wanted) :]
    assert len(set(names)) == len(wanted) == len(pods.names)
    assert all(re.fullmatch(r"bastion-debug-[0-9a-f]{8}-1", name) for name in names)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
async def test_where_one_hangs_no_other_is_added_until_it_runs(reason: str, tmp_path: Path) -> None:
    pods = Pods(pod(), becomes=waiting(reason, "it is not to be had"))

    for _ in range(3):
        error = await refused(pods, tmp_path)
        assert error.user_message == f"the debug container did not start: {reason}: it is not to be had"
    pods.become(RUNNING)

    assert (await beside(pods, tmp_path)).target.container == f"{NAME}1"
    assert pods.names == [f"{NAME}1"]


async def test_many_who_want_the_same_at_once_are_given_one(tmp_path: Path) -> None:
    pods = Pods(pod(), becomes=waiting("ContainerCreating"))
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if len(told) == 5:  # everybody waits
            pods.become(RUNNING)

    async with debugging(pods, tmp_path) as those:
        made = await asyncio.gather(*(those.container(TARGET, IMAGE, None, DORA, tell) for _ in range(5)))

    assert {one.target.container for one in made} == {f"{NAME}1"} == set(pods.names)
    assert told == ["waiting for the debug container: ContainerCreating"] * 5


async def test_an_image_that_a_webhook_puts_another_name_to_is_known_again(tmp_path: Path) -> None:
    pods = Pods(pod())
    pods.mirror = "mirror.example.com/"

    for _ in range(3):
        assert (await beside(pods, tmp_path)).target.container == f"{NAME}1"

    assert pods.names == [f"{NAME}1"]


async def test_another_is_added_when_all_have_ended(tmp_path: Path) -> None:
    pods = Pods(pod())
    for number in (1, 2):
        assert (await beside(pods, tmp_path)).target.container == f"{NAME}{number}"
        pods.become(terminated("Completed", 0))

    pods.add(theirs(f"{NAME}3"), waiting("ContainerCreating"))
    pods.add(theirs(f"{NAME}4"), RUNNING)

    assert (await beside(pods, tmp_path)).target.container == f"{NAME}4"


async def test_what_failed_some_times_is_not_tried_again(tmp_path: Path) -> None:
    pods = Pods(pod(), becomes=terminated("StartError", 128))
    for number, status in enumerate((0, 137, 143), 1):  # nobody used these any more, or their pod was ended
        pods.add(theirs(f"{NAME}{number}"), terminated("Whatever", status))
    for _ in range(MOST_FAILED):
        error = await refused(pods, tmp_path)
        assert error.user_message.endswith("did not start: StartError (status 128)")

    error = await refused(pods, tmp_path)

    assert error.code is Code.NOT_STARTED
    assert error.user_message.startswith(f"a debug container of this image failed {MOST_FAILED} times in pod web")
    assert error.user_message.endswith("the last: StartError (status 128)")
    assert len(pods.asked_for) == MOST_FAILED


def test_in_an_image_without_what_it_needs_it_fails(tmp_path: Path) -> None:
    pods = Pods(pod())
    asyncio.run(beside(pods, tmp_path))

    done = subprocess.run(
        pods.asked_for[0]["command"], env={"PATH": ""}, executable="/bin/sh", check=False, capture_output=True
    )

    assert done.returncode == 1


async def test_one_that_stands_beside_another_container_is_not_taken_whatever_its_name(tmp_path: Path) -> None:
    pods = Pods(pod())
    pods.add(theirs(f"{NAME}1", "other"), RUNNING)

    assert (await beside(pods, tmp_path)).target.container == f"{NAME}2"


@pytest.mark.parametrize("status", [409, 422])
async def test_a_name_that_somebody_took_meanwhile_is_not_taken_again(status: int, tmp_path: Path) -> None:
    pods = Pods(pod(), (status, "taken"), (status, "taken"))
    pods.meanwhile = [theirs(f"{NAME}1", "other"), theirs(f"{NAME}2", "other")]

    assert (await beside(pods, tmp_path)).target.container == f"{NAME}3"
    assert [one["name"] for one in pods.asked_for] == [f"{NAME}{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("status", [409, 422])  # 422: it is there with what a webhook made of it, which is other now
async def test_what_somebody_made_of_the_same_image_meanwhile_is_used(status: int, tmp_path: Path) -> None:
    pods = Pods(pod(), (status, "taken"))
    pods.meanwhile = [theirs(f"{NAME}1")]

    assert (await beside(pods, tmp_path)).target.container == f"{NAME}1"
    assert len(pods.asked_for) == 1


async def test_a_pod_that_changes_all_the_time_is_given_up(tmp_path: Path) -> None:
    pods = Pods(pod(), *[(409, "the object has been modified")] * (TRIES + 1))

    error = await refused(pods, tmp_path)

    assert error.code is Code.NOT_STARTED
    assert "changes too often" in error.user_message
    assert len(pods.asked_for) == TRIES


@pytest.mark.parametrize(("status", "code"), [(422, Code.NOT_STARTED), (404, Code.TARGET_MISSING)])
async def test_a_refusal_that_would_only_come_again_is_told_at_once(status: int, code: Code, tmp_path: Path) -> None:
    pods = Pods(pod(), (status, "spec.image: Invalid value"))

    error = await refused(pods, tmp_path)

    assert error.code is code
    assert error.user_message == "pod web cannot be given a debug container: spec.image: Invalid value"
    assert len(pods.asked_for) == 1


@pytest.mark.parametrize(
    "message",
    [
        'pods "web" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        'admission webhook "images.example.com" denied the request: only images of ours',
    ],
)
async def test_a_refusal_by_admission_is_told_as_that(message: str, tmp_path: Path) -> None:
    error = await refused(Pods(pod(), (403, message)), tmp_path)

    assert error.code is Code.CLUSTER_DENIED
    assert error.user_message == f"the cluster's admission rules do not allow this debug container: {message}"


async def test_a_refusal_by_rbac_is_told_as_that(tmp_path: Path) -> None:
    message = 'pods "web" is forbidden: User "bastion:dora" cannot patch resource "pods/ephemeralcontainers"'

    error = await refused(Pods(pod(), (403, message)), tmp_path)

    assert error.user_message == "the cluster's own RBAC does not let you do that"
    assert error.detail == message


# --- the pod that was decided about, and no other -----------------------------------------------

REPLACED = "pod web in namespace shop was replaced by another of that name; connect again"


def another() -> Object:
    """A pod of that name that came in its place, with a debug container that runs."""
    made = podobjects.pod("web", ephemeral={f"{NAME}1": RUNNING}, metadata={"uid": "uid-other"})
    made["spec"]["ephemeralContainers"][0]["targetContainerName"] = "app"
    return made


class ReplacedBeforeThePatch(Pods):
    """One pod that makes way for another after it was looked at."""

    async def patch(self, request: web.Request) -> web.Response:
        self.pod = another()
        return await super().patch(request)


class ReplacedAfterThePatch(Pods):
    """One pod that makes way for another while its debug container starts."""

    async def patch(self, request: web.Request) -> web.Response:
        answer = await super().patch(request)
        self.pod = another()
        return answer


@pytest.mark.parametrize(
    ("kind", "at_first", "asked_for"),
    [(Pods, another, 0), (ReplacedBeforeThePatch, pod, 1), (ReplacedAfterThePatch, pod, 1)],
)
async def test_a_pod_that_came_in_its_place_is_neither_given_one_nor_entered(
    kind: type[Pods], at_first: Callable[[], Object], asked_for: int, tmp_path: Path
) -> None:
    pods = kind(at_first())

    error = await refused(pods, tmp_path)

    assert (error.code, error.user_message) == (Code.TARGET_MISSING, REPLACED)
    assert pods.pod == another()
    assert len(pods.asked_for) == asked_for


async def test_a_cluster_that_takes_no_debug_containers_is_told_at_once(tmp_path: Path) -> None:
    pods = Pods(pod())
    pods.takes_none = True

    error = await refused(pods, tmp_path)

    assert (error.code, len(pods.asked_for)) == (Code.NOT_STARTED, 1)
    assert error.user_message == "this cluster takes no debug containers; they need Kubernetes 1.25 or newer"
