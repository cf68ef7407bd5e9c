"""The manifests: they parse, they grant exactly what the policy needs, and their pod is as restricted as can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bastion import policyfile
from bastion.cli.main import bastion
from bastion.pods import manifests, rights
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


def pod() -> Any:
    return one("StatefulSet")["spec"]["template"]["spec"]


def containers() -> list[Any]:
    return [*pod()["initContainers"], *pod()["containers"]]


def test_kustomize_lists_every_file_but_the_example() -> None:
    listed = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"]

    assert {*listed, "example-shop.yaml"} == {name for name, _ in OBJECTS}


def test_the_rights_are_what_the_doctor_prints_for_the_policy() -> None:
    policy = policyfile.parse(one("ConfigMap", "bastion-policy")["data"]["policy.yaml"].encode(), "policy.yaml")
    grants = rights.needed(rights.IMPERSONATE, policy)
    printed = manifests.manifests(grants, ("bastion", "bastion"), rights.remarks(rights.IMPERSONATE, policy))
    files = [(DEPLOY / name).read_text() for name in ("rbac.yaml", "example-shop.yaml")]

    assert "---\n".join(files) == printed


def test_the_bastion_itself_may_look_ask_and_impersonate_and_nothing_else() -> None:
    granted = {
        (resource, verb)
        for rule in one("ClusterRole")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    looked_at = ("pods", "deployments", "statefulsets", "daemonsets", "jobs")

    assert granted == {
        *((resource, verb) for resource in looked_at for verb in ("get", "list", "watch")),
        ("replicasets", "list"),
        ("replicasets", "watch"),
        ("namespaces", "get"),
        ("subjectaccessreviews", "create"),
        ("users", "impersonate"),
        ("groups", "impersonate"),
        ("userextras/bastion-session", "impersonate"),
    }


@pytest.mark.parametrize("container", containers(), ids=lambda container: str(container["name"]))
def test_a_container_runs_a_command_that_exists_with_known_settings(container: Any) -> None:
    known = {
        f"BASTION_{group}_{name}".upper()
        for group, field in Settings.model_fields.items()
        for name in type(field.default).model_fields
    }

    assert {variable["name"] for variable in container["env"]} <= known
    assert container["args"][0] in bastion.list_commands(bastion.make_context("bastion", ["serve"]))


@pytest.mark.parametrize("container", containers(), ids=lambda container: str(container["name"]))
def test_a_container_is_restricted_and_cannot_write_to_its_image(container: Any) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPort" in port for port in container.get("ports", []))
    assert not any(handler in container for handler in ("lifecycle", "volumeDevices"))


def test_the_pod_is_restricted_as_pod_security_standards_have_it() -> None:
    context = pod()["securityContext"]

    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"} & set(pod())
    assert not {"sysctls", "seLinuxOptions", "appArmorProfile", "procMount"} & set(context)
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    assert all(set(volume) - {"name"} <= allowed for volume in pod()["volumes"])
    assert one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_pod_has_its_own_account_and_no_variables_of_services() -> None:
    assert pod()["serviceAccountName"] == one("ServiceAccount")["metadata"]["name"]
    assert pod()["enableServiceLinks"] is False


def test_the_network_lets_in_ssh_alone_and_out_to_what_is_named() -> None:
    spec = one("NetworkPolicy")["spec"]

    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == [2222]
    assert all(rule["ports"] for rule in spec["egress"])
