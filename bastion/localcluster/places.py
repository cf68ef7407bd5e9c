"""What a path names; used by api, objects and subresources. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastion.localcluster import kinds
from bastion.localcluster.rbac import Attributes

if TYPE_CHECKING:
    from bastion.localcluster.kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path names: objects of a kind, one of them, or a subresource of it; "" is what it does not say."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_place(path: tuple[str, ...]) -> Place | None:
    """The place of `/api/v1/…` or `/apis/GROUP/VERSION/…`; None if there is no such thing."""
    match path:
        case ("api", version, *rest):
            group = ""
        case ("apis", group, version, *rest):
            pass
        case _:
            return None
    match rest:
        case ["namespaces", namespace, plural, *tail] if plural not in ("status", "finalize"):
            kind = kinds.find(group, version, plural)
            place = Place(kind=kind, namespace=namespace) if kind and kind.namespaced else None
        case [plural, *tail]:
            kind = kinds.find(group, version, plural)
            place = Place(kind=kind) if kind and not (kind.namespaced and tail) else None
        case _:
            return None
    if place is None or len(tail) > 2:  # noqa: PLR2004 - a name and a subresource
        return None
    name, subresource = (*tail, "", "")[:2]
    return replace(place, name=name, subresource=subresource)


def parse_metrics(path: tuple[str, ...]) -> Place | None:
    """The place of `/apis/metrics.k8s.io/v1beta1/…pods…`; None if it is no such path."""
    kind = kinds.POD_METRICS
    if path[:3] != ("apis", kind.group, kind.version):
        return None
    match path[3:]:
        case ("namespaces", namespace, kind.plural, name):
            return Place(kind=kind, namespace=namespace, name=name)
        case ("namespaces", namespace, kind.plural):
            return Place(kind=kind, namespace=namespace)
        case (kind.plural,):
            return Place(kind=kind)
        case _:
            return None


def attributes(place: Place, verb: str) -> Attributes:
    """What the authorizer is asked about it."""
    namespace = place.name if place.kind is kinds.NAMESPACE else place.namespace
    return Attributes(
        verb=verb,
        group=place.kind.group,
        resource=place.kind.plural,
        subresource=place.subresource,
        namespace=namespace,
        name=place.name,
    )
