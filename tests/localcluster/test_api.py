"""Who may ask what, and the answers that no recording shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cluster import running_cluster
from support.rawclient import bearer, connect, exec_query

if TYPE_CHECKING:
    from pathlib import Path

    from support.cluster import Cluster
    from support.rawclient import Answer, Query

BASTION = "system:serviceaccount:bastion:bastion"
PODS = "/api/v1/pods"
WEB = "/api/v1/namespaces/default/pods/web"
API = "/api/v1/namespaces/shop/pods/api-788b6f4684-4fttr"
SAR = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


async def get(
    cluster: Cluster, path: str, query: Query | None = None, *headers: tuple[str, str], user: str = ""
) -> Answer:
    async with connect(cluster) as client:
        token = bearer(cluster, user) if user else bearer(cluster)
        return await client.request("GET", path, query or [], [token, *headers])


def names(answer: Answer) -> list[str]:
    assert answer.status == 200
    return [one["metadata"]["name"] for one in json.loads(answer.body)["items"]]


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["message"])


async def exec_status(cluster: Cluster, path: str, *headers: tuple[str, str]) -> int:
    async with connect(cluster) as client:
        credentials = [bearer(cluster, BASTION), *headers]
        answer = await client.upgrade(f"{path}/exec", exec_query("true"), credentials, ["v5.channel.k8s.io"])
        return answer.status


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/pods", "PodList"),
        ("/apis/apps/v1/deployments", "DeploymentList"),
        ("/apis/apps/v1/namespaces/shop/replicasets", "ReplicaSetList"),
        ("/apis/apps/v1/namespaces/shop/statefulsets", "StatefulSetList"),
        ("/apis/apps/v1/daemonsets", "DaemonSetList"),
        ("/apis/batch/v1/namespaces/nowhere/jobs", "JobList"),
    ],
)
async def test_kinds_without_objects_are_empty_lists(cluster: Cluster, path: str, kind: str) -> None:
    answer = await get(cluster, path, [("labelSelector", "no=such")], user=BASTION)
    assert names(answer) == []
    assert json.loads(answer.body)["kind"] == kind


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([("labelSelector", "app in (web, db)")], ["web", "db"]),
        ([("labelSelector", "env,env!=prod,app notin (multi)")], ["distroless", "web"]),
        ([("labelSelector", "!env")], ["api-788b6f4684-4fttr", "api-788b6f4684-x59ld"]),
        ([("fieldSelector", "metadata.name=web")], ["web"]),
        ([("fieldSelector", "metadata.namespace!=default,metadata.namespace!=shop")], ["db"]),
    ],
)
async def test_selectors_choose(cluster: Cluster, query: Query, expected: list[str]) -> None:
    assert names(await get(cluster, PODS, query)) == expected


@pytest.mark.parametrize(
    "query",
    [[("fieldSelector", "spec.secret=1")], [("limit", "x")], [("continue", "!")], [("continue", "bnVsbA")]],
)
async def test_a_query_without_sense_is_a_400(cluster: Cluster, query: Query) -> None:
    assert (await get(cluster, PODS, query)).status == 400


async def test_pages_join_to_the_whole_list(cluster: Cluster) -> None:
    for path in (PODS, "/api/v1/namespaces/shop/pods", "/api/v1/namespaces"):
        whole, pages, token = names(await get(cluster, path)), [], ""
        while True:
            answer = await get(cluster, path, [("limit", "1"), ("continue", token)])
            pages += names(answer)
            token = json.loads(answer.body)["metadata"].get("continue", "")
            if not token:
                break
        assert pages == whole


async def test_several_requests_pass_on_one_connection(cluster: Cluster) -> None:
    async with connect(cluster) as client:
        for _ in range(3):
            assert (await client.request("GET", "/version", headers=[bearer(cluster)])).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_ends(
    cluster: Cluster, head: bytes, status: int
) -> None:
    async with connect(cluster) as client:
        await client.send(head)
        assert (await client.answer()).status == status
        assert await client.read(1) == b""


async def test_anybody_may_ask_for_version_and_health(cluster: Cluster) -> None:
    async with connect(cluster) as client:
        assert (await client.request("GET", "/version")).status == 200
        assert (await client.request("GET", "/readyz")).body == b"ok"
        assert (await client.request("GET", "/metrics")).status == 403


async def test_an_unknown_path_is_a_404_in_plain_text(cluster: Cluster) -> None:
    answer = await get(cluster, "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/pods/web")
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize("method", ["POST", "HEAD"])
async def test_what_cannot_be_done_is_a_405(cluster: Cluster, method: str) -> None:
    async with connect(cluster) as client:
        answer = await client.request(method, WEB, headers=[bearer(cluster)])
    assert (answer.status, json.loads(answer.body)["reason"]) == (405, "MethodNotAllowed")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PODS),
        ("GET", WEB),
        ("GET", "/api/v1/namespaces"),
        ("GET", "/apis/apps/v1/namespaces/shop/deployments/api"),
        ("GET", "/apis/batch/v1/jobs"),
    ],
)
async def test_the_bastions_account_may_read_what_it_needs(cluster: Cluster, method: str, path: str) -> None:
    async with connect(cluster) as client:
        assert (await client.request(method, path, headers=[bearer(cluster, BASTION)])).status == 200


@pytest.mark.parametrize("path", ["/api/v1/serviceaccounts", "/apis/rbac.authorization.k8s.io/v1/clusterroles"])
async def test_the_bastions_account_may_read_no_more(cluster: Cluster, path: str) -> None:
    assert (await get(cluster, path, user=BASTION)).status == 403
    assert (await get(cluster, path)).status == 200


async def test_the_bastions_account_may_not_exec_or_delete_by_itself(cluster: Cluster) -> None:
    assert await exec_status(cluster, WEB) == 403
    async with connect(cluster) as client:
        assert (await client.request("DELETE", WEB, headers=[bearer(cluster, BASTION)])).status == 403


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ([("Impersonate-User", "bastion:alice"), ("Impersonate-Group", "bastion:engineer")], WEB, 101),
        ([("Impersonate-User", "bastion:alice"), ("Impersonate-Group", "bastion:engineer")], API, 101),
        (
            [("Impersonate-User", "x"), ("Impersonate-Group", "devs"), ("Impersonate-Group", "bastion:engineer")],
            WEB,
            101,
        ),
        ([("Impersonate-User", "bastion:carl"), ("Impersonate-Group", "bastion:contractor")], API, 403),
        ([("Impersonate-User", "bastion:reaper")], WEB, 101),
        ([("Impersonate-User", "alice")], API, 101),
        ([("Impersonate-User", "zed"), ("Impersonate-Group", "devs")], API, 101),
        ([("Impersonate-User", "alice")], WEB, 403),
        ([("Impersonate-User", "carol")], API, 403),
        ([("Impersonate-User", "dave")], API, 403),
        ([("Impersonate-User", "bob")], API, 403),
    ],
)
async def test_impersonated_people_may_exec_what_their_bindings_say(
    cluster: Cluster, headers: list[tuple[str, str]], path: str, status: int
) -> None:
    assert await exec_status(cluster, path, *headers) == status


async def test_a_contractor_reads_pods_in_shop_only(cluster: Cluster) -> None:
    who = (("Impersonate-User", "bastion:carl"), ("Impersonate-Group", "bastion:contractor"))
    assert (await get(cluster, API, None, *who, user=BASTION)).status == 200
    assert (await get(cluster, WEB, None, *who, user=BASTION)).status == 403


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (
            [("Impersonate-User", "system:serviceaccount:bastion:bastion")],
            'cannot impersonate resource "serviceaccounts"',
        ),
        (
            [("Impersonate-User", "alice"), ("Impersonate-Extra-Scopes", "all")],
            'cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io" at the cluster scope',
        ),
    ],
)
async def test_impersonation_needs_the_verb_for_each_thing(
    cluster: Cluster, headers: list[tuple[str, str]], said: str
) -> None:
    answer = await get(cluster, WEB, None, *headers, user=BASTION)
    assert answer.status == 403
    assert said in message(answer)


async def test_nobody_impersonates_without_the_verb(cluster: Cluster) -> None:
    async with connect(cluster) as client:
        answer = await client.request("GET", WEB, headers=[("Impersonate-User", "kubernetes-admin")])
    said = 'users "kubernetes-admin" is forbidden: User "system:anonymous" cannot impersonate resource "users"'
    assert answer.status == 403
    assert message(answer).startswith(said)


async def test_an_impersonated_account_is_in_its_groups(cluster: Cluster) -> None:
    assert (await get(cluster, PODS, None, ("Impersonate-User", BASTION))).status == 200
    assert (await get(cluster, "/version", None, ("Impersonate-User", "somebody"))).status == 200


async def test_groups_without_a_user_are_an_error(cluster: Cluster) -> None:
    assert (await get(cluster, WEB, None, ("Impersonate-Group", "system:masters"))).status == 500


async def review(cluster: Cluster, body: object, user: str = BASTION) -> Answer:
    async with connect(cluster) as client:
        return await client.request("POST", SAR, headers=[bearer(cluster, user)], body=json.dumps(body).encode())


def ask(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


def allowed_by(*words: str) -> str:
    """The reason, of three pairs of kind and name."""
    binding, role, subject = (f'{kind} "{name}"' for kind, name in zip(words[::2], words[1::2], strict=True))
    return f"RBAC: allowed by {binding} of {role} to {subject}"


ENGINEER = "bastion:engineer"


@pytest.mark.parametrize(
    ("user", "groups", "reason"),
    [
        (
            "bastion:alice",
            [ENGINEER],
            allowed_by("ClusterRoleBinding", ENGINEER, "ClusterRole", ENGINEER, "Group", ENGINEER),
        ),
        ("alice", [], allowed_by("RoleBinding", "alice/shop", "Role", "exec-both", "User", "alice")),
        ("root", ["system:masters"], None),
    ],
)
async def test_a_review_tells_which_binding_allows(
    cluster: Cluster, user: str, groups: list[str], reason: str | None
) -> None:
    wanted = {"namespace": "shop", "verb": "get", "resource": "pods", "subresource": "exec", "name": "api"}
    answer = await review(cluster, ask(user=user, groups=groups, resourceAttributes=wanted))
    status = json.loads(answer.body)["status"]
    assert (answer.status, status["allowed"], status.get("reason")) == (201, True, reason)


async def test_a_review_of_a_path_is_answered(cluster: Cluster) -> None:
    spec = {
        "user": "x",
        "groups": ["system:authenticated"],
        "nonResourceAttributes": {"path": "/version", "verb": "get"},
    }
    assert json.loads((await review(cluster, ask(**spec))).body)["status"]["allowed"] is True


@pytest.mark.parametrize("body", [[], {"spec": 3}, {"spec": {"user": 3}}, {"spec": {"groups": "devs"}}])
async def test_what_is_no_review_is_a_400(cluster: Cluster, body: object) -> None:
    assert (await review(cluster, body)).status == 400


async def test_a_pod_of_a_deployment_can_be_deleted_at_once_and_once(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, connect(cluster) as client:
        query: Query = [("gracePeriodSeconds", "0")]
        answers = [await client.request("DELETE", API, query, [bearer(cluster)]) for _ in range(2)]
        assert [one.status for one in answers] == [200, 404]
        listed = await client.request("GET", "/api/v1/namespaces/shop/pods", headers=[bearer(cluster)])
    assert names(listed) == ["api-788b6f4684-x59ld"]
