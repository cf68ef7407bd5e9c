"""What an operator goes by: manifests that grant what the policy needs and no more, and README.md's settings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bastion import policyfile
from bastion.cli.main import bastion
from bastion.pods import manifests, rights
from bastion.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
NOT_OBJECTS = ("kustomization.yaml", "policy.yaml")
OBJECTS = [
    (path.name, obj)
    for path in sorted(DEPLOY.glob("*.yaml"))
    if path.name not in NOT_OBJECTS
    for obj in yaml.safe_load_all(path.read_text())
]


def named(objects: list[Any], kind: str, name: str) -> Any:
    (found,) = (obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name))
    return found


def one(kind: str, name: str = "bastion") -> Any:
    return named([obj for _, obj in OBJECTS], kind, name)


def defaults() -> dict[str, Any]:
    """The default of every setting, by its name in a settings file."""
    return {
        f"{group}.{name}": default
        for group, field in Settings.model_fields.items()
        for name, default in field.default.model_dump().items()
    }


def listed_settings() -> dict[str, str]:
    """The defaults that README.md's table of settings shows; a row may be about several."""
    table = (ROOT / "README.md").read_text().partition("| setting | default |")[2].partition("\n\n")[0]
    listed: dict[str, str] = {}
    for row in table.splitlines()[2:]:
        names, shown = (cell.strip().split(", ") for cell in row.split("|")[1:3])
        listed.update(zip(names, shown, strict=True))
    return listed


def pod() -> Any:
    return one("StatefulSet")["spec"]["template"]["spec"]


def containers() -> list[Any]:
    return [*pod()["initContainers"], *pod()["containers"]]


def kustomization() -> Any:
    return yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())


def test_kustomize_lists_every_file() -> None:
    assert set(kustomization()["resources"]) == {name for name, _ in OBJECTS}


def test_kustomize_puts_the_one_name_of_the_image_and_the_policy_where_they_are_used() -> None:
    built = subprocess.run(["kubectl", "kustomize", DEPLOY], capture_output=True, text=True, check=True).stdout
    objects = list(yaml.safe_load_all(built))
    spec = named(objects, "StatefulSet", "bastion")["spec"]["template"]["spec"]
    (image,) = kustomization()["images"]
    (policy,) = (volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume)

    assert {container["image"] for container in [*spec["initContainers"], *spec["containers"]]} == {
        f"{image['newName']}:{image['newTag']}"
    }
    assert named(objects, "ConfigMap", policy)["data"] == {"policy.yaml": (DEPLOY / "policy.yaml").read_text()}


def test_the_rights_are_what_the_doctor_prints_for_the_policy() -> None:
    policy = policyfile.parse((DEPLOY / "policy.yaml").read_bytes(), "policy.yaml")
    grants = rights.needed(rights.IMPERSONATE, policy)
    printed = manifests.manifests(grants, ("bastion", "bastion"), rights.remarks(rights.IMPERSONATE, policy))

    assert (DEPLOY / "rbac.yaml").read_text() == printed


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
    known = {f"BASTION_{name.replace('.', '_')}".upper() for name in defaults()}

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


def test_readme_shows_every_setting_with_its_default() -> None:
    listed = listed_settings()

    assert set(listed) == {f"`{name}`" for name in defaults()}
    for name, default in defaults().items():
        shown = listed[f"`{name}`"]
        if default in (None, ""):
            assert re.fullmatch(r"[a-z][a-z -]+", shown), f"{name} has no default: say in words what that means"
        else:
            assert shown == f"`{str(default).lower() if isinstance(default, bool) else default}`"
