"""One Service with its endpoints -> its elements of the nft maps (nftables/proxier.go syncProxyRules). Pure.

The maps and the chains that the verdicts name are in nft.py and chain.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from vk_provider.serviceproxy.affinity import number_endpoints, write_class
from vk_provider.serviceproxy.chain import LOCAL_OFFSET, name_chain
from vk_provider.serviceproxy.endpoint import Endpoint, PortKey
from vk_provider.serviceproxy.firewall import list_firewall
from vk_provider.serviceproxy.frontend import Frontend, cluster_ip_of, list_external
from vk_provider.serviceproxy.service import UDP, FamilyAddresses, Service, ServicePort
from vk_provider.serviceproxy.topology import Usable, choose_endpoints

MAX_ENDPOINTS = LOCAL_OFFSET
"""Of one list: more would run into the slots of the other."""
REJECT, DROP = "goto reject-chain", "drop"


class Element(NamedTuple):
    """An element of the set or map `container`; a set's has the value ""."""

    container: str
    key: str
    value: str = ""


class UdpFrontend(NamedTuple):
    """A frontend for UDP and the endpoints ("address . port") that a flow to it may have."""

    frontend: Frontend
    serving: frozenset[str]


class HealthCheck(NamedTuple):
    """A healthCheckNodePort: answers 200 while the Node has ready endpoints of the Service, 503 with none
    (healthcheck/service_health.go)."""

    service: str
    port: int
    local_endpoints: int


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """What one Service contributes to a table.

    lines:  the elements, each "container<TAB>key<TAB>value"; as objects they would take four times as much, in a
            cluster of ten thousand Services
    digest: of all of it, for the table's revision
    """

    lines: bytes
    udp: tuple[UdpFrontend, ...]
    health_check: HealthCheck | None
    uses_zone: bool
    digest: int

    @classmethod
    def of(
        cls,
        elements: Iterable[Element],
        udp: Iterable[UdpFrontend],
        health_check: HealthCheck | None = None,
        *,
        uses_zone: bool = False,
    ) -> Fragment:
        lines = "\n".join(map("\t".join, elements)).encode()
        kept = tuple(udp)
        return cls(lines, kept, health_check, uses_zone, _digest(lines, kept, health_check))

    @property
    def elements(self) -> tuple[Element, ...]:
        """Made at each call."""
        if not self.lines:
            return ()
        return tuple([Element(*line.split("\t")) for line in self.lines.decode().split("\n")])


class Surroundings(NamedTuple):
    """What the compilation of a Service depends on beside its own objects.

    node_name, node_addresses: of the Node object that all instances of this table share
    zone:      topology.kubernetes.io/zone of the instance
    denied:    frontends that belong to another Service
    identity:  the affinity number of each (port name, protocol); only for Services with affinity
    """

    node_name: str
    node_addresses: tuple[str, ...]
    zone: str
    denied: frozenset[Frontend]
    identity: Mapping[tuple[str, int], int]


def compile_service(
    service: Service, endpoints: Mapping[PortKey, Sequence[Endpoint]], around: Surroundings
) -> Fragment:
    """The elements of a Service. `endpoints`: as of merge_slices."""
    elements: dict[tuple[str, str], Element] = {}
    udp: list[UdpFrontend] = []
    for addresses in service.families:
        for port in service.ports:
            known = endpoints.get((addresses.family, port.name, port.protocol), ())
            for element in _Port(service, addresses, port, known, around).elements():
                elements.setdefault((element.container, element.key), element)
            if port.protocol == UDP:
                udp += _udp(addresses, port, known, around.denied)
    health_check = _health_check(service, endpoints, around.node_name)
    uses_zone = any(endpoint.zone_hints for known in endpoints.values() for endpoint in known)
    return Fragment.of(elements.values(), udp, health_check, uses_zone=uses_zone)


class _Port:
    """One port of a Service in one family."""

    def __init__(
        self,
        service: Service,
        addresses: FamilyAddresses,
        port: ServicePort,
        known: Sequence[Endpoint],
        around: Surroundings,
    ) -> None:
        self.service, self.addresses, self.port, self.around = service, addresses, port, around
        self.external = [item for item in list_external(addresses, port) if item not in around.denied]
        uses_cluster = bool(not service.internal_local or self.external)
        uses_local = bool(service.internal_local or (service.external_local and self.external))
        usable = choose_endpoints(known, around.node_name, around.zone, uses_cluster, uses_local)
        self.usable = Usable(usable.cluster[:MAX_ENDPOINTS], usable.local[:MAX_ENDPOINTS], usable.anywhere)

    def elements(self) -> Iterator[Element]:
        family, denied = self.addresses.family, self.around.denied
        whole = cluster_ip_of(self.addresses)
        if whole not in denied:
            yield Element(f"cluster-ips{family}", self.addresses.cluster_ip)
        internal = Frontend(family, self.addresses.cluster_ip, self.port.protocol, self.port.port)
        if internal not in denied:
            yield from self._internal(internal)
        for frontend in self.external:
            yield from self._external(frontend)
        for key, value in list_firewall(self.addresses, self.port, self.around.node_addresses, denied):
            yield Element(f"firewall-{'ips' if value else 'sources'}{family}", key, value)
        if self.service.affinity_s:
            yield from self._affinity()

    def _internal(self, frontend: Frontend) -> Iterator[Element]:
        local = self.service.internal_local
        chosen = self.usable.local if local else self.usable.cluster
        if chosen:
            yield self._dispatch("service", frontend, self._chain("local" if local else "cluster", frontend, chosen))
            yield from self._list(frontend, chosen, local)
        else:
            yield self._unanswered(frontend)

    def _external(self, frontend: Frontend) -> Iterator[Element]:
        """Under the policy Local pods of the Node and the node itself use all endpoints, what comes from outside the
        Node's own (the chain external-local)."""
        if not self.usable.anywhere:
            yield self._unanswered(frontend)
            return
        cluster = self.usable.cluster
        yield from self._list(frontend, cluster, local=False)
        if not self.service.external_local:
            yield self._dispatch("service", frontend, self._chain("external", frontend, cluster))
            return
        shared = f"{frontend.prefix}external-local{frontend.family}"
        yield self._dispatch("service", frontend, shared)
        yield self._dispatch("cluster-policy", frontend, self._chain("cluster", frontend, cluster))
        if self.usable.local:
            yield self._dispatch("local-policy", frontend, self._chain("local", frontend, self.usable.local))
            yield from self._list(frontend, self.usable.local, local=True)
        else:
            yield self._unanswered(frontend)

    def _chain(self, kind: str, frontend: Frontend, chosen: Sequence[Endpoint]) -> str:
        return name_chain(frontend.prefix, kind, frontend.family, len(chosen), self.service.affinity_s)

    def _dispatch(self, purpose: str, frontend: Frontend, chain: str) -> Element:
        names = {"service": "service-nodeports"} if not frontend.address else {"service": "service-ips"}
        container = names.get(purpose, f"{frontend.prefix}{purpose}")
        return Element(f"{container}{frontend.family}", frontend.key, f"goto {chain}")

    def _unanswered(self, frontend: Frontend) -> Element:
        container = "no-endpoint-services" if frontend.address else "no-endpoint-nodeports"
        return Element(f"{container}{frontend.family}", frontend.key, DROP if self.usable.anywhere else REJECT)

    def _list(self, frontend: Frontend, chosen: Sequence[Endpoint], local: bool) -> Iterator[Element]:
        """The endpoints of a frontend by slot; with affinity, how its endpoints are found."""
        if self.service.affinity_s:
            mark = f"{self._identity:#x}"
            yield Element(f"{frontend.prefix}affinity{frontend.family}", frontend.key, mark)
            return
        container, offset = f"{frontend.prefix}endpoints{frontend.family}", LOCAL_OFFSET if local else 0
        for slot, endpoint in enumerate(chosen, offset):
            yield Element(container, f"{write_class(slot)} . {frontend.key}", endpoint.target)

    @property
    def _identity(self) -> int:
        return self.around.identity[self.port.name, self.port.protocol]

    def _affinity(self) -> Iterator[Element]:
        """The endpoints of the port itself: a client stays with one whichever frontend it uses."""
        family, mark = self.addresses.family, f"{self._identity:#x}"
        numbers = number_endpoints([*self.usable.cluster, *self.usable.local])
        for kind, chosen, offset in (
            ("affinity-endpoints", self.usable.cluster, 0),
            ("affinity-local-endpoints", self.usable.local, LOCAL_OFFSET),
        ):
            for slot, endpoint in enumerate(chosen, offset):
                number = write_class(numbers[endpoint.target])
                yield Element(f"affinity-picks{family}", f"{write_class(slot)} . {mark}", number)
                yield Element(f"{kind}{family}", f"{mark} . {number}", endpoint.target)


def _udp(
    addresses: FamilyAddresses, port: ServicePort, known: Iterable[Endpoint], denied: frozenset[Frontend]
) -> Iterator[UdpFrontend]:
    """Any serving endpoint is right for a flow, whatever the policies say: they are for new connections."""
    serving = frozenset(endpoint.target for endpoint in known if endpoint.serving)
    internal = Frontend(addresses.family, addresses.cluster_ip, port.protocol, port.port)
    for frontend in (internal, *list_external(addresses, port)):
        if frontend not in denied:
            yield UdpFrontend(frontend, serving)


def _health_check(
    service: Service, endpoints: Mapping[PortKey, Sequence[Endpoint]], node_name: str
) -> HealthCheck | None:
    """Endpoints count by address, not by port (LocalReadyEndpoints)."""
    if not service.health_check_node_port:
        return None
    local = {
        endpoint.address
        for known in endpoints.values()
        for endpoint in known
        if endpoint.ready and node_name and endpoint.node == node_name
    }
    return HealthCheck(service.key, service.health_check_node_port, len(local))


def _digest(lines: bytes, udp: Iterable[UdpFrontend], health_check: HealthCheck | None) -> int:
    """Of what a fragment contributes to a table."""
    more = [f"{item.frontend.prefix}{item.frontend.key}\t{' '.join(sorted(item.serving))}" for item in udp]
    more.append(f"{health_check}")
    text = "\n".join(more).encode()
    return _digest_bytes(b"%b\n%b" % (lines, text) if lines else text)


def digest_text(text: str) -> int:
    """128 bits; a table's revision is the sum of its parts'."""
    return _digest_bytes(text.encode())


def _digest_bytes(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=16).digest())
