"""What policies need of a pod. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, NamedTuple

from vk_provider.jsontypes import Json
from vk_provider.netpolicy.ports import MAX_PORT, NamedPort
from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.service import PROTOCOLS

TERMINATED = ("Succeeded", "Failed")
"""Phases of pods that have no address any more."""


Labels = tuple[tuple[str, str], ...]
"""Sorted."""


class Traits(NamedTuple):
    """What pods of one template have in common. ports: the named ones, in the containers' order."""

    namespace: str
    labels: Labels
    ports: tuple[NamedPort, ...]


class Place(NamedTuple):
    """An address, as a number and in its canonical form."""

    family: Family
    number: int
    text: str


class Peer(NamedTuple):
    """A pod that a selector can find, and where it is."""

    traits: Traits
    places: tuple[Place, ...]


def trim_pod(pod: Json) -> Json:
    """Keep what `parse_peer` and an informer need: some hundred bytes of what may be a hundred thousand."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "labels")
    return {
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {
            "hostNetwork": bool(spec.get("hostNetwork")),
            "containers": [{"ports": ports} for ports in _port_lists(spec)],
        },
        "status": {"phase": status.get("phase"), "podIPs": status.get("podIPs"), "podIP": status.get("podIP")},
    }


def parse_traits(pod: Json) -> Traits:
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    ports = (port for ports in _port_lists(spec) for item in ports if (port := _parse_port(item)))
    return Traits(str(metadata.get("namespace") or ""), parse_labels(pod), tuple(ports))


def parse_labels(pod: Json) -> Labels:
    return tuple(sorted(((pod.get("metadata") or {}).get("labels") or {}).items()))


def has_labels(pod: Json, known: Labels) -> bool:
    """Whether these are the pod's, which is asked at each of its events."""
    return dict(known) == ((pod.get("metadata") or {}).get("labels") or {})


def parse_peer(pod: Json) -> Peer | None:
    """None: no selector finds it, as it has no address of its own, or none any more."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork") or status.get("phase") in TERMINATED:
        return None
    written = [item.get("ip") for item in status.get("podIPs") or []] or [status.get("podIP")]
    addresses = dict.fromkeys(parsed for item in written if (parsed := parse_address(item)))
    places = tuple(Place(family, int(ipaddress.ip_address(text)), text) for family, text in addresses)
    return Peer(parse_traits(pod), places) if places else None


def _port_lists(spec: Json) -> Iterator[list[Json]]:
    """Of the containers, then of the sidecars (endpointslice utils.go FindPort)."""
    sidecars = (item for item in spec.get("initContainers") or [] if item.get("restartPolicy") == "Always")
    for container in (*(spec.get("containers") or []), *sidecars):
        ports = [port for port in container.get("ports") or [] if port.get("name")]
        if ports:
            yield ports


def _parse_port(item: Json) -> NamedPort | None:
    number: Any = item.get("containerPort")
    protocol = PROTOCOLS.get(item.get("protocol") or "TCP")
    if protocol is None or type(number) is not int or not 0 < number <= MAX_PORT:
        return None
    return NamedPort(str(item["name"]), protocol, number)
