"""What a Service means for one connection of a pod, in the words of its own fields. Pure.

The API server's objects explain; what happens is read from the compiled table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vk_provider.explain.target import QuestionError, Target
from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.endpoint import (
    HEADLESS_LABEL,
    Endpoint,
    PortKey,
    merge_slices,
    parse_slice,
)
from vk_provider.serviceproxy.lookup import Destination
from vk_provider.serviceproxy.service import PROTOCOLS, PROXY_NAME_LABEL

Kind = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "headless", "foreign"]


@dataclass(frozen=True, slots=True)
class PortChoice:
    """protocol: its name; node_port: 0 without; is_known: whether the Service has the port."""

    name: str
    protocol: str
    number: int
    node_port: int = 0
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """An endpoint of the chosen port. pod: namespace/name, "" when it is none; hostname: of DNS records."""

    endpoint: Endpoint
    pod: str
    zone: str
    hostname: str


@dataclass(frozen=True, slots=True)
class ServiceView:
    """kind: "foreign" is another proxy's (PROXY_NAME_LABEL)
    cluster_ips: canonical
    has_selector: its endpoints are made from pods; selector: in words
    """

    key: str
    kind: Kind
    cluster_ips: tuple[str, ...]
    ports: tuple[PortChoice, ...]
    port: PortChoice
    endpoints: tuple[NamedEndpoint, ...]
    external_name: str
    internal_local: bool
    affinity: bool
    publishes_unready: bool
    selector: str

    def address_of(self, family: Family) -> str:
        """ "" when it has none of the family."""
        return next((text for text in self.cluster_ips if (":" in text) == (family is Family.IPV6)), "")

    @property
    def written_ports(self) -> str:
        return ", ".join(describe_port(port) for port in self.ports) or "none"


def describe_port(port: PortChoice) -> str:
    """Such as `http 80/TCP`."""
    return f"{port.name} {port.number}/{port.protocol}".strip()


def view_service(service: Json, slices: Iterable[Json], target: Target, family: Family) -> ServiceView:
    """Raises QuestionError when the port that is meant is not clear."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    kind = _kind(service)
    ports = tuple(_parse_port(item) for item in spec.get("ports") or [])
    port = _choose_port(f"{metadata['namespace']}/{metadata['name']}", kind, ports, target)
    items = list(slices)
    if kind == "headless":
        endpoints = _list_headless(items, port, family, target)
    else:
        endpoints = list_endpoints(items, port, family) if port.is_known else ()
    cluster_ips = (parse_address(item) for item in spec.get("clusterIPs") or [spec.get("clusterIP")])
    selector = spec.get("selector") or {}
    return ServiceView(
        key=f"{metadata['namespace']}/{metadata['name']}",
        kind=kind,
        cluster_ips=tuple(item[1] for item in cluster_ips if item),
        ports=ports,
        port=port,
        endpoints=endpoints,
        external_name=str(spec.get("externalName") or ""),
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        affinity=spec.get("sessionAffinity") == "ClientIP",
        publishes_unready=bool(spec.get("publishNotReadyAddresses")),
        selector=",".join(f"{key}={value}" for key, value in sorted(selector.items())),
    )


def _kind(service: Json) -> Kind:
    spec = service.get("spec") or {}
    written = spec.get("type") or "ClusterIP"
    if written == "ExternalName":
        return "ExternalName"
    if spec.get("clusterIP") == "None":
        return "headless"
    if PROXY_NAME_LABEL in (service["metadata"].get("labels") or {}):
        return "foreign"
    kinds: dict[str, Kind] = {"NodePort": "NodePort", "LoadBalancer": "LoadBalancer"}
    return kinds.get(written, "ClusterIP")


def _parse_port(item: Json) -> PortChoice:
    protocol, number = str(item.get("protocol") or "TCP"), int(item.get("port") or 0)
    return PortChoice(str(item.get("name") or ""), protocol, number, int(item.get("nodePort") or 0))


def _choose_port(key: str, kind: Kind, ports: Sequence[PortChoice], target: Target) -> PortChoice:
    fitting = [port for port in ports if target.protocol in ("", port.protocol)]
    written = ", ".join(describe_port(port) for port in ports) or "none"
    if not target.port:
        if len(fitting) == 1:
            return fitting[0]
        if kind == "ExternalName":
            raise QuestionError(f"say the port of what Service {key} stands for: TARGET:PORT")
        raise QuestionError(f"say which port of Service {key} is meant: TARGET:PORT; its ports are {written}")
    if not target.number:
        named = [port for port in fitting if port.name == target.port]
        if not named:
            raise QuestionError(f"Service {key} has no port of the name {target.port!r}; its ports are {written}")
        return named[0]
    numbered = sorted(
        (port for port in fitting if port.number == target.number), key=lambda port: port.protocol != "TCP"
    )
    return numbered[0] if numbered else PortChoice("", target.protocol or "TCP", target.number, is_known=False)


def list_endpoints(slices: Sequence[Json], port: PortChoice, family: Family) -> tuple[NamedEndpoint, ...]:
    """Of one port, as merge_slices has them."""
    merged = _merge(slices)
    return _add_names(slices, merged.get((family, port.name, PROTOCOLS.get(port.protocol, 0)), ()))


def _list_headless(
    slices: Sequence[Json], port: PortChoice, family: Family, target: Target
) -> tuple[NamedEndpoint, ...]:
    """No port is translated: those that listen on the port that is asked for, else those of the Service's port, else
    all. Slices without ports are of every port."""
    merged = _merge([_without_headless_label(item, port) for item in slices])
    protocol = PROTOCOLS.get(port.protocol, 0)
    everything = [item for key, items in merged.items() if (key[0], key[2]) == (family, protocol) for item in items]
    listening = [item for item in everything if item.port == target.number]
    chosen = listening or merged.get((family, port.name, protocol), ()) if port.is_known else listening or everything
    known = _add_names(slices, chosen)
    return tuple(item for item in known if target.host in ("", item.hostname))


def _merge(slices: Iterable[Json]) -> dict[PortKey, tuple[Endpoint, ...]]:
    parsed = [found for item in slices if (found := parse_slice(item)) is not None]
    return merge_slices({item.name: item for item in parsed})


def _without_headless_label(item: Json, port: PortChoice) -> Json:
    """parse_slice leaves out slices of headless Services, which no proxy has to do with."""
    metadata = item.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HEADLESS_LABEL}
    ports = item.get("ports") or [{"name": "", "protocol": port.protocol, "port": port.number}]
    return {**item, "metadata": {**metadata, "labels": labels}, "ports": ports}


def _add_names(slices: Iterable[Json], endpoints: Iterable[Endpoint]) -> tuple[NamedEndpoint, ...]:
    """What a proxy does not read of an endpoint."""
    more: dict[str, tuple[str, str, str]] = {}
    for item in slices:
        for entry in item.get("endpoints") or []:
            reference, addresses = entry.get("targetRef") or {}, entry.get("addresses") or []
            pod = f"{reference.get('namespace')}/{reference.get('name')}" if reference.get("kind") == "Pod" else ""
            address = parse_address(addresses[0]) if addresses else None
            if address is not None:
                more.setdefault(address[1], (pod, str(entry.get("zone") or ""), str(entry.get("hostname") or "")))
    return tuple(NamedEndpoint(endpoint, *more.get(endpoint.address, ("", "", ""))) for endpoint in endpoints)


def why_unused(item: NamedEndpoint, view: ServiceView, node: str, zone: str) -> str:
    """Why a pod on this Node and in this zone is not sent there."""
    endpoint = item.endpoint
    if endpoint.terminating:
        return "terminating"
    if not endpoint.ready:
        return "not ready"
    if view.internal_local and endpoint.node != node:
        return "on another Node: internalTrafficPolicy is Local"
    if endpoint.node_hints and node not in endpoint.node_hints:
        return f"for clients on Node {', '.join(sorted(endpoint.node_hints))} (hint)"
    if endpoint.zone_hints and zone not in endpoint.zone_hints:
        return f"for clients in zone {', '.join(sorted(endpoint.zone_hints))} (trafficDistribution)"
    return "not in the compiled table yet"


def why_used(item: NamedEndpoint) -> str:
    return "terminating, but no other one is ready" if item.endpoint.terminating else "ready"


def ready_endpoints(view: ServiceView) -> tuple[NamedEndpoint, ...]:
    """What DNS answers with for a headless Service."""
    return tuple(item for item in view.endpoints if item.endpoint.ready or view.publishes_unready)


def is_out_of_step(view: ServiceView, used: Collection[Destination]) -> bool:
    """Whether the compiled table has an endpoint that the API server does not show."""
    return bool(set(used) - {Destination(item.endpoint.address, item.endpoint.port) for item in view.endpoints})
