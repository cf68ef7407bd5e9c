"""What is said of a pod: all that helps, and nothing that could be a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bastion.console import describing, description, happenings, reach, tables
from bastion.console.tables import Paper
from bastion.podfacts import pod_facts
from support.podobjects import RUNNING, waiting
from support.podobjects import pod as pod_object

if TYPE_CHECKING:
    from bastion.console.reach import Reached

WIRE = Path(__file__).parents[1] / "data" / "kube-wire"
NOW = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
PIPE = Paper(cols=None, crlf=False)
SECRET = "hunter2"

RICH: dict[str, Any] = {
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "uid-1",
        "creationTimestamp": "2026-11-23T06:56:46Z",
        "labels": {"app": "web", "tier": "front"},
        "annotations": {
            "kubectl.kubernetes.io/default-container": "app",
            "kubectl.kubernetes.io/last-applied-configuration": f'{{"password": "{SECRET}"}}',
            "example.com/token": SECRET,
            "container.apparmor.security.beta.kubernetes.io/vault": "unconfined",
        },
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "uid": "rs", "controller": True}],
        "managedFields": [{"manager": SECRET}],
    },
    "spec": {
        "nodeName": "node-1",
        "serviceAccountName": "shop",
        "priority": 0,
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [
            {"key": "dedicated", "operator": "Equal", "value": "shop", "effect": "NoSchedule"},
            {
                "key": "node.kubernetes.io/not-ready",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            },
            {"operator": "Exists"},
        ],
        "initContainers": [{"name": "migrate", "image": "migrate:1"}],
        "containers": [
            {
                "name": "app",
                "image": "app:1",
                "command": ["app", f"--password={SECRET}"],
                "args": [SECRET],
                "ports": [{"containerPort": 8080, "protocol": "TCP"}, {"containerPort": 53}],
                "env": [
                    {"name": "PASSWORD", "value": SECRET},
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}},
                    {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
                "envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "settings"}}],
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "100m"}},
                "livenessProbe": {
                    "httpGet": {"path": "/", "httpHeaders": [{"name": "Authorization", "value": SECRET}]}
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
            },
            {"name": "vault", "image": "vault:1", "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]},
        ],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "web-data"}},
            {"name": "keys", "secret": {"secretName": "vault-keys"}},
        ],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "qosClass": "Burstable",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": "False", "message": "containers with unready status: [vault]"},
            {"type": "ContainersReady", "status": "False", "message": "containers with unready status: [vault]"},
        ],
        "initContainerStatuses": [
            {
                "name": "migrate",
                "state": {
                    "terminated": {
                        "exitCode": 0,
                        "reason": "Completed",
                        "startedAt": "2026-11-23T06:56:47Z",
                        "finishedAt": "2026-11-23T06:56:48Z",
                    }
                },
            }
        ],
        "containerStatuses": [
            {
                "name": "app",
                "containerID": "containerd://1",
                "imageID": "sha256:1",
                "ready": True,
                "restartCount": 1,
                "state": {"running": {"startedAt": "2026-11-23T07:06:42Z"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "out of memory"}},
            },
            {"name": "vault", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}},
        ],
    },
}

PAGE = """\
Name:             web
Namespace:        shop
UID:              uid-1
Priority:         0
Service Account:  shop
Node:             node-1
Created:          2026-11-23T06:56:46.000000Z
Labels:           app=web
                  tier=front
Annotations:      kubectl.kubernetes.io/default-container: app
                  example.com/token: (not shown)
                  kubectl.kubernetes.io/last-applied-configuration: (not shown)
Status:           Running
IP:               10.0.0.1
Controlled By:    ReplicaSet/web-1
Init Containers:
  migrate:
    Image:            migrate:1
    State:            Terminated
      Reason:         Completed
      Exit Code:      0
      Started:        2026-11-23T06:56:47.000000Z
      Finished:       2026-11-23T06:56:48.000000Z
    Ready:            False
    Restart Count:    0
    Environment:      <none>
    Mounts:           <none>
Containers:
  app:
    Container ID:     containerd://1
    Image:            app:1
    Image ID:         sha256:1
    Ports:            8080/TCP, 53/TCP
    State:            Running
      Started:        2026-11-23T07:06:42.000000Z
    Last State:       Terminated
      Reason:         OOMKilled
      Message:        out of memory
      Exit Code:      137
    Ready:            True
    Restart Count:    1
    Limits:           cpu 1, memory 64Mi
    Requests:         cpu 100m
    Environment:      PASSWORD (set)
                      TOKEN (from secret web, key token)
                      MODE (from configMap settings, key mode)
                      POD (from metadata.name)
                      CPUS (from limits.cpu)
                      all of secret all
                      all of configMap settings
    Mounts:           /data from data (ro)
Conditions:       PodScheduled: True
Volumes:          data: persistentVolumeClaim web-data
QoS Class:        Burstable
Node-Selectors:   disk=ssd
Tolerations:      dedicated=shop:NoSchedule
                  node.kubernetes.io/not-ready:NoExecute for 300s
                  everything
Events:
  <none>
"""


def seen(pod: dict[str, Any], *containers: str) -> Reached:
    """A pod as somebody sees it who may look at some of its containers, or at all."""
    facts = pod_facts(pod)
    return reach.as_seen(facts, containers or [one.name for one in facts.containers])


def recorded(name: str) -> Any:
    return json.loads((WIRE / f"{name}.json").read_text())["response"]["json"]


def test_a_pod_is_described_without_its_secrets_and_without_what_may_not_be_spoken_of() -> None:
    about = description.describe(RICH, seen(RICH, "migrate", "app"))
    page = tables.text(describing.page(about, ["<none>"]), PIPE).decode()

    assert page == PAGE
    for said in (page, json.dumps(about)):
        assert SECRET not in said
        assert "vault" not in said


def test_to_who_sees_all_of_a_pod_everything_about_it_as_a_whole_is_told() -> None:
    about = description.describe(RICH, seen(RICH))

    assert (about["status"], about["phase"]) == ("CrashLoopBackOff", "Running")
    assert about["conditions"] == {
        "PodScheduled": "True",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
    }
    assert "container.apparmor.security.beta.kubernetes.io/vault" in about["annotations_withheld"]
    # Of a login that names a container that one is shown, and the pod is the same.
    assert {**description.describe(RICH, seen(RICH), "app"), "containers": [], "volumes": []} == {
        **about,
        "containers": [],
        "volumes": [],
    }


def test_what_names_a_hidden_container_is_not_shown() -> None:
    evicted = "The node was low on resource: memory. Container vault was using 3Gi, request is 0."
    pod = pod_object(
        "hid",
        containers={"app": RUNNING, "vault": waiting("CrashLoopBackOff", restartCount=7)},
        phase="Failed",
        metadata={"annotations": {"kubectl.kubernetes.io/default-container": "vault"}},
        status={"reason": "Evicted", "message": evicted},
    )
    about = description.describe(pod, seen(pod, "app"))
    everything = description.describe(pod, seen(pod))

    assert "vault" not in json.dumps(about)
    assert (about["status"], about["phase"], about["reason"], about["message"]) == (
        "Evicted",
        None,
        "Evicted",
        "(not shown)",
    )
    assert (about["annotations"], about["annotations_withheld"]) == ({}, ["kubectl.kubernetes.io/default-container"])
    assert everything["message"] == evicted
    assert everything["annotations"] == {"kubectl.kubernetes.io/default-container": "vault"}


def happened(text: str, path: str = "") -> dict[str, Any]:
    about = {"name": "web", **({"fieldPath": path} if path else {})}
    return {"metadata": {"name": "x"}, "involvedObject": about, "reason": "R", "message": text}


@pytest.mark.parametrize(
    ("event", "to_some", "to_all"),
    [
        (happened("pulled", "spec.containers{app}"), ["pulled"], ["pulled"]),
        (happened("pulled", "spec.containers{vault}"), [], ["pulled"]),
        (happened("pulled", "spec.initContainers{migrate}"), [], ["pulled"]),
        (happened("pulled", "implicitly required container vault"), [], ["pulled"]),
        (happened("assigned"), ["assigned"], ["assigned"]),
        (happened('volume "x" of container vault'), ["(not shown)"], ['volume "x" of container vault']),
        (happened("vault slows it", "spec.containers{app}"), ["(not shown)"], ["vault slows it"]),
    ],
)
def test_an_event_that_is_about_a_hidden_container_is_not_shown_and_one_that_names_it_says_nothing(
    event: dict[str, Any], to_some: list[str], to_all: list[str]
) -> None:
    def told(*containers: str) -> list[object]:
        return [one["text"] for one in happenings.objects(happenings.shown([event], seen(RICH, *containers)))]

    assert (told("app"), told()) == (to_some, to_all)


def test_a_waiting_container_says_why() -> None:
    page = describing.page(description.describe(RICH, seen(RICH, "vault")), ["<none>"])

    at = page.index("    State:            Waiting")
    assert page[at + 1 : at + 3] == ["      Reason:         CrashLoopBackOff", "      Message:        back-off"]
    assert "Volumes:          keys: secret vault-keys" in page


def test_a_recorded_pod_is_described() -> None:
    pod = recorded("pod-get")
    about = description.describe(pod, seen(pod))

    assert [one["container"] for one in about["containers"]] == ["sidecar", "app"]
    assert about["status"] == "Running"
    assert about["annotations_withheld"] == ["kubectl.kubernetes.io/last-applied-configuration"]
    assert about["volumes"] == [{"volume": "kube-api-access-c7bsw", "kind": "projected", "refers_to": ""}]
    assert json.loads(json.dumps(about)) == about
    page = describing.page(about, ["<none>"])
    assert "labsrv" not in "\n".join(page)
    assert "    Last State:       Terminated" in page


@pytest.mark.parametrize("missing", ["status", "metadata"])
def test_a_pod_of_which_little_is_known_is_described(missing: str) -> None:
    metadata = {"name": "web", "namespace": "shop", "uid": "uid-1"}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": "app"}]}, "status": {"phase": "Pending"}}
    if missing == "status":
        del pod["status"]

    assert describing.page(description.describe(pod, seen(pod)), ["<none>"])[0] == "Name:             web"


def test_recorded_events_are_told_the_oldest_first() -> None:
    events = recorded("events-list")["items"]
    shown = happenings.shown(events, seen(recorded("pod-get")))

    assert len(shown) == len(events)
    told = happenings.objects(shown)
    assert [one["at"] for one in told] == sorted(str(one["at"]) for one in told)
    scheduled = next(one for one in told if one["reason"] == "Scheduled")
    assert scheduled == {
        "at": "2026-11-23T06:56:46.580577Z",
        "first_at": "2026-11-23T06:56:46.580577Z",
        "namespace": "default",
        "pod": "web",
        "container": None,
        "type": "Normal",
        "reason": "Scheduled",
        "count": 1,
        "source": "default-scheduler",
        "text": "Successfully assigned default/web to lab-node",
    }
    table = happenings.table(shown, NOW, PIPE)
    assert len(table) == len(events) + 1


def test_of_a_series_the_last_time_counts() -> None:
    event = {
        "metadata": {"name": "x", "creationTimestamp": "2026-11-23T06:00:00Z"},
        "involvedObject": {"name": "web"},
        "eventTime": "2026-11-23T06:00:00.000000Z",
        "series": {"count": 9, "lastObservedTime": "2026-11-23T07:59:00.000000Z"},
    }

    assert happenings.table([event], NOW, PIPE)[1].split()[:2] == ["1m", "9"]


def test_a_message_that_others_wrote_stays_on_its_line() -> None:
    event = {
        "metadata": {"name": "x"},
        "involvedObject": {"name": "web"},
        "lastTimestamp": "2026-11-23T07:59:00Z",
        "type": "Warning",
        "reason": "Failed",
        "message": "one\ntwo\x1b[2J\u2028three",
    }
    text = tables.text(happenings.table([event], NOW, PIPE), PIPE).decode()

    assert text.count("\n") == 2
    assert "one\\x0atwo\\x1b[2J\\u2028three" in text
