"""IPv6 addresses of a local cloud's instances. Pure.

An instance's IPv6 addresses follow from its IPv4 ones: the same place in the IPv6 subnet. So a pair of addresses is
claimed once, for both families, and what belongs to a port of the bridge still follows from the port's name.
"""

from __future__ import annotations

import ipaddress

LARGEST_PREFIX = 96
"""Of an IPv6 subnet: it has room for a whole IPv4 network. EC2's subnets are /64."""
_LINK_LOCAL = ipaddress.IPv6Address("fe80::")


def check_ipv6_subnet(text: str) -> str:
    """What is wrong with the subnet, "" for nothing."""
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError as error:
        return f"{text!r} is not an IPv6 network: {error}"
    if network.prefixlen > LARGEST_PREFIX:
        return f"{text} is too small, /{LARGEST_PREFIX} or larger is needed"
    if network.is_multicast or network.is_link_local or network.is_loopback or network.is_unspecified:
        return f"{text} has no addresses that are valid beyond one link"
    return ""


def translate(ipv4_subnet: str, ipv6_subnet: str, address: str) -> str:
    """The IPv6 address at the place that `address` has in the IPv4 subnet."""
    return str(ipaddress.IPv6Network(ipv6_subnet).network_address + _place(ipv4_subnet, address))


def host_address(ipv6_subnet: str) -> str:
    """The host's address on the bridge, and the instances' gateway."""
    return str(ipaddress.IPv6Network(ipv6_subnet).network_address + 1)


def link_local(ipv4_subnet: str, primary_ip: str) -> str:
    """The instance's link-local address. The kernel asks for neighbours of its pod with it."""
    return str(_LINK_LOCAL + _place(ipv4_subnet, primary_ip))


def _place(ipv4_subnet: str, address: str) -> int:
    return int(ipaddress.IPv4Address(address)) - int(ipaddress.IPv4Network(ipv4_subnet).network_address)
