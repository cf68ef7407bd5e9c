"""Debug containers at an API server that answers as told: what they are made as, and why one is not to be had."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from bastion.errors import BastionError, Code
from bastion.model import KubeIdentity, Target
from bastion.pods.debug import NAMES_TRIED, Debugging
from support import podobjects
from support.apis import api_by, kubeconfig_at, told_to_nobody
from support.podobjects import RUNNING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bastion.model import Beside

    Object = dict[str, Any]

DORA = KubeIdentity(user="bastion:dora", groups=("bastion:debugger",))
TARGET = Target(namespace="shop", pod="web", pod_uid="uid-web", container="app", labels={}, node="")
IMAGE = "local/debian:1"
RECORDED = Path(__file__).parents[1] / "data" / "kube-wire" / "ephemeral-add.json"


class Pods:
    """One pod. A patch is refused with what `refusals` still holds, before which `meanwhile` come to be there."""

    def __init__(self, pod: Object, *refusals: tuple[int, str], becomes: Object | None = None) -> None:
        self.pod = pod
        self.refusals = list(refusals)
        self.meanwhile: list[Object] = []
        self.becomes = becomes or RUNNING
        self.asked_for: list[Object] = []

    def add(self, spec: Object, status: Object) -> None:
        """Give the pod an ephemeral container."""
        self.pod["spec"].setdefault("ephemeralContainers", []).append(spec)
        self.pod["status"].setdefault("ephemeralContainerStatuses", []).append({"name": spec["name"], **status})

    async def get(self, _request: web.Request) -> web.Response:
        return web.json_response(self.pod)

    async def patch(self, request: web.Request) -> web.Response:
        (spec,) = json.loads(await request.text())["spec"]["ephemeralContainers"]
        self.asked_for.append(spec)
        if self.refusals:
            if self.meanwhile:
                self.add(self.meanwhile.pop(0), RUNNING)
            status, message = self.refusals.pop(0)
            return web.json_response({"kind": "Status", "message": message}, status=status)
        self.add(spec, self.becomes)
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


async def beside(pods: Pods, folder: Path, target: Target = TARGET) -> Beside:
    async with debugging(pods, folder) as those:
        return await those.container(target, IMAGE, DORA, told_to_nobody)


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


def theirs(name: str, image: str = "other/image:1") -> Object:
    """A debug container that somebody else has added."""
    return {"name": name, "image": image, "targetContainerName": "app"}


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

    assert (made.target.container, made.target.pod_uid, made.files) == ("bastion-debug-1", "uid-web", "/proc/1/root")
    assert pods.asked_for[0].get("securityContext") == becomes


async def test_a_sidecar_among_the_init_containers_is_as_good_a_target(tmp_path: Path) -> None:
    given = podobjects.pod("web", init={"mesh": {**RUNNING, "user": {"linux": {"uid": 7, "gid": 8}}}})
    given["spec"]["initContainers"][0]["securityContext"] = {"readOnlyRootFilesystem": True}
    pods = Pods(given)

    await beside(pods, tmp_path, Target(namespace="shop", pod="web", pod_uid="u", container="mesh", labels={}, node=""))

    assert pods.asked_for[0]["securityContext"] == {"readOnlyRootFilesystem": True, "runAsUser": 7, "runAsGroup": 8}
    assert pods.asked_for[0]["targetContainerName"] == "mesh"


async def test_the_user_is_found_where_a_real_cluster_tells_it(tmp_path: Path) -> None:
    """Recorded from a real 1.36."""
    status = json.loads(RECORDED.read_text())["response"]["json"]["status"]["containerStatuses"][0]
    pods = Pods(podobjects.pod("web", containers={"app": {**status, "name": "app"}}))

    await beside(pods, tmp_path)

    assert pods.asked_for[0]["securityContext"] == {"runAsUser": 0, "runAsGroup": 0}


@pytest.mark.parametrize("sharing", ["shareProcessNamespace", "hostPID"])
async def test_where_pid_1_is_not_the_targets_nothing_is_said_of_its_files(sharing: str, tmp_path: Path) -> None:
    given = pod()
    given["spec"][sharing] = True

    assert (await beside(Pods(given), tmp_path)).files == ""


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "RunContainerError", "ErrImagePull"])
async def test_what_cannot_start_is_refused_at_once_with_its_message(reason: str, tmp_path: Path) -> None:
    error = await refused(Pods(pod(), becomes=podobjects.waiting(reason, "image has no such user")), tmp_path)

    assert error.code is Code.NOT_STARTED
    assert error.user_message == f"the debug container did not start: {reason}: image has no such user"


@pytest.mark.parametrize("status", [409, 422])
async def test_a_name_that_somebody_took_meanwhile_is_not_taken_again(status: int, tmp_path: Path) -> None:
    pods = Pods(pod(), (status, "taken"), (status, "taken"))
    pods.meanwhile = [theirs("bastion-debug-1"), theirs("bastion-debug-2")]

    assert (await beside(pods, tmp_path)).target.container == "bastion-debug-3"
    assert [one["name"] for one in pods.asked_for] == [f"bastion-debug-{number}" for number in (1, 2, 3)]


async def test_what_somebody_made_of_the_same_image_meanwhile_is_used(tmp_path: Path) -> None:
    pods = Pods(pod(), (409, "taken"))
    pods.meanwhile = [theirs("bastion-debug-1", IMAGE)]

    assert (await beside(pods, tmp_path)).target.container == "bastion-debug-1"
    assert len(pods.asked_for) == 1


async def test_a_pod_that_changes_all_the_time_is_given_up(tmp_path: Path) -> None:
    pods = Pods(pod(), *[(409, "the object has been modified")] * (NAMES_TRIED + 1))

    error = await refused(pods, tmp_path)

    assert error.code is Code.NOT_STARTED
    assert "changes too often" in error.user_message
    assert len(pods.asked_for) == NAMES_TRIED


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
