"""Host ports of the Node's pods, as if all of them were on one machine: elements beside those of Services. Pure.

As CNI's portmap does it, the source of a connection is kept; a Service that names the same address and port goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.affinity import write_class
from vk_provider.serviceproxy.chain import name_chain
from vk_provider.serviceproxy.fragment import Element, Fragment, UdpFrontend, digest_elements
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.service import PROTOCOLS, UDP

Rank = tuple[int, str, str]


class HostPort(NamedTuple):
    """A port of a pod at the Node's addresses.

    host_ip:  as written in the pod, "" for all addresses of the Node
    protocol: TCP, UDP or SCTP
    pod_ip, container_port: where it leads
    """

    host_ip: str
    protocol: str
    port: int
    pod_ip: str
    container_port: int


def list_host_claims(
    pod: str, ports: Iterable[HostPort], node_addresses: Collection[str]
) -> dict[Frontend, tuple[Rank, str]]:
    """The frontends of one pod with their rank (frontend.list_claims: behind every Service) and target."""
    found: dict[Frontend, tuple[Rank, str]] = {}
    for port in ports:
        target, protocol = parse_address(port.pod_ip), PROTOCOLS.get(port.protocol)
        if target is None or protocol is None:
            continue
        for family, address in _addresses(port.host_ip, node_addresses):
            if family == target[0]:
                frontend = Frontend(family, address, protocol, port.port)
                found[frontend] = ((2, "", pod), f"{target[1]} . {port.container_port}")
    return found


def _addresses(host_ip: str, node_addresses: Collection[str]) -> Iterator[tuple[Family, str]]:
    """Those of the Node that a hostIP means; one that is not the Node's is reached by nobody else."""
    for written in node_addresses:
        parsed = parse_address(written)
        if parsed is not None and (not host_ip or parse_address(host_ip) == parsed):
            yield parsed


def compile_host_ports(claims: dict[Frontend, tuple[Rank, str]], denied: Collection[Frontend]) -> Fragment:
    """The elements for the frontends that nobody else has."""
    elements: list[Element] = []
    udp: list[UdpFrontend] = []
    for frontend, (_, target) in claims.items():
        if frontend in denied:
            continue
        chain = name_chain("", "cluster", frontend.family, 1, 0)
        elements.append(Element(f"service-ips{frontend.family}", frontend.key, f"goto {chain}"))
        elements.append(Element(f"endpoints{frontend.family}", f"{write_class(0)} . {frontend.key}", target))
        if frontend.protocol == UDP:
            udp.append(UdpFrontend(frontend, frozenset({target})))
    return Fragment(tuple(elements), tuple(udp), None, False, digest_elements(elements, udp, None))
