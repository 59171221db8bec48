"""loadBalancerSourceRanges: who may use a load balancer's address. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.service import FamilyAddresses, ServicePort


def list_firewall(
    addresses: FamilyAddresses, port: ServicePort, node_addresses: tuple[str, ...], denied: frozenset[Frontend]
) -> Iterator[tuple[str, str]]:
    """(key, verdict) for a guarded address, (key . network, "") for a source that it admits.

    A load balancer that leaves its address on the node makes the node itself come from there: if the ranges admit the
    Node, its load balancers' addresses are admitted, too (proxier.go, allowFromNode).
    """
    if not addresses.source_ranges:
        return
    sources = [*addresses.source_ranges]
    if any(_admits(addresses, address) for address in node_addresses):
        sources += [address for address in addresses.load_balancer_ips if not _admits(addresses, address)]
    for address in addresses.load_balancer_ips:
        frontend = Frontend(addresses.family, address, port.protocol, port.port)
        if frontend in denied:
            continue
        yield frontend.key, f"goto firewall{addresses.family}"
        for source in sources:
            yield f"{frontend.key} . {source}", ""


def _admits(addresses: FamilyAddresses, address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in addresses.admitted)
