"""The connection tracking table by ctnetlink: forgets UDP flows to endpoints that have gone, and lists connections.
Blocking; call in a thread.

Source: linux/netfilter/nfnetlink_conntrack.h. Which flows are stale says serviceproxy.conntrack.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vk_provider.aiokit.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    Message,
    Requests,
    pack_attribute,
    read_attributes,
)
from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.conntrack import Flow, select_stale
from vk_provider.serviceproxy.fragment import UdpFrontend

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ID, _ZONE, _FILTER = 1, 2, 3, 12, 18, 25
_SEEN_REPLY = 1 << 1
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE, _PROTO_TARGET = 1, 2, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_FILTER_BY_PROTOCOL = 1 << 3
_UDP = 17
_FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_IP_KINDS = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}


class Ends(NamedTuple):
    """Canonical addresses of a packet."""

    source: str
    source_port: int
    target: str
    target_port: int


class Entry(NamedTuple):
    """A connection between ports. original: as its first packet was sent; reply: as its answers are, before they are
    translated back. key: the attributes by which it is deleted, as they were read."""

    family: Family
    protocol: int
    original: Ends
    reply: Ends
    is_answered: bool
    key: bytes

    @property
    def flow(self) -> Flow:
        return Flow(
            self.family, self.original.target, self.original.target_port, self.reply.source, self.reply.source_port
        )


def forget_stale(frontends: Iterable[UdpFrontend], nodeport_addresses: Iterable[str]) -> int:
    """Delete the entries of flows to one of `frontends` that go to an endpoint that is not serving; returns how many.
    Raises OSError. The table is that of this thread's network namespace."""
    wanted = list(frontends)
    addresses = tuple(nodeport_addresses)
    count = 0
    with Requests() as requests:
        for family in sorted({item.frontend.family for item in wanted}):
            keys = list(_find_stale(_list_udp(requests, family), wanted, addresses))
            count += sum(_delete(requests, family, key) for key in keys)
    return count


def _find_stale(
    entries: Iterable[Entry], frontends: Iterable[UdpFrontend], nodeport_addresses: Iterable[str]
) -> Iterator[bytes]:
    """The keys alone: there may be a hundred thousand flows, of which few are stale."""
    key = b""

    def list_flows() -> Iterator[Flow]:
        nonlocal key
        for entry in entries:
            key = entry.key
            yield entry.flow

    for _ in select_stale(list_flows(), frontends, nodeport_addresses):
        yield key


def parse_entry(message: Message) -> Entry | None:
    """None for what has no ports."""
    family = next((family for family, number in _FAMILIES.items() if number == message.family), None)
    attributes = read_attributes(message.body)
    if family is None or _TUPLE_ORIG not in attributes or _TUPLE_REPLY not in attributes:
        return None
    protocol, original = _parse_tuple(family, attributes[_TUPLE_ORIG])
    _, reply = _parse_tuple(family, attributes[_TUPLE_REPLY])
    if original is None or reply is None:
        return None
    key = b"".join(
        pack_attribute(kind, attributes[kind], nested=kind == _TUPLE_ORIG)
        for kind in (_TUPLE_ORIG, _ID, _ZONE)
        if kind in attributes
    )
    is_answered = bool(int.from_bytes(attributes.get(_STATUS, b""), "big") & _SEEN_REPLY)
    return Entry(family, protocol, original, reply, is_answered, key)


def _parse_tuple(family: Family, value: bytes) -> tuple[int, Ends | None]:
    parts = read_attributes(value)
    addresses, ports = read_attributes(parts.get(_TUPLE_IP, b"")), read_attributes(parts.get(_TUPLE_PROTO, b""))
    source, target = (addresses.get(kind) for kind in _IP_KINDS[family])
    protocol = int.from_bytes(ports.get(_PROTO_NUMBER, b""), "big")
    if source is None or target is None or _PROTO_TARGET not in ports:
        return protocol, None
    number = _FAMILIES[family]
    return protocol, Ends(
        socket.inet_ntop(number, source),
        _parse_port(ports.get(_PROTO_SOURCE)),
        socket.inet_ntop(number, target),
        _parse_port(ports.get(_PROTO_TARGET)),
    )


def _parse_port(value: bytes | None) -> int:
    return int(struct.unpack("!H", value)[0]) if value is not None and len(value) == 2 else 0


def build_udp_filter() -> bytes:
    """Attributes of a dump that make a kernel since 5.8 send UDP alone; an older one sends everything."""
    protocol = pack_attribute(_TUPLE_PROTO, pack_attribute(_PROTO_NUMBER, bytes([_UDP])), nested=True)
    flags = pack_attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _FILTER_BY_PROTOCOL))
    flags += pack_attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", 0))
    return pack_attribute(_TUPLE_ORIG, protocol, nested=True) + pack_attribute(_FILTER, flags, nested=True)


def _list_udp(requests: Requests, family: Family) -> Iterator[Entry]:
    return (entry for entry in _list(requests, family, build_udp_filter()) if entry.protocol == _UDP)


def list_to(address: str) -> Iterator[Entry]:
    """The connections whose first packet went to `address`. Raises OSError, ValueError for what is no address."""
    wanted = ipaddress.ip_address(address)
    family = Family(wanted.version)
    with Requests() as requests:
        for entry in _list(requests, family, b""):
            if entry.original.target == str(wanted):
                yield entry


def _list(requests: Requests, family: Family, attributes: bytes) -> Iterator[Entry]:
    for message in requests.ask(_GET, NLM_F_DUMP, _FAMILIES[family], attributes):
        entry = parse_entry(message)
        if entry is not None:
            yield entry


def _delete(requests: Requests, family: Family, key: bytes) -> bool:
    """Whether it was still there. Without a key the kernel would delete everything."""
    assert key
    try:
        for _ in requests.ask(_DELETE, NLM_F_ACK, _FAMILIES[family], key):
            pass
    except FileNotFoundError:
        return False
    return True
