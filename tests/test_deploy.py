"""The manifests: they parse, their policy is one, and they grant no more than they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bastion import policyfile
from bastion.cli.main import bastion
from bastion.settings import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
OBJECTS = [
    (path.name, obj)
    for path in sorted(DEPLOY.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for obj in yaml.safe_load_all(path.read_text())
]


def one(kind: str, name: str = "bastion") -> Any:
    (found,) = (obj for _, obj in OBJECTS if (obj["kind"], obj["metadata"]["name"]) == (kind, name))
    return found


def containers() -> list[Any]:
    pod = one("StatefulSet")["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def test_kustomize_lists_every_file_but_the_example() -> None:
    listed = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"]

    assert {*listed, "example-shop.yaml"} == {name for name, _ in OBJECTS}


def test_the_policy_is_one_and_its_groups_may_be_impersonated() -> None:
    policy = policyfile.parse(one("ConfigMap", "bastion-policy")["data"]["policy.yaml"].encode(), "policy.yaml")
    groups = {group for role in policy.roles for group in role.kubernetes_groups}
    (rule,) = (rule for rule in one("ClusterRole")["rules"] if rule["resources"] == ["groups"])

    assert set(rule["resourceNames"]) == groups
    bound = {subject["name"] for name, obj in OBJECTS if name == "example-shop.yaml" for subject in obj["subjects"]}
    assert bound == {*groups, "bastion:reaper"}


def test_the_bastion_itself_may_look_ask_and_impersonate_and_nothing_else() -> None:
    granted = {
        (resource, verb)
        for rule in one("ClusterRole")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    looked_at = ("pods", "namespaces", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs")

    assert granted == {
        *((resource, verb) for resource in looked_at for verb in ("get", "list")),
        ("subjectaccessreviews", "create"),
        ("users", "impersonate"),
        ("groups", "impersonate"),
    }


@pytest.mark.parametrize("container", containers(), ids=lambda container: str(container["name"]))
def test_a_container_runs_a_command_that_exists_locked_down_with_known_settings(container: Any) -> None:
    known = {
        f"BASTION_{group}_{name}".upper()
        for group, field in Settings.model_fields.items()
        for name in type(field.default).model_fields
    }

    assert {variable["name"] for variable in container["env"]} <= known
    assert container["args"][0] in bastion.list_commands(bastion.make_context("bastion", ["serve"]))
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_is_nobody_in_particular() -> None:
    pod = one("StatefulSet")["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["enableServiceLinks"] is False
