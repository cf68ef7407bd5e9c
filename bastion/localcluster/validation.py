"""Whether what somebody brings can be run: pods and what makes pods; used by objects. Pure.

Only what the kubelet and the controllers stand on is checked; an API server checks far more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bastion.localcluster import kinds, statuses, workloads

if TYPE_CHECKING:
    from bastion.localcluster.kinds import Kind
    from bastion.localcluster.store import Object

_MOST_REPLICAS = 50
_POLICIES = ("Always", "OnFailure", "Never")


def check(kind: Kind, value: Object) -> None:
    """Raise ApiError, a 400 that names the field, unless the object can be run."""
    if not isinstance(value["metadata"].get("name"), str):
        raise statuses.bad_request("metadata.name: Required value: name or generateName is required")
    labels = value["metadata"].get("labels")
    _need(labels is None or _is_words(labels), "metadata.labels", "must be words")
    if kind is kinds.POD:
        _check_pod_spec("spec", value.get("spec"))
    elif kind is kinds.JOB:
        _check_job(value.get("spec"))
    elif kind in workloads.KINDS:
        _check_workload(value.get("spec"))


def _check_job(spec: Any) -> None:
    _need(isinstance(spec, dict), "spec", "must be an object")
    limit = spec.get("backoffLimit", 6)
    _need(type(limit) is int and limit >= 0, "spec.backoffLimit", "must be a number")
    _need(isinstance(spec.get("template"), dict), "spec.template", "must be an object")
    inner = spec["template"].get("spec")
    _check_pod_spec("spec.template.spec", inner)
    _need(inner.get("restartPolicy") in ("Never", "OnFailure"), "spec.template.spec.restartPolicy", "Unsupported value")


def _check_workload(spec: Any) -> None:
    _need(isinstance(spec, dict), "spec", "must be an object")
    replicas = spec.get("replicas", 1)
    _need(type(replicas) is int and 0 <= replicas <= _MOST_REPLICAS, "spec.replicas", f"must be 0 to {_MOST_REPLICAS}")
    selector, template = spec.get("selector"), spec.get("template")
    _need(isinstance(selector, dict) and _is_words(selector.get("matchLabels")), "spec.selector", "needs matchLabels")
    _need(isinstance(template, dict), "spec.template", "must be an object")
    metadata = template.get("metadata")
    _need(isinstance(metadata, dict) and _is_words(metadata.get("labels")), "spec.template.metadata", "needs labels")
    _check_pod_spec("spec.template.spec", template.get("spec"))


def _check_pod_spec(path: str, spec: Any) -> None:
    containers = spec.get("containers") if isinstance(spec, dict) else None
    _need(isinstance(containers, list) and bool(containers), f"{path}.containers", "must be a list that is not empty")
    assert isinstance(containers, list)
    inits, gates = spec.get("initContainers", []), spec.get("schedulingGates", [])
    _need(isinstance(inits, list), f"{path}.initContainers", "must be a list")
    _need(isinstance(gates, list), f"{path}.schedulingGates", "must be a list")
    for part, listed in (("containers", containers), ("initContainers", inits)):
        for index, one in enumerate(listed):
            check_container(f"{path}.{part}[{index}]", one)
    names = [one["name"] for one in (*containers, *inits)]
    _need(len(set(names)) == len(names), f"{path}.containers", "has a name twice")
    _need(spec.get("restartPolicy", "Always") in _POLICIES, f"{path}.restartPolicy", "Unsupported value")
    grace = spec.get("terminationGracePeriodSeconds", 0)
    _need(type(grace) is int and grace >= 0, f"{path}.terminationGracePeriodSeconds", "must be a number of seconds")


def check_container(path: str, value: Any) -> None:
    """Raise ApiError, a 400 that names the field, unless a container's spec can be run."""
    _need(isinstance(value, dict), path, "must be an object")
    for key in ("name", "image"):
        _need(isinstance(value.get(key), str) and bool(value[key]), f"{path}.{key}", "must be a word")
    _need("/" not in value["name"], f"{path}.name", "must be a DNS label")
    for key in ("command", "args"):
        words = value.get(key, [])
        _need(isinstance(words, list) and all(isinstance(one, str) for one in words), f"{path}.{key}", "must be words")
    env = value.get("env", [])
    _need(isinstance(env, list) and all(_is_words(one) and "name" in one for one in env), f"{path}.env", "needs names")


def _is_words(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, str) for part in value.values())


def _need(holds: object, path: str, said: str) -> None:
    if not holds:
        raise statuses.bad_request(f"{path}: Invalid value: {said}")
