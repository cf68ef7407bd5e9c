"""Which pod and container an ssh user name leads to, with real workloads, and what a person is told of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from bastion.model import WindowSize
from support.terminal import Terminal
from support.trips import POLICY, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion, Starter

SIZE = WindowSize(cols=120, rows=40)
PODS = "/api/v1/namespaces/shop/pods"
BUSYBOX = {"name": "main", "image": "local/busybox:1"}

NARROW = """\
  ours:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - {namespaces: [shop], actions: [exec, logs], pods: {matchLabels: {team: ours}}}
  named:
    kubernetes: {groups: ["bastion:engineer"]}
    allow:
      - {namespaces: [shop], containers: [dbg], actions: [exec]}
"""


@pytest.fixture(scope="module")
def targets(start: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """A bastion with a cluster of its own, for what is made and broken here.

    In shop, ines reaches pods of one team, and alice what was added to a pod and is called dbg.
    """
    policy = tmp_path_factory.mktemp("narrow") / "policy.yaml"
    roles, bindings = POLICY.split("bindings:\n")
    bound = '  - {role: ours, subjects: ["person:ines"]}\n  - {role: named, subjects: ["person:alice"]}\n'
    policy.write_text(f"{roles}{NARROW}bindings:\n{bindings}{bound}")
    with start(settings={"BASTION_POLICY_FILE": str(policy)}) as bastion:
        yield bastion


def kubectl(bastion: Bastion, *arguments: str, given: Any = None) -> str:
    return bastion.kubectl("-n", "shop", *arguments, given=given)


def apply(bastion: Bastion, given: dict[str, Any]) -> None:
    kubectl(bastion, "apply", "--validate=false", "-f", "-", given=given)


def pod(name: str, *, metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", **(metadata or {})},
        "spec": {"containers": [BUSYBOX], **spec},
    }


def made_by(kind: str, name: str, api: str = "apps/v1", **spec: Any) -> dict[str, Any]:
    labels = {"run": name}
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [BUSYBOX]}},
            **spec,
        },
    }


def of_pod(bastion: Bastion, name: str) -> dict[str, Any]:
    found: dict[str, Any] = bastion.kubernetes("GET", f"{PODS}/{name}")
    return found


def becomes(bastion: Bastion, name: str, phase: str) -> None:
    wait_until(lambda: of_pod(bastion, name)["status"].get("phase") == phase)


def led_to(bastion: Bastion, login: str, *, person: str = "alice") -> tuple[str, str]:
    """The pod and the container that a login leads to."""
    done = bastion.ssh("-T", f"{login}@b", "true", person=person)
    assert done.returncode == 0, done.stderr
    session = bastion.last_session()
    return session["pod"], session["container"]


def refusal(bastion: Bastion, login: str, *, person: str = "alice") -> str:
    done = bastion.ssh(f"{login}@b", "true", person=person)
    assert (done.returncode, done.stdout) == (253, b"")
    return str(done.stderr.decode())


def words(bastion: Bastion, *arguments: str) -> list[str]:
    return [str(argument) for argument in bastion.ssh_argv(*arguments)]


# --- workloads ---------------------------------------------------------------


def test_a_choice_is_shown_and_the_same_person_is_led_to_the_same_pod(targets: Bastion) -> None:
    apply(targets, made_by("Deployment", "many", replicas=4))
    kubectl(targets, "rollout", "status", "deployment/many", "--timeout=30s")

    first, _ = led_to(targets, "many.shop")

    assert {led_to(targets, "deploy_many.shop")[0] for _ in range(3)} == {first}
    with Terminal(words(targets, "-tt", "deploy/many.shop@b"), SIZE) as terminal:
        terminal.expect(f"bastion: {first} of deploy/many")
        terminal.type("exit\r")
        assert terminal.process.wait(30) == 0


def test_people_stay_in_their_pods_when_a_workload_is_scaled_up(targets: Bastion) -> None:
    apply(targets, made_by("Deployment", "grown", replicas=2))
    kubectl(targets, "rollout", "status", "deployment/grown", "--timeout=30s")
    before = led_to(targets, "grown.shop")

    kubectl(targets, "patch", "deployment", "grown", "-p", '{"spec":{"replicas":8}}')
    kubectl(targets, "rollout", "status", "deployment/grown", "--timeout=30s")

    assert led_to(targets, "grown.shop") == before


def test_a_new_roll_out_is_where_people_go(targets: Bastion) -> None:
    apply(targets, made_by("Deployment", "rolled", replicas=1))
    kubectl(targets, "rollout", "status", "deployment/rolled", "--timeout=30s")
    old, _ = led_to(targets, "rolled.shop")

    patch = '{"spec":{"template":{"metadata":{"annotations":{"again":"yes"}}}}}'
    kubectl(targets, "patch", "deployment", "rolled", "-p", patch)
    kubectl(targets, "rollout", "status", "deployment/rolled", "--timeout=30s")
    wait_until(lambda: led_to(targets, "rolled.shop")[0] != old)

    new, _ = led_to(targets, "rolled.shop")
    assert new.rpartition("-")[0] != old.rpartition("-")[0]


def test_a_stateful_sets_pods_are_reached_by_number(targets: Bastion) -> None:
    apply(targets, made_by("StatefulSet", "data", replicas=2, serviceName="data"))
    kubectl(targets, "rollout", "status", "statefulset/data", "--timeout=30s")

    assert led_to(targets, "sts_data-1.shop") == ("data-1", "main")
    assert led_to(targets, "data-0.shop") == ("data-0", "main")
    assert led_to(targets, "sts_data.shop")[0] in {"data-0", "data-1"}
    assert "sts/data has no pod data-7 now; its pods: data-0, data-1" in refusal(targets, "sts_data-7.shop")


def test_a_workload_that_is_scaled_to_nothing_says_so(targets: Bastion) -> None:
    apply(targets, made_by("Deployment", "none", replicas=0))

    assert "deploy/none in namespace shop has no pod (it is scaled to 0)" in refusal(targets, "none.shop")


def test_a_finished_job_is_refused_as_kubectl_refuses_its_pod(targets: Bastion) -> None:
    job = made_by("Job", "batch", api="batch/v1")
    del job["spec"]["selector"]
    template = {"containers": [{**BUSYBOX, "command": ["sh", "-c", "exit 0"]}], "restartPolicy": "Never"}
    job["spec"]["template"]["spec"] = template
    apply(targets, job)
    kubectl(targets, "wait", "--for=condition=complete", "job/batch", "--timeout=30s")

    said = refusal(targets, "job_batch.shop")

    assert "no pod of job/batch can be entered (it has 1)" in said
    assert "cannot exec into a container in a completed pod; current phase is Succeeded" in said


# --- containers --------------------------------------------------------------


def test_init_and_ephemeral_containers_are_reached_by_name_while_they_run(targets: Bastion) -> None:
    inits = [{**BUSYBOX, "name": "setup", "command": ["sleep", "infinity"]}]
    apply(targets, pod("slow", initContainers=inits))
    wait_until(lambda: "running" in str(of_pod(targets, "slow")["status"].get("initContainerStatuses")))

    assert led_to(targets, "slow.shop+setup") == ("slow", "setup")
    assert "slow has no container nope, or your roles do not reach it; it has main, setup" in refusal(
        targets, "slow.shop+nope"
    )

    added = [{**BUSYBOX, "name": name, "command": ["sleep", "infinity"]} for name in ("dbg", "other")]
    patch = {"spec": {"ephemeralContainers": added}}
    kubectl(targets, "patch", "pod", "slow", "--subresource=ephemeralcontainers", "-p", json.dumps(patch))

    assert led_to(targets, "slow.shop+dbg") == ("slow", "dbg")
    assert "slow has no container other, or your roles do not reach it" in refusal(targets, "slow.shop+other")


# --- phases ------------------------------------------------------------------


def test_a_pod_that_waits_to_be_scheduled_is_waited_for_with_its_reason(targets: Bastion) -> None:
    apply(targets, pod("gated", schedulingGates=[{"name": "example.com/quota"}]))
    becomes(targets, "gated", "Pending")

    with Terminal(words(targets, "-tt", "gated.shop@b"), SIZE) as terminal:
        terminal.expect("bastion: waiting for pod gated: Scheduling is blocked due to non-empty scheduling gates")
        kubectl(targets, "patch", "pod", "gated", "--type=merge", "-p", '{"spec":{"schedulingGates":[]}}')
        terminal.expect("[$#] ")
        terminal.type("echo in''side\r")
        terminal.expect("inside")
        terminal.type("exit\r")
        assert terminal.process.wait(30) == 0


def test_who_leaves_while_waiting_is_waited_for_no_more(targets: Bastion) -> None:
    apply(targets, pod("never", schedulingGates=[{"name": "example.com/quota"}]))
    becomes(targets, "never", "Pending")
    with Terminal(words(targets, "-tt", "never.shop@b", "sleep 7777"), SIZE) as terminal:
        terminal.expect("bastion: waiting for pod never")

    kubectl(targets, "patch", "pod", "never", "--type=merge", "-p", '{"spec":{"schedulingGates":[]}}')
    becomes(targets, "never", "Running")
    assert led_to(targets, "never.shop") == ("never", "main")
    assert targets.running("7777") == []
    assert len([one for one in targets.audit("sessions", "--limit", "50") if one["pod"] == "never"]) == 1


def test_a_pod_that_ended_is_refused_with_how_it_ended(targets: Bastion) -> None:
    broken = [{**BUSYBOX, "command": ["sh", "-c", "exit 3"]}]
    apply(targets, pod("over", containers=broken, restartPolicy="Never"))
    becomes(targets, "over", "Failed")

    said = wait_until(lambda: _final(refusal(targets, "over.shop")))

    assert "cannot exec into a container in a completed pod; current phase is Failed" in said
    assert "container main: Error, exit code 3" in said


def _final(said: str) -> str:
    """What is said once the catalogue has seen the end."""
    return said if "completed pod" in said else ""


def test_a_pod_that_keeps_crashing_is_refused_with_how_it_last_ended(targets: Bastion) -> None:
    apply(targets, pod("crashing", containers=[{**BUSYBOX, "command": ["sh", "-c", "exit 4"]}]))
    wait_until(lambda: "CrashLoopBackOff" in str(of_pod(targets, "crashing")["status"]))

    said = wait_until(lambda: _crashed(refusal(targets, "crashing.shop")))

    assert "container main of pod crashing is in CrashLoopBackOff" in said
    assert "it last ended: Error, exit code 4" in said


def _crashed(said: str) -> str:
    return said if "CrashLoopBackOff" in said else ""


def test_a_pod_that_is_being_deleted_is_refused(targets: Bastion) -> None:
    stubborn = [{**BUSYBOX, "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}]
    apply(targets, pod("leaving", containers=stubborn, terminationGracePeriodSeconds=120))
    becomes(targets, "leaving", "Running")
    kubectl(targets, "delete", "pod", "leaving", "--wait=false")

    assert "pod leaving is Terminating: it is being deleted" in refusal(targets, "leaving.shop")
    kubectl(targets, "delete", "pod", "leaving", "--grace-period=0", "--force")


# --- what a person does not see ----------------------------------------------


def test_nothing_is_told_of_a_pod_that_no_role_reaches_but_to_the_record(targets: Bastion) -> None:
    labels = {"metadata": {"labels": {"team": "ours"}}}
    apply(targets, pod("ours", **labels, containers=[BUSYBOX, {**BUSYBOX, "name": "side"}]))
    apply(targets, pod("vault", containers=[{**BUSYBOX, "name": "secret", "command": ["sh", "-c", "exit 4"]}]))
    apply(targets, pod("late", schedulingGates=[{"name": "example.com/quota"}]))
    apply(targets, made_by("Deployment", "vaults", replicas=1))
    kubectl(targets, "rollout", "status", "deployment/vaults", "--timeout=30s")
    becomes(targets, "ours", "Running")
    wait_until(lambda: "CrashLoopBackOff" in str(of_pod(targets, "vault")["status"]))
    wait_until(lambda: "CrashLoopBackOff" in refusal(targets, "vault.shop"))

    for name in ("nothing", "vault", "vault.shop+x", "late", "vaults"):
        login = name if "." in name else f"{name}.shop"
        what = login.partition(".")[0]
        said = refusal(targets, login, person="ines")
        assert said == f"bastion: there is no pod or workload {what} in namespace shop, or your roles do not reach it\n"
    assert led_to(targets, "ours.shop+side", person="ines") == ("ours", "side")
    assert "ours has no container x, or your roles do not reach it; it has main, side" in refusal(
        targets, "ours.shop+x", person="ines"
    )

    events = wait_until(lambda: _refused(targets, "vault.shop", "nothing.shop"))
    assert "it is there, but no role of this person's reaches it" in events["vault.shop"]
    assert "it is not there" in events["nothing.shop"]


def _refused(bastion: Bastion, *logins: str) -> dict[str, str]:
    """The events of what ines was refused, by login, once all of them are written."""
    events = bastion.audit("events", "--limit", "50")
    of_ines = [one for one in events if (one["type"], one["person"]) == ("session.refused", "ines")]
    found = {event["login"]: str(event["detail"]) for event in of_ines}
    return found if found.keys() >= set(logins) else {}


# --- the catalogue -----------------------------------------------------------


def test_a_new_pod_is_reached_after_the_cluster_forgot_the_past_or_dropped_everybody(targets: Bastion) -> None:
    for name, fault in (("after-forgetting", {"do": "forget"}), ("after-reset", {"do": "reset", "seconds": 0.5})):
        targets.control(fault)
        wait_until(lambda: targets.ssh("web.default@b", "true").returncode == 0)
        apply(targets, pod(name))
        becomes(targets, name, "Running")
        assert led_to(targets, f"{name}.shop") == (name, "main")


def test_while_the_list_of_pods_is_out_of_date_the_api_server_is_asked_and_a_terminal_told_so(targets: Bastion) -> None:
    notice = "bastion: the list of pods is out of date (the API server was away), so it was asked directly"
    targets.control({"do": "fail", "times": 1_000_000, "status": 503, "match": "/api/v1/pods?"})
    try:
        targets.control({"do": "reset", "seconds": 0.1})
        wait_until(lambda: targets.ssh("web.default@b", "true").returncode == 0)
        apply(targets, pod("unheard-of"))
        becomes(targets, "unheard-of", "Running")
        with Terminal(words(targets, "-tt", "unheard-of.shop@b"), SIZE) as terminal:
            terminal.expect(re.escape(notice))
            terminal.type("exit\r")
            assert terminal.process.wait(30) == 0
        quiet = targets.ssh("unheard-of.shop@b", "echo out")
        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"out\n", b"")
    finally:
        targets.control({"do": "fail", "times": 0, "status": 503})
    wait_until(lambda: led_to_without_a_word(targets, "unheard-of.shop"))


def led_to_without_a_word(bastion: Bastion, login: str) -> bool:
    """Whether a shell on a terminal opens without the notice that the list is out of date."""
    with Terminal(words(bastion, "-tt", f"{login}@b", "echo opened"), SIZE) as terminal:
        terminal.expect("opened")
        assert terminal.wait() == 0
    return b"out of date" not in terminal.seen


def test_a_bastion_of_a_few_namespaces_knows_no_others(start: Starter) -> None:
    with start(settings={"BASTION_KUBERNETES_NAMESPACES": "shop,prod"}) as bastion:
        assert bastion.ssh("api.shop@b", "true").returncode == 0
        assert bastion.ssh("db.prod@b", "true").returncode == 0
        assert "namespace default is not one of those that this bastion looks after" in refusal(bastion, "web.default")
