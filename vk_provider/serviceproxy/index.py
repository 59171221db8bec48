"""The Services and EndpointSlices of a cluster, and the tables made of them. Pure: objects in, tables out."""

from __future__ import annotations

import ipaddress
import sys
from collections import Counter
from collections.abc import Iterable

from vk_provider.jsontypes import Json, share_text
from vk_provider.serviceproxy.address import parse_address, parse_network
from vk_provider.serviceproxy.affinity import AffinityNumbers
from vk_provider.serviceproxy.endpoint import EndpointSlice, merge_slices, parse_slice
from vk_provider.serviceproxy.fragment import Fragment, Surroundings, compile_service, digest_text
from vk_provider.serviceproxy.frame import write_frame
from vk_provider.serviceproxy.frontend import Frontend, list_claims
from vk_provider.serviceproxy.hostport import HostPort, HostTarget, Rank, compile_host_ports, list_host_claims
from vk_provider.serviceproxy.service import PROTOCOLS, Service, ServicePort, parse_service
from vk_provider.serviceproxy.table import Table, chains_of

_FORM = digest_text("\n".join(write_frame(sees_replies=False, is_instance=True)))
"""Part of each revision: a table that another version has made is not taken for one of this version's."""
_HOST_PORTS = "host ports of "
"""Begins the keys of pods beside those of Services, which are namespace/name."""
_RESERVED, _RESERVED_RANK = "reserved", (-1, "", "")
"""Key and rank of what is the provider's own."""


class ServiceIndex:
    """Takes Services and EndpointSlices in any order; `table` compiles what has changed since it was last asked.

    One index serves all instances of a Node. Only hints by zone make a difference between them: a Service without
    such hints has one compiled fragment for all zones.

    node_name:      endpoints of this Node are the local ones
    node_addresses: of the Node object, for load balancers that leave their address on the node
    """

    def __init__(self, node_name: str, node_addresses: Iterable[str] = ()) -> None:
        self._node_name = node_name
        parsed = (parse_address(address) for address in node_addresses)
        self._node_addresses = tuple(address[1] for address in parsed if address)
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        self._slice_owner: dict[str, str] = {}
        self._host_ports: dict[str, dict[Frontend, tuple[Rank, HostTarget]]] = {}
        self._claims = _Claims()
        self._numbers = AffinityNumbers()
        self._cidrs: tuple[str, ...] = ()
        self._zones: dict[str, _ZoneTable] = {}
        self._shared: dict[str, Fragment] = {}
        self._reserved: set[Frontend] = set()

    def reserve(self, addresses: Iterable[str], port: int) -> None:
        """A TCP port at a Node's addresses that answers for all its pods: no pod and no Service takes it over."""
        parsed = (parse_address(address) for address in addresses)
        self._reserved |= {Frontend(*address, PROTOCOLS["TCP"], port) for address in parsed if address}
        for affected in self._claims.replace(_RESERVED, dict.fromkeys(self._reserved, _RESERVED_RANK)):
            self._mark(affected)

    def apply_service(self, item: Json) -> None:
        """A Service that was added or changed."""
        metadata = item.get("metadata") or {}
        key = share_text(f"{metadata.get('namespace')}/{metadata.get('name')}")  # slices have it, too
        self._set_service(key, parse_service(item))

    def remove_service(self, namespace: str, name: str) -> None:
        self._set_service(f"{namespace}/{name}", None)

    def apply_slice(self, item: Json) -> None:
        """An EndpointSlice that was added or changed; it may have gone over to another Service."""
        metadata = item.get("metadata") or {}
        self._set_slice(f"{metadata.get('namespace')}/{metadata.get('name')}", parse_slice(item))

    def remove_slice(self, namespace: str, name: str) -> None:
        self._set_slice(f"{namespace}/{name}", None)

    def set_host_ports(
        self, pod: str, ports: Iterable[HostPort], node_addresses: Iterable[str], *, node: str = ""
    ) -> None:
        """The host ports of a pod (by UID), none when it is gone. node, node_addresses: its Node, by default this."""
        key = f"{_HOST_PORTS}{pod}"
        claims = list_host_claims(pod, ports, tuple(node_addresses), (node or self._node_name) == self._node_name)
        if claims == self._host_ports.get(key, {}):
            return
        if claims:
            self._host_ports[key] = claims
        else:
            del self._host_ports[key]
        for affected in self._claims.replace(key, {frontend: rank for frontend, (rank, _) in claims.items()}):
            self._mark(affected)
        self._mark(key)

    def set_service_cidrs(self, networks: Iterable[str]) -> None:
        """The networks of all ServiceCIDR objects: an address in them that no Service has gets no answer."""
        parsed = (parse_network(network) for network in networks)
        self._cidrs = tuple(sorted({str(network) for network in parsed if network}))

    def table(self, zone: str = "") -> Table:
        """The table for instances in `zone` ("" when it is not known)."""
        self.compile_some(zone, sys.maxsize)
        return self._zones[zone].freeze(self._cidrs)

    def compile_some(self, zone: str, limit: int) -> bool:
        """Compile at most `limit` of the Services that have changed for `zone`; True when none is left, so that `table`
        costs little: compiling a whole cluster at once would take a second."""
        state = self._zones.get(zone)
        if state is None:
            state = self._zones[zone] = _ZoneTable({*self._services, *self._host_ports})
        while state.dirty and limit > 0:
            key = state.dirty.pop()
            state.replace(key, self._fragment(key, zone))
            limit -= 1
        return not state.dirty

    def _set_service(self, key: str, service: Service | None) -> None:
        before = self._services.pop(key, None)
        if before == service:
            if service is not None:
                self._services[key] = service
            return
        if service is not None:
            self._services[key] = service
        for name in _affinity_names(before) - _affinity_names(service):
            self._numbers.release(name)
        for affected in self._claims.replace(key, list_claims(service) if service else {}):
            self._mark(affected)
        self._mark(key)

    def _set_slice(self, slice_key: str, parsed: EndpointSlice | None) -> None:
        owner = self._slice_owner.pop(slice_key, None)
        if parsed is not None and owner == parsed.service and self._slices[owner].get(slice_key) == parsed:
            self._slice_owner[slice_key] = owner
            return
        if owner is not None:
            slices = self._slices[owner]
            del slices[slice_key]
            if not slices:
                del self._slices[owner]
            self._mark(owner)
        if parsed is not None:
            self._slice_owner[slice_key] = parsed.service
            self._slices.setdefault(parsed.service, {})[slice_key] = parsed
            self._mark(parsed.service)

    def _mark(self, key: str) -> None:
        self._shared.pop(key, None)
        for state in self._zones.values():
            state.dirty.add(key)

    def _fragment(self, key: str, zone: str) -> Fragment | None:
        host_ports = self._host_ports.get(key)
        if host_ports is not None:
            return compile_host_ports(host_ports, self._claims.denied(key))
        service = self._services.get(key)
        if service is None:
            return None
        shared = self._shared.get(key)
        if shared is not None:
            return shared
        endpoints = merge_slices(self._slices.get(key, {}))
        around = Surroundings(
            node_name=self._node_name,
            node_addresses=self._node_addresses,
            zone=zone,
            denied=self._claims.denied(key),
            identity=self._identity(service),
        )
        fragment = compile_service(service, endpoints, around)
        if not fragment.uses_zone:
            self._shared[key] = fragment
        return fragment

    def _identity(self, service: Service) -> dict[tuple[str, int], int]:
        if not service.affinity_s:
            return {}
        return {(port.name, port.protocol): self._numbers.claim(_port_name(service, port)) for port in service.ports}


def _port_name(service: Service, port: ServicePort) -> str:
    return f"{service.key}/{port.name}/{port.protocol}"


def _affinity_names(service: Service | None) -> set[str]:
    return {_port_name(service, port) for port in service.ports} if service and service.affinity_s else set()


class _ZoneTable:
    """The fragments for one zone, with the sums that a table's revision and chains are made of."""

    def __init__(self, dirty: set[str]) -> None:
        self.dirty = dirty
        self._fragments: dict[str, Fragment] = {}
        self._chains: Counter[str] = Counter()
        self._digest = 0
        self._changed: set[str] = set()
        self._last: Table | None = None

    def replace(self, key: str, fragment: Fragment | None) -> None:
        before = self._fragments.get(key)
        if before is not None and fragment is not None and before.digest == fragment.digest:
            return  # the same object stays, so that a comparison of tables passes over it
        self._changed.add(key)
        if before is not None:
            del self._fragments[key]
            self._digest -= before.digest
            self._chains.subtract(chains_of(before))
        if fragment is not None:
            self._fragments[key] = fragment
            self._digest += fragment.digest
            self._chains.update(chains_of(fragment))

    def freeze(self, cidrs: tuple[str, ...]) -> Table:
        self._chains = +self._chains
        digest = _FORM + self._digest + (digest_text(" ".join(cidrs)) if cidrs else 0)
        revision = str(ipaddress.IPv6Address(digest % (1 << 128)))
        if self._last is not None and self._last.revision == revision:
            return self._last
        base = self._last.revision if self._last else ""
        changed, self._changed = frozenset(self._changed), set()
        self._last = Table(revision, dict(self._fragments), frozenset(self._chains), cidrs, base, changed)
        return self._last


class _Claims:
    """Which Services name which frontends. Nearly all frontends have one claim; only the others cost anything."""

    def __init__(self) -> None:
        self._ranks: dict[str, dict[Frontend, tuple[int, str, str]]] = {}
        self._owner: dict[Frontend, str] = {}
        self._contested: dict[Frontend, set[str]] = {}

    def replace(self, key: str, claims: dict[Frontend, tuple[int, str, str]]) -> set[str]:
        """Other Services that win or lose a frontend by the new claims of `key`."""
        before = self._ranks.pop(key, {})
        if claims:
            self._ranks[key] = claims
        affected: set[str] = set()
        for frontend in before.keys() - claims.keys():
            affected |= self._contested.get(frontend, set())
            self._drop(key, frontend)
        for frontend in claims:
            owner = self._owner.setdefault(frontend, key)
            if owner != key or frontend in self._contested:
                contenders = self._contested.setdefault(frontend, {owner})
                contenders.add(key)
                affected |= contenders
                self._owner[frontend] = self._best(frontend, contenders)
        return affected - {key}

    def denied(self, key: str) -> frozenset[Frontend]:
        if not self._contested:
            return frozenset()
        return frozenset(item for item in self._ranks.get(key, {}) if self._owner[item] != key)

    def _drop(self, key: str, frontend: Frontend) -> None:
        contenders = self._contested.get(frontend)
        if contenders is None:
            del self._owner[frontend]
            return
        contenders.discard(key)
        self._owner[frontend] = self._best(frontend, contenders)
        if len(contenders) == 1:
            del self._contested[frontend]

    def _best(self, frontend: Frontend, contenders: set[str]) -> str:
        return min(contenders, key=lambda key: self._ranks[key][frontend])
