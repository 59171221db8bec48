"""What a Service asks of the proxy (serviceport.go, servicechangetracker.go). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import msgspec

from vk_provider.jsontypes import Json, share_text
from vk_provider.serviceproxy.address import Family, Network, parse_address, parse_network

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
"""IP protocol numbers: nft resolves names through /etc/protocols, which a small image does not have."""
UDP = PROTOCOLS["UDP"]
DEFAULT_AFFINITY_S = 10800
MAX_AFFINITY_S = 86400
"""Default and limit of sessionAffinityConfig.clientIP.timeoutSeconds in the API."""
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
"""Somebody else proxies Services with this label, whatever its value."""


class ServicePort(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One port; `protocol` is an IP protocol number, `node_port` 0 when it has none."""

    name: str
    protocol: int
    port: int
    node_port: int


class FamilyAddresses(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The addresses of a Service in one IP family, as canonical text without duplicates.

    source_ranges: networks that may use the load balancer's addresses, canonical text, empty for all.
    """

    family: Family
    cluster_ip: str
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]

    @property
    def admitted(self) -> list[Network]:
        """source_ranges, parsed."""
        return [network for text in self.source_ranges if (network := parse_network(text))]


class Service(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A Service that is proxied. affinity_s: seconds that a client stays with an endpoint, 0 without affinity."""

    namespace: str
    name: str
    created: str
    ports: tuple[ServicePort, ...]
    families: tuple[FamilyAddresses, ...]
    affinity_s: int
    internal_local: bool
    external_local: bool
    health_check_node_port: int

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Service)


def pack_service(service: Service) -> bytes:
    """In a sixth of the memory, for as long as nobody looks at it; equal for equal Services."""
    return bytes(memoryview(_ENCODER.encode(service)))  # what the encoder returns may have room for much more


def unpack_service(packed: bytes) -> Service:
    return _DECODER.decode(packed)


def parse_service(service: Json) -> Service | None:
    """The Service as the proxy sees it. None: it is headless, an ExternalName, or another proxy's. What cannot be read
    (the API server would not have accepted it) is left out."""
    metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
    if PROXY_NAME_LABEL in (metadata.get("labels") or {}):
        return None
    if spec.get("clusterIP") in ("None", "", None) or spec.get("type") == "ExternalName":
        return None
    families = tuple([found for family in _FAMILIES if (found := _family(service, family))])
    ports = _ports(spec.get("ports") or [])
    if not families or not ports:
        return None
    external_local = _is_external_local(spec)
    needs_check = external_local and spec.get("type") == "LoadBalancer"
    return Service(
        namespace=share_text(str(metadata.get("namespace") or "")),
        name=str(metadata.get("name") or ""),
        created=str(metadata.get("creationTimestamp") or ""),
        ports=ports,
        families=families,
        affinity_s=_affinity_s(spec),
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=external_local,
        health_check_node_port=_port(spec.get("healthCheckNodePort")) if needs_check else 0,
    )


_FAMILIES = {family: family.api_name for family in Family}


def _ports(written: Iterable[Json]) -> tuple[ServicePort, ...]:
    """By (name, protocol) as kube-proxy keeps them, the last one wins; a (protocol, port) is served once."""
    found: dict[tuple[str, int], ServicePort] = {}
    for item in written:
        protocol, port = PROTOCOLS.get(item.get("protocol") or "TCP"), _port(item.get("port"))
        if protocol and port:
            name = share_text(str(item.get("name") or ""))
            found[name, protocol] = ServicePort(name, protocol, port, _port(item.get("nodePort")))
    return tuple({(port.protocol, port.port): port for port in reversed(found.values())}.values())


def _port(written: Any) -> int:
    return written if type(written) is int and 0 < written < 65536 else 0  # True is no port


def _affinity_s(spec: Json) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    written = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return min(written, MAX_AFFINITY_S) if type(written) is int and written > 0 else DEFAULT_AFFINITY_S


def _is_external_local(spec: Json) -> bool:
    kind = spec.get("type") or "ClusterIP"
    external = kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
    return external and spec.get("externalTrafficPolicy") == "Local"


def _family(service: Json, family: Family) -> FamilyAddresses | None:
    """None when the Service has no ClusterIP of this family."""
    spec = service["spec"]
    parsed = parse_address(_cluster_ip(spec, family))
    if parsed is None or parsed[0] != family:
        return None
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    vips = [item.get("ip") for item in ingress if (item.get("ipMode") or "VIP") == "VIP"]
    return FamilyAddresses(
        family=family,
        cluster_ip=parsed[1],
        external_ips=_of_family(spec.get("externalIPs") or [], family),
        load_balancer_ips=_of_family(vips, family),
        source_ranges=_source_ranges(spec.get("loadBalancerSourceRanges") or [], family),
    )


def _cluster_ip(spec: Json, family: Family) -> object:
    """GetClusterIPByFamily; without ipFamilies (an old API server) clusterIP decides."""
    names = spec.get("ipFamilies")
    if not names:
        return spec.get("clusterIP")
    wanted = _FAMILIES[family]
    for name, address in zip(names, spec.get("clusterIPs") or (), strict=False):
        if name == wanted:
            return address
    return None


def _of_family(written: Iterable[Any], family: Family) -> tuple[str, ...]:
    if not written:
        return ()
    parsed = (parse_address(item) for item in written if isinstance(item, str))
    return tuple(dict.fromkeys(address[1] for address in parsed if address and address[0] == family))


def _source_ranges(written: Iterable[Any], family: Family) -> tuple[str, ...]:
    """Merged, since nft takes no overlapping ranges; one of length 0 allows everybody."""
    if not written:
        return ()
    networks = [network for item in written if isinstance(item, str) and (network := parse_network(item))]
    merged: list[Network] = []
    if family is Family.IPV4:
        merged += ipaddress.collapse_addresses([n for n in networks if isinstance(n, ipaddress.IPv4Network)])
    else:
        merged += ipaddress.collapse_addresses([n for n in networks if isinstance(n, ipaddress.IPv6Network)])
    return () if any(network.prefixlen == 0 for network in merged) else tuple(map(str, merged))
