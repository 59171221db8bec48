"""What instances have in their table so that all of a Node's are like one machine to processes on it: host ports at
loopback addresses, and the Node's address as the source of connections, although it is another machine's. Pure.

    loopback-nets4      127.0.0.0/8 on an instance whose processes have the host ports there, else empty
    own-number4         protocol -> the instance's own address, as a number
    loopback-ips4       loopback frontend -> the chain that leads to the pod
    loopback-own4       number of an address . port: a host port that leads to the instance with that address is the one
                        of its own hostNetwork pod, which may listen at the loopback address alone
    node-ips4, -ips6    the Node's addresses

A kernel sends what comes from 127.0.0.0/8 out of the machine, and takes answers to it, only with route_localnet. Then
it takes everything else with such addresses, too (CVE-2020-8558), so that is dropped here. IPv6 has no such setting:
::1 is the instance's own.

A process can have the Node's address as its source by a local route, but all that is sent to the address must still
leave the instance. The answers to a connection that began with it carry the mark ANSWER_MARK, by which a routing rule
finds the local route: agent.proxy.nodeaddress sets all of that up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.affinity import write_class
from vk_provider.serviceproxy.chain import MASQUERADE_MARK
from vk_provider.serviceproxy.service import PROTOCOLS

LOOPBACK = "127.0.0.1"
LOOPBACK_NETWORK = "127.0.0.0/8"
ANSWER_MARK = "0x1000"
"""A bit of the packet's mark, and of the mark of connections that began with the Node's address."""
AGENT_MARK = 0x800
"""A bit of the packet's mark: connections of the agent to the runtime's loopback address, which no pod's host port must
take (the runtime listens at any port, and a host port may be any)."""

DEFINITIONS4 = {
    "loopback-nets": "type ipv4_addr ; flags interval",
    "own-number": "type inet_proto : classid",
    "loopback-ips": "type ipv4_addr . inet_proto . inet_service : verdict",
    "loopback-own": "type classid . inet_proto . inet_service",
}
"""As frame's, for IPv4 alone."""
DEFINITIONS = {"node-ips": "type {addr}"}

BASE_CHAINS = {"route-output": "type route hook output priority -150"}

_RULES: dict[str, tuple[str, ...]] = {
    "filter-prerouting-pre-dnat": tuple(
        f'iifname != "lo" ip {end} {LOOPBACK_NETWORK} drop' for end in ("saddr", "daddr")
    ),
    "nat-output": ("ip daddr @loopback-nets4 jump loopback",),
    "loopback": (
        f"meta mark and {AGENT_MARK:#x} != 0 return",
        "meta priority set meta l4proto map @own-number4",
        "meta priority . meta l4proto . th dport @loopback-own4 return",
        "ip daddr . meta l4proto . th dport vmap @loopback-ips4",
    ),
    "route-output": ("jump answers",),
    "filter-prerouting-post-dnat": ("jump answers",),
}
_FAMILY_RULES: dict[str, tuple[str, ...]] = {
    # Others must not see an address that is not this machine's: it would be dropped, or confuse its owner's neighbours.
    "nat-output": (f'{{ip}} saddr @node-ips{{v}} oifname != "lo" meta mark set meta mark or {MASQUERADE_MARK}',),
    "filter-output-post-dnat": (f"ct state new {{ip}} saddr @node-ips{{v}} ct mark set ct mark or {ANSWER_MARK}",),
    "answers": (
        f"ct mark and {ANSWER_MARK} != 0 ct direction reply {{ip}} daddr @node-ips{{v}} "
        f"meta mark set meta mark or {ANSWER_MARK}",
    ),
}


def number_address(address: str) -> str:
    """An IPv4 address as the 32 bits of a traffic control class: what rules can hold until the next lookup."""
    return write_class(int(ipaddress.IPv4Address(address)))


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def list_rules(families: tuple[dict[str, str], ...]) -> Iterator[tuple[str, str, bool]]:
    """(chain, rule, whether it goes before the chain's other rules). families: see frame."""
    for chain, rules in _RULES.items():
        for rule in rules:
            yield chain, rule, chain == "filter-prerouting-pre-dnat"
    for family in families:
        for chain, rules in _FAMILY_RULES.items():
            for rule in rules:
                yield chain, rule.format(**family), chain == "nat-output"


def list_own(own_address: str) -> Iterator[tuple[str, str, str]]:
    """(container, key, value) of an instance whose processes have the host ports; its canonical address."""
    if ":" not in own_address:
        yield "loopback-nets4", LOOPBACK_NETWORK, ""
        for protocol in PROTOCOLS.values():
            yield "own-number4", str(protocol), number_address(own_address)


def owner_key(address: str, protocol: int, port: int) -> str:
    """Of loopback-own4."""
    return f"{number_address(address)} . {protocol} . {port}"


def means_loopback(host_ip: str, family: Family) -> str:
    """The loopback address at which a pod with this hostIP (canonical, "" for all) is reached; "" for none."""
    if family != Family.IPV4:
        return ""
    if not host_ip:
        return LOOPBACK
    return host_ip if host_ip.startswith("127.") else ""
