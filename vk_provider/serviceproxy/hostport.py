"""Host ports of the Node's pods, as if all of them were on one machine: elements beside those of Services. Pure.

As CNI's portmap does it, the source of a connection is kept unless it is a loopback address; a Service that names the
same address and port goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.affinity import write_class
from vk_provider.serviceproxy.chain import name_chain
from vk_provider.serviceproxy.claims import Rank
from vk_provider.serviceproxy.fragment import Element, Fragment, UdpFrontend
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.instance import is_loopback, means_loopback, owner_key
from vk_provider.serviceproxy.service import PROTOCOLS, UDP


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


class HostTarget(NamedTuple):
    """Where a host port leads. Canonical address."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address} . {self.port}"


def list_host_claims(
    pod: str, ports: Iterable[HostPort], node_addresses: Collection[str], is_here: bool
) -> dict[Frontend, tuple[Rank, HostTarget]]:
    """The frontends of one pod with their rank (frontend.list_claims: behind every Service) and target.

    node_addresses: of the pod's Node
    is_here:        the table is for that Node's instances: they have the port at a loopback address, too
    """
    found: dict[Frontend, tuple[Rank, HostTarget]] = {}
    for port in ports:
        target, protocol = parse_address(port.pod_ip), PROTOCOLS.get(port.protocol)
        if target is None or protocol is None:
            continue
        for family, address in _addresses(port.host_ip, target[0], node_addresses, is_here):
            if family == target[0]:
                frontend = Frontend(family, address, protocol, port.port)
                found[frontend] = ((2, "", pod), HostTarget(target[1], port.container_port))
    return found


def _addresses(
    host_ip: str, family: Family, node_addresses: Collection[str], is_here: bool
) -> Iterator[tuple[Family, str]]:
    """Those of the Node that a hostIP means; one that is not the Node's is reached by nobody else."""
    wanted = parse_address(host_ip) if host_ip else None
    for written in node_addresses:
        parsed = parse_address(written)
        if parsed is not None and (not host_ip or wanted == parsed):
            yield parsed
    if is_here and (wanted is not None or not host_ip):
        loopback = means_loopback(wanted[1] if wanted else "", family)
        if loopback:
            yield family, loopback


def compile_host_ports(claims: dict[Frontend, tuple[Rank, HostTarget]], denied: Collection[Frontend]) -> Fragment:
    """The elements for the frontends that nobody else has."""
    elements: list[Element] = []
    udp: list[UdpFrontend] = []
    for frontend, (_, target) in claims.items():
        if frontend in denied:
            continue
        family, at_loopback = frontend.family, is_loopback(frontend.address)
        chain = name_chain("", "external" if at_loopback else "cluster", family, 1, 0)
        container = f"{'loopback' if at_loopback else 'service'}-ips{family}"
        elements.append(Element(container, frontend.key, f"goto {chain}"))
        elements.append(Element(f"endpoints{family}", f"{write_class(0)} . {frontend.key}", str(target)))
        if at_loopback:
            owner = owner_key(target.address, frontend.protocol, frontend.port)
            elements.append(Element(f"loopback-own{family}", owner))
        if frontend.protocol == UDP:
            udp.append(UdpFrontend(frontend, frozenset({str(target)})))
    return Fragment.of(dict.fromkeys(elements), udp)
