"""Where a Service is reached, and which Service gets an address that two of them name. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.service import FamilyAddresses, Service, ServicePort


class Frontend(NamedTuple):
    """Address, IP protocol number and port. A node port has the address "": it is the same at every address that
    answers node ports. The pair (protocol 0, port 0) stands for a ClusterIP as a whole."""

    family: Family
    address: str
    protocol: int
    port: int

    @property
    def key(self) -> str:
        """As an element's key in nft; a node port's has no address."""
        place = f"{self.protocol} . {self.port}"
        return f"{self.address} . {place}" if self.address else place

    @property
    def prefix(self) -> str:
        """Of the maps and chains for it."""
        return "" if self.address else "nodeport-"


def list_external(addresses: FamilyAddresses, port: ServicePort) -> Iterator[Frontend]:
    """The frontends of a port for traffic from outside the cluster, each once."""
    for address in dict.fromkeys((*addresses.external_ips, *addresses.load_balancer_ips)):
        if address != addresses.cluster_ip:
            yield Frontend(addresses.family, address, port.protocol, port.port)
    if port.node_port:
        yield Frontend(addresses.family, "", port.protocol, port.node_port)


def cluster_ip_of(addresses: FamilyAddresses) -> Frontend:
    return Frontend(addresses.family, addresses.cluster_ip, 0, 0)


def list_claims(service: Service) -> dict[Frontend, tuple[int, str, str]]:
    """Every frontend that the Service names, with its rank: of two claims to one the smaller rank gets it.

    The API server makes ClusterIPs and node ports unique, but nobody checks the external and load balancer addresses
    (CVE-2020-8554): such a claim never takes another Service's ClusterIP, and the older Service goes before a newer
    one. kube-proxy leaves it to chance.
    """
    first, second = (0, service.created, service.key), (1, service.created, service.key)
    claims: dict[Frontend, tuple[int, str, str]] = {}
    for addresses in service.families:
        claims[cluster_ip_of(addresses)] = first
        for port in service.ports:
            claims[Frontend(addresses.family, addresses.cluster_ip, port.protocol, port.port)] = first
            for frontend in list_external(addresses, port):
                claims.setdefault(frontend, second)
    return claims
