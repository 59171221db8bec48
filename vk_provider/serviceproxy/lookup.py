"""What a compiled table does with one new connection of a pod: the rules of the frame and the counted chains, in order.
Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Literal, NamedTuple

from vk_provider.serviceproxy.address import Family, family_of
from vk_provider.serviceproxy.affinity import write_class
from vk_provider.serviceproxy.chain import LOCAL_OFFSET, parse_chain
from vk_provider.serviceproxy.fragment import REJECT, Fragment
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.table import Table

Outcome = Literal["chosen", "direct", "refused", "dropped"]
Cause = Literal["", "no-endpoints", "endpoints-elsewhere", "source-ranges", "no-such-port", "no-such-service"]


class Destination(NamedTuple):
    address: str
    port: int


class Route(NamedTuple):
    """outcome: "chosen" is one of `endpoints`, "direct" the address itself
    owner:   key of the fragment that decides: a Service's namespace/name, "host ports of <UID>"; "" for nobody's
    cause:   of "refused" and "dropped"; "no-such-port" is about an address of `owner`
    is_masqueraded: the endpoint sees the address of the instance, not the pod's
    affinity_s:     for so many seconds after its first connection a client stays with its endpoint
    """

    outcome: Outcome
    owner: str = ""
    cause: Cause = ""
    endpoints: tuple[Destination, ...] = ()
    is_masqueraded: bool = False
    affinity_s: int = 0


class _Found(NamedTuple):
    """An element, and the fragment that it is of."""

    owner: str
    fragment: Fragment
    value: str


_ENTRANCES = frozenset(
    f"{name}{family}"
    for name in (
        "firewall-ips",
        "service-ips",
        "service-nodeports",
        "no-endpoint-services",
        "no-endpoint-nodeports",
        "cluster-ips",
    )
    for family in Family
)


class TableView:
    """A table as the pod of one instance meets it.

    sources: the pod's addresses
    nodeport_addresses: where its instance answers node ports
    """

    def __init__(self, table: Table, sources: Collection[str], nodeport_addresses: Collection[str]) -> None:
        """Reads the whole table: milliseconds for each thousand Services."""
        self._nodeport_addresses = nodeport_addresses
        self._sources = [ipaddress.ip_address(source) for source in sources]
        self._service_cidrs = [ipaddress.ip_network(network) for network in table.service_cidrs]
        self._elements: dict[tuple[str, str], _Found] = {
            (element.container, element.key): _Found(owner, fragment, element.value)
            for owner, fragment in table.fragments.items()
            for element in fragment.elements
            if element.container in _ENTRANCES
        }

    def route(self, frontend: Frontend) -> Route:
        firewall = self._at("firewall-ips", frontend)
        if firewall is not None and not self._is_admitted(frontend, firewall.fragment):
            return Route("dropped", firewall.owner, "source-ranges")
        found = self._at("service-ips", frontend)
        if found is not None:
            return self._choose(frontend, found)
        node_port = self._node_port(frontend)
        found = self._at("service-nodeports", node_port)
        if found is not None and node_port is not None:
            return self._choose(node_port, found)
        return self._refusal(frontend) or Route("direct")

    def owner_of(self, cluster_ip: str) -> str:
        """Key of the Service that has the ClusterIP; "" for none."""
        found = self._elements.get((f"cluster-ips{family_of(cluster_ip)}", cluster_ip))
        return found.owner if found is not None else ""

    def _at(self, container: str, frontend: Frontend | None) -> _Found | None:
        return self._elements.get((f"{container}{frontend.family}", frontend.key)) if frontend is not None else None

    def _node_port(self, frontend: Frontend) -> Frontend | None:
        return frontend._replace(address="") if frontend.address in self._nodeport_addresses else None

    def _is_admitted(self, frontend: Frontend, fragment: Fragment) -> bool:
        before = f"{frontend.key} . "
        ranges = [
            ipaddress.ip_network(element.key.removeprefix(before))
            for element in fragment.elements
            if element.container == f"firewall-sources{frontend.family}" and element.key.startswith(before)
        ]
        return any(source in admitted for source in self._sources for admitted in ranges)

    def _choose(self, frontend: Frontend, found: _Found) -> Route:
        """At the chain of a frontend; a node port's has no address."""
        elements = {(element.container, element.key): element.value for element in found.fragment.elements}
        chain = parse_chain(found.value.removeprefix("goto "))
        if chain is None:  # external-local: the Node's own pods use all endpoints
            policy = elements[f"{frontend.prefix}cluster-policy{frontend.family}", frontend.key]
            chain = parse_chain(policy.removeprefix("goto "))
            assert chain is not None
        first = LOCAL_OFFSET if chain.kind == "local" else 0
        picked: list[str] = []
        for slot in map(write_class, range(first, first + chain.size)):
            if not chain.affinity_s:
                picked.append(elements[f"{frontend.prefix}endpoints{frontend.family}", f"{slot} . {frontend.key}"])
                continue
            mark = elements[f"{frontend.prefix}affinity{frontend.family}", frontend.key]
            number = elements[f"affinity-picks{frontend.family}", f"{slot} . {mark}"]
            kind = "affinity-local-endpoints" if chain.kind == "local" else "affinity-endpoints"
            picked.append(elements[f"{kind}{frontend.family}", f"{mark} . {number}"])
        endpoints = [_parse_destination(written) for written in picked]
        # The filters see where a connection goes in the end. An endpoint may be a Service's address, which nobody
        # translates again.
        refusals = [self._refusal(frontend._replace(address=each.address, port=each.port)) for each in endpoints]
        passed = [each for each, refusal in zip(endpoints, refusals, strict=True) if refusal is None]
        if not passed and refusals[0] is not None:
            return refusals[0]
        return Route("chosen", found.owner, "", tuple(passed), chain.kind == "external", chain.affinity_s)

    def _refusal(self, frontend: Frontend) -> Route | None:
        """What the filters say of an address that is not translated, or not any more."""
        found = self._at("no-endpoint-services", frontend) or self._at(
            "no-endpoint-nodeports", self._node_port(frontend)
        )
        if found is not None:
            if found.value == REJECT:
                return Route("refused", found.owner, "no-endpoints")
            return Route("dropped", found.owner, "endpoints-elsewhere")
        found = self._elements.get((f"cluster-ips{frontend.family}", frontend.address))
        if found is not None:
            return Route("refused", found.owner, "no-such-port")
        address = ipaddress.ip_address(frontend.address)
        if any(address in network for network in self._service_cidrs):
            return Route("dropped", "", "no-such-service")
        return None


def _parse_destination(written: str) -> Destination:
    address, _, port = written.rpartition(" . ")
    return Destination(address, int(port))
