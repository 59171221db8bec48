"""The IPv6 part of the source guard: source addresses, and what neighbour discovery (RFC 4861) may say. Pure.

An instance solicits and advertises its own addresses at its own MAC address only. It is no router, sends no redirects
and joins no groups: a bridge without a querier passes multicast on to all its ports. The texts are of nft 1.0.6, which
has no name for a target address (ICMPv6 header + 8 bytes) or an option (+ 24), so each port has a chain of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SOURCES = "sources-ipv6"
_NEIGHBOURS, _CHAIN = "neighbours-ipv6", "ingress-ipv6"
_DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
# MLD, router solicitations and advertisements, redirects: names of nft 1.0.6 lack some.
_REFUSED = "icmpv6 type { 130, 131, 132, 133, 134, 137, 143 }"
_SOURCE_OPTION, _TARGET_OPTION = "0101", "0201"
"""Type and length of the link-layer address options."""


@dataclass(frozen=True, slots=True)
class Ipv6Port:
    """A port of the bridge, the MAC address and the IPv6 addresses of the instance behind it."""

    name: str
    mac: str
    addresses: tuple[str, ...]


def build_ipv6_table(table: str) -> str:
    """`nft -f` input that adds the IPv6 part to the table. Without it, IPv6 is dropped."""
    return f"""add set bridge {table} {SOURCES} {{ type ifname . ether_addr . ipv6_addr ; }}
add map bridge {table} {_NEIGHBOURS} {{ type ifname : verdict ; }}
add chain bridge {table} {_CHAIN}
add rule bridge {table} {_CHAIN} iifname . ether saddr . ip6 saddr != @{SOURCES} drop
add rule bridge {table} {_CHAIN} {_REFUSED} drop
add rule bridge {table} {_CHAIN} {_DISCOVERY} iifname vmap @{_NEIGHBOURS}
add rule bridge {table} {_CHAIN} {_DISCOVERY} drop
add rule bridge {table} {_CHAIN} accept
add rule bridge {table} ingress ether type ip6 goto {_CHAIN}
"""


def build_ipv6_elements(table: str, ports: Iterable[Ipv6Port]) -> str:
    """`nft -f` input that admits these ports. Idempotent."""
    sources, neighbours, lines = [], [], []
    for port in ports:
        chain = f"neighbours-{port.name}"
        lines += [f"add chain bridge {table} {chain}", f"flush chain bridge {table} {chain}"]
        lines += [f"add rule bridge {table} {chain} {rule}" for rule in _discovery_rules(port)]
        sources += [f"{port.name} . {port.mac} . {address}" for address in port.addresses]
        neighbours.append(f"{port.name} : goto {chain}")
    lines.append(f"add element bridge {table} {SOURCES} {{ {', '.join(sources)} }}")
    lines.append(f"add element bridge {table} {_NEIGHBOURS} {{ {', '.join(neighbours)} }}")
    return "\n".join(lines) + "\n"


def _discovery_rules(port: Ipv6Port) -> Iterator[str]:
    """With the option of the own MAC address, or with none: probes of an address that is known, and their answers."""
    mac = port.mac.replace(":", "")
    targets = ", ".join(f"{int(ipaddress.IPv6Address(address)):#034x}" for address in port.addresses)
    for kind, option, target in (
        ("nd-neighbor-solicit", _SOURCE_OPTION, ""),
        ("nd-neighbor-advert", _TARGET_OPTION, f" @th,64,128 {{ {targets} }}"),
    ):
        yield f"icmpv6 type {kind} ip6 length 24{target} accept"
        yield f"icmpv6 type {kind} ip6 length 32 @th,192,64 0x{option}{mac}{target} accept"
