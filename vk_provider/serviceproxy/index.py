"""The Services and EndpointSlices of a cluster, and the tables made of them. Pure: objects in, tables out."""

from __future__ import annotations

import ipaddress
import sys
from collections import Counter
from collections.abc import Iterable

from vk_provider.jsontypes import Json, share_text
from vk_provider.serviceproxy.address import parse_address, parse_network
from vk_provider.serviceproxy.affinity import AffinityNumbers
from vk_provider.serviceproxy.claims import Claims, Rank
from vk_provider.serviceproxy.endpoint import merge_slices, pack_slice, parse_slice, unpack_slice
from vk_provider.serviceproxy.fragment import Fragment, Surroundings, compile_service, digest_text
from vk_provider.serviceproxy.frame import write_frame
from vk_provider.serviceproxy.frontend import Frontend, list_claims
from vk_provider.serviceproxy.hostport import HostPort, HostTarget, compile_host_ports, list_host_claims
from vk_provider.serviceproxy.service import (
    PROTOCOLS,
    Service,
    ServicePort,
    pack_service,
    parse_service,
    unpack_service,
)
from vk_provider.serviceproxy.table import Table, chains_of

_FORM = digest_text("\n".join(write_frame(sees_replies=False, is_instance=True)))
"""Part of each revision: a table that another version has made is not taken for one of this version's."""
_HOST_PORTS = "host ports of "
"""Begins the keys of pods beside those of Services, which are namespace/name."""
_RESERVED, _RESERVED_RANK = "reserved", (-1, "", "")
"""Key and rank of what is the provider's own."""


def key_of(item: Json) -> str:
    """namespace/name of a Service or EndpointSlice."""
    metadata = item.get("metadata") or {}
    return share_text(f"{metadata.get('namespace')}/{metadata.get('name')}")  # a Service's is in its slices, too


def read_service(item: Json) -> bytes | None:
    """What indexes keep of a Service; None for one that is not proxied."""
    service = parse_service(item)
    return pack_service(service) if service is not None else None


def read_slice(item: Json) -> bytes | None:
    """What indexes keep of an EndpointSlice; None for one that does not count."""
    parsed = parse_slice(item)
    return pack_slice(parsed) if parsed is not None else None


class ServiceIndex:
    """Takes Services and EndpointSlices in any order; `table` compiles what has changed since it was last asked.

    Objects are kept packed: each is looked at again when it, or another one of its Service, changes.

    One index serves all instances of a Node. Only hints by zone make a difference between them: a Service without
    such hints has one compiled fragment for all zones.

    node_name:      endpoints of this Node are the local ones
    node_addresses: of the Node object, for load balancers that leave their address on the node
    """

    def __init__(self, node_name: str, node_addresses: Iterable[str] = ()) -> None:
        self._node_name = node_name
        parsed = (parse_address(address) for address in node_addresses)
        self._node_addresses = tuple(address[1] for address in parsed if address)
        self._services: dict[str, bytes] = {}
        self._slices: dict[str, bytes] = {}
        self._slices_of: dict[str, tuple[str, ...]] = {}
        self._host_ports: dict[str, dict[Frontend, tuple[Rank, HostTarget]]] = {}
        self._claims = Claims(self._claims_of)
        self._numbers = AffinityNumbers()
        self._cidrs: tuple[str, ...] = ()
        self._zones: dict[str, _ZoneTable] = {}
        self._shared: dict[str, Fragment] = {}
        self._reserved: set[Frontend] = set()

    def reserve(self, addresses: Iterable[str], port: int) -> None:
        """A TCP port at a Node's addresses that answers for all its pods: no pod and no Service takes it over."""
        parsed = (parse_address(address) for address in addresses)
        before = self._claims_of(_RESERVED)
        self._reserved |= {Frontend(*address, PROTOCOLS["TCP"], port) for address in parsed if address}
        self._replace_claims(_RESERVED, before)

    def apply_service(self, item: Json) -> None:
        """A Service that was added or changed."""
        self.set_service(key_of(item), read_service(item))

    def remove_service(self, namespace: str, name: str) -> None:
        self.set_service(f"{namespace}/{name}", None)

    def apply_slice(self, item: Json) -> None:
        """An EndpointSlice that was added or changed; it may have gone over to another Service."""
        self.set_slice(key_of(item), read_slice(item))

    def remove_slice(self, namespace: str, name: str) -> None:
        self.set_slice(f"{namespace}/{name}", None)

    def set_host_ports(
        self, pod: str, ports: Iterable[HostPort], node_addresses: Iterable[str], *, node: str = ""
    ) -> None:
        """The host ports of a pod (by UID), none when it is gone. node, node_addresses: its Node, by default this."""
        key = f"{_HOST_PORTS}{pod}"
        claims = list_host_claims(pod, ports, tuple(node_addresses), (node or self._node_name) == self._node_name)
        if claims == self._host_ports.get(key, {}):
            return
        before = self._claims_of(key)
        if claims:
            self._host_ports[key] = claims
        else:
            del self._host_ports[key]
        self._replace_claims(key, before)
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

    def set_service(self, key: str, packed: bytes | None) -> None:
        """What `read_service` has found; None as well when there is none of this key (`key_of`) any more."""
        known = self._services.get(key)
        if known == packed:
            return
        before = unpack_service(known) if known is not None else None
        service = unpack_service(packed) if packed is not None else None
        if packed is not None:
            self._services[key] = packed
        else:
            del self._services[key]
        for name in _affinity_names(before) - _affinity_names(service):
            self._numbers.release(name)
        self._replace_claims(key, list_claims(before) if before is not None else {})
        self._mark(key)

    def set_slice(self, key: str, packed: bytes | None) -> None:
        """What `read_slice` has found; None as well when there is none of this key (`key_of`) any more."""
        known = self._slices.get(key)
        if known == packed:
            return
        before = unpack_slice(known).service if known is not None else None
        owner = unpack_slice(packed).service if packed is not None else None
        if packed is not None:
            self._slices[key] = packed
        else:
            del self._slices[key]
        if owner != before:
            if before is not None:
                self._set_slices_of(before, {*self._slices_of[before]} - {key})
            if owner is not None:
                self._set_slices_of(owner, {*self._slices_of.get(owner, ()), key})
        for service in {before, owner}:
            if service is not None:
                self._mark(service)

    def _set_slices_of(self, service: str, slices: set[str]) -> None:
        if slices:
            self._slices_of[service] = tuple(slices)
        else:
            del self._slices_of[service]

    def _claims_of(self, key: str) -> dict[Frontend, Rank]:
        if key == _RESERVED:
            return dict.fromkeys(self._reserved, _RESERVED_RANK)
        host_ports = self._host_ports.get(key)
        if host_ports is not None:
            return {frontend: rank for frontend, (rank, _) in host_ports.items()}
        packed = self._services.get(key)
        return list_claims(unpack_service(packed)) if packed is not None else {}

    def _replace_claims(self, key: str, before: dict[Frontend, Rank]) -> None:
        for affected in self._claims.replace(key, before, self._claims_of(key)):
            self._mark(affected)

    def _mark(self, key: str) -> None:
        self._shared.pop(key, None)
        for state in self._zones.values():
            state.dirty.add(key)

    def _fragment(self, key: str, zone: str) -> Fragment | None:
        host_ports = self._host_ports.get(key)
        if host_ports is not None:
            return compile_host_ports(host_ports, self._claims.denied(key))
        packed = self._services.get(key)
        if packed is None:
            return None
        shared = self._shared.get(key)
        if shared is not None:
            return shared
        service = unpack_service(packed)
        endpoints = merge_slices({name: unpack_slice(self._slices[name]) for name in self._slices_of.get(key, ())})
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
