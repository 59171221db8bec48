"""An instance's interface, by rtnetlink(7): a veth pair from the bridge into the instance, then addresses and routes.

A run of ip(8) for each of the two costs some milliseconds of every boot. Source: linux/rtnetlink.h, if_link.h,
if_addr.h, neighbour.h.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from vk_provider.aiokit.netlink import pack_attribute, pack_text
from vk_provider.cloud.local import boot
from vk_provider.cloud.local.boot import BootSpec
from vk_provider.cloud.local.ipv6 import host_address, link_local

INTERFACE = "eth0"

_NEWLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH = 16, 20, 24, 28
_REQUEST_ACK, _CREATE = 0x1 | 0x4, 0x200 | 0x400  # NLM_F_EXCL with NLM_F_CREATE
_ERROR = 2
_HEADER, _LINK = struct.Struct("=IHHII"), struct.Struct("=BxHiII")
_ADDRESS, _ROUTE, _NEIGHBOUR = struct.Struct("=BBBBi"), struct.Struct("=8BI"), struct.Struct("=BxxxiHBB")
_UP = 0x1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_PID, _IFLA_AF_SPEC = 1, 3, 10, 18, 19, 26
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_INET6_ADDR_GEN_MODE, _GENERATE_NONE = 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD = 1, 2, 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_UNIVERSE, _SCOPE_LINK, _UNICAST = 254, 3, 0, 253, 1
_NDA_DST, _NUD_PERMANENT, _NTF_PROXY = 1, 0x80, 0x08
_METADATA = "169.254.169.254"

Request = tuple[int, int, bytes, str]
"""Type and flags of the message, its body, and what it does."""


def connect_to_bridge(spec: BootSpec, pid: int) -> None:
    """Make the pair: the port on the bridge, and the interface in the network namespace of the instance's first process
    (`pid` on this machine). Called in the bridge's network namespace. Raises OSError."""
    _send([build_pair(spec, pid, socket.if_nametoindex(spec.network.bridge))])


def configure(spec: BootSpec) -> None:
    """Addresses and routes of the instance; the pod's address is routed by the agent's CNI configuration. Called in the
    instance's network namespace. Raises OSError."""
    _send(build_configuration(spec, socket.if_nametoindex(INTERFACE)))


def build_pair(spec: BootSpec, pid: int, bridge: int) -> Request:
    """`bridge`: its index."""
    peer = (
        _LINK.pack(0, 0, 0, 0, 0)
        + pack_text(_IFLA_IFNAME, INTERFACE)
        + pack_attribute(_IFLA_ADDRESS, bytes.fromhex(boot.mac_address(spec.addresses.primary_ip).replace(":", "")))
        + pack_attribute(_IFLA_NET_NS_PID, struct.pack("=I", pid))
    )
    kind = pack_text(_INFO_KIND, "veth") + pack_attribute(_INFO_DATA, pack_attribute(_VETH_INFO_PEER, peer))
    body = (
        _LINK.pack(0, 0, 0, _UP, _UP)
        + pack_text(_IFLA_IFNAME, spec.port)
        + pack_attribute(_IFLA_MASTER, struct.pack("=I", bridge))
        + pack_attribute(_IFLA_LINKINFO, kind)
    )
    return _NEWLINK, _CREATE, body, f"veth pair {spec.port}"


def build_configuration(spec: BootSpec, link: int) -> Iterator[Request]:
    """`link`: the interface's index."""
    own, network = spec.addresses, spec.network
    yield _build_address(link, own.primary_ip, ipaddress.IPv4Network(network.subnet).prefixlen)
    if own.ipv6_subnet:  # before it is up: the kernel generates its own then
        mode = pack_attribute(_INET6_ADDR_GEN_MODE, bytes([_GENERATE_NONE]))
        yield _build_link(link, 0, pack_attribute(_IFLA_AF_SPEC, pack_attribute(socket.AF_INET6, mode)), "addrgenmode")
    yield _build_link(link, _UP, b"", "up")
    yield _build_route(link, gateway=network.gateway)
    yield _build_route(link, destination=_METADATA)
    if own.ipv6_subnet:
        # Without duplicate address detection, which takes seconds: nobody else can have these addresses (source_guard).
        yield _build_address(link, link_local(network.subnet, own.primary_ip), 64)
        yield _build_address(link, own.primary_ipv6, ipaddress.IPv6Network(own.ipv6_subnet).prefixlen)
        yield _build_route(link, gateway=host_address(own.ipv6_subnet))
        yield _build_proxy(link, own.pod_ipv6)


def _build_link(link: int, flags: int, attributes: bytes, what: str) -> Request:
    return _NEWLINK, 0, _LINK.pack(0, 0, link, flags, flags) + attributes, f"set {INTERFACE} {what}"


def _build_address(link: int, address: str, prefix: int) -> Request:
    family, packed = _pack_address(address)
    is_ipv6 = family == socket.AF_INET6
    scope = _SCOPE_LINK if ipaddress.ip_address(address).is_link_local else _SCOPE_UNIVERSE
    body = _ADDRESS.pack(family, prefix, _IFA_F_NODAD if is_ipv6 else 0, scope, link)
    body += pack_attribute(_IFA_LOCAL, packed) + pack_attribute(_IFA_ADDRESS, packed)
    return _NEWADDR, _CREATE, body, f"address {address}/{prefix}"


def _build_route(link: int, *, destination: str = "", gateway: str = "") -> Request:
    """To one address on the link, or by default through a gateway."""
    family, packed = _pack_address(destination or gateway)
    scope = _SCOPE_LINK if destination else _SCOPE_UNIVERSE
    length = len(packed) * 8 if destination else 0
    body = _ROUTE.pack(family, length, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, scope, _UNICAST, 0)
    body += pack_attribute(_RTA_DST if destination else _RTA_GATEWAY, packed)
    body += pack_attribute(_RTA_OIF, struct.pack("=I", link))
    return _NEWROUTE, _CREATE, body, f"route to {destination or 'default'}"


def _build_proxy(link: int, address: str) -> Request:
    """Answer neighbour solicitations for the address."""
    family, packed = _pack_address(address)
    body = _NEIGHBOUR.pack(family, link, _NUD_PERMANENT, _NTF_PROXY, 0) + pack_attribute(_NDA_DST, packed)
    return _NEWNEIGH, _CREATE, body, f"proxy for {address}"


def _pack_address(address: str) -> tuple[int, bytes]:
    parsed = ipaddress.ip_address(address)
    return (socket.AF_INET if parsed.version == 4 else socket.AF_INET6), parsed.packed


def _send(requests: Iterator[Request] | list[Request]) -> None:
    """One after the other; each is answered at once. Raises OSError that says which was refused."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as control:
        control.bind((0, 0))
        for sequence, (kind, flags, body, what) in enumerate(requests, 1):
            header = _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST_ACK, sequence, 0)
            control.sendto(header + body, (0, 0))
            answer = control.recv(1 << 16)
            _, answered, _, _, _ = _HEADER.unpack_from(answer)
            code = -struct.unpack_from("=i", answer, _HEADER.size)[0] if answered == _ERROR else 0
            if code:
                raise OSError(code, f"{what}: {os.strerror(code)}")
