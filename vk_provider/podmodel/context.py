"""Facts about a pod's instance and Node that its containers can read."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache

from vk_provider.wire.session import NodeFacts


def _no_node() -> NodeFacts:
    return NodeFacts(name="", allocatable={}, clusterDNS=[], clusterDomain="cluster.local")


@dataclass(frozen=True)
class PodContext:
    """Facts that are not in the Pod object.

    pod_ips:  addresses of the sandbox, () while there is none (hostNetwork: the host addresses)
    host_ips: addresses of the instance, node family first
    node:     name, allocatable resources, cluster DNS of the Node
    """

    pod_ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    node: NodeFacts = field(default_factory=_no_node)


def sort_pod_ips(pod_ips: tuple[str, ...] | list[str], host_ips: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return at most one address a family, the family of the node's first address in front."""
    primary = _parse(host_ips[0])[0] if host_ips else 4
    parsed = [_parse(ip) for ip in pod_ips]
    chosen: list[str] = []
    for family in (primary, 10 - primary):
        first = next((text for version, text in parsed if version == family), None)
        if first is not None:
            chosen.append(first)
    return tuple(chosen)


def _parse(ip: str) -> tuple[int, str]:
    """Version and canonical text. Raises ValueError for no address."""
    if ":" in ip:
        return 6, _canonical_ipv6(ip)
    ipaddress.IPv4Address(ip)  # takes the canonical text alone
    return 4, ip


@lru_cache(maxsize=1024)
def _canonical_ipv6(ip: str) -> str:
    return str(ipaddress.IPv6Address(ip))
