"""Tables and deltas as nft text: each is one transaction. Pure. Grammar of nft 1.0.6.

Per IP family (the digit at the end of a name):
    ingress-peers, egress-peers     address of a pod -> what it may use more than others at the address
    ingress-ranges, egress-ranges   addresses -> what they may use, whoever has them
    pods                            the pod's own addresses, as the cloud says: part of a whole table's text alone
Per set of ports a set and a chain of one name (ports.name_ports), shared by all verdicts that mean it.

Ranges have a second dimension that says nothing (any protocol): into a map of plain intervals nft 1.0.6 cannot put a
verdict that names a chain of the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vk_provider.netpolicy.ports import ALL_PORTS, Ports, name_ports
from vk_provider.netpolicy.table import Delta, Key, Table
from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.fragment import Element
from vk_provider.serviceproxy.nft import write_elements

TABLE = "vk-policy"
PRIORITY = 10
"""After the filters of Services: what has no endpoint is refused there."""
_ADDRESS = {Family.IPV4: "ipv4_addr", Family.IPV6: "ipv6_addr"}
_IP = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_PEER = {"ingress": "saddr", "egress": "daddr"}


def peer_map(direction: str, family: Family) -> str:
    return f"{direction}-peers{family}"


def range_key(direction: str, family: Family, span: str) -> Key:
    return f"{direction}-ranges{family}", f"{span} . 0-255"


def write_verdict(ports: Ports) -> str:
    return "accept" if ports == ALL_PORTS else f"jump {name_ports(ports)}"


def render_pod(addresses: Iterable[str]) -> str:
    """What follows a whole table in the same transaction: the addresses of the pod, which are no part of the table
    itself, since others have the same one. What cannot be read is left out."""
    known = (parse_address(address) for address in addresses)
    elements = [Element(f"pods{parsed[0]}", parsed[1]) for parsed in known if parsed is not None]
    return "".join(f"{command}\n" for command in write_elements("add", elements, TABLE))


def render_table(table: Table) -> str:
    """The whole table in one transaction, whatever was in it: packets meet the one or the other, never none.

    Chains that no verdict names any more may be left. It fails as a whole on the table of another version with other
    types: delete that in the same transaction then."""
    lines = [*FRAME, *_write_chains(table.chains)]
    lines += write_elements("add", table.elements(), TABLE)
    return "\n".join([*lines, f"add element inet {TABLE} revision {{ {table.revision} }}"]) + "\n"


def render_delta(delta: Delta) -> str:
    """One transaction. It fails as a whole on a table that is not of delta.base: the base's revision is an element that
    it deletes."""
    lines = _write_chains(delta.chains)
    lines += write_elements("delete", delta.removed, TABLE)
    lines += write_elements("add", delta.added, TABLE)
    for name in sorted(delta.gone):
        lines += [f"flush chain inet {TABLE} {name}", f"delete chain inet {TABLE} {name}"]
        lines.append(f"delete set inet {TABLE} {name}")
    lines.append(f"delete element inet {TABLE} revision {{ {delta.base} }}")
    lines.append(f"add element inet {TABLE} revision {{ {delta.revision} }}")
    return "\n".join(lines) + "\n"


def _write_chains(chains: Mapping[str, Ports]) -> list[str]:
    """What makes the chains and their sets, whether they are there already or not."""
    lines: list[str] = []
    for name in sorted(chains):
        ports = ", ".join(f"{part.protocol} . {_write_span(part.first, part.last)}" for part in chains[name])
        lines += [
            *_write_container("set", name, "type inet_proto . inet_service ; flags interval"),
            f"add element inet {TABLE} {name} {{ {ports} }}",
            *_write_chain(name),
            f"add rule inet {TABLE} {name} meta l4proto . th dport @{name} accept",
        ]
    return lines


def _write_container(kind: str, name: str, definition: str) -> list[str]:
    """An empty set or map. Emptied, not deleted: what packets find in ranges changes at the very end of a transaction,
    and a new set has nothing until then."""
    return [f"add {kind} inet {TABLE} {name} {{ {definition} ; }}", f"flush {kind} inet {TABLE} {name}"]


def _write_chain(name: str, hook: str = "") -> list[str]:
    return [f"add chain inet {TABLE} {name}{hook}", f"flush chain inet {TABLE} {name}"]


def _write_span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def _write_frame() -> tuple[str, ...]:
    lines = [f"add table inet {TABLE}", *_write_container("set", "revision", "type ipv6_addr")]
    rules: dict[str, list[str]] = {"forward": ["ct state established,related accept"], "ingress": [], "egress": []}
    for family, address in _ADDRESS.items():
        ip = _IP[family]
        lines += _write_container("set", f"pods{family}", f"type {address}")
        # To itself through a Service. The source must be where the packet came from: anybody can write one.
        rules["forward"].append(f"{ip} saddr @pods{family} {ip} daddr @pods{family} fib saddr . iif oif exists accept")
        for direction, field in _PEER.items():
            peers, ranges = f"{direction}-peers{family}", f"{direction}-ranges{family}"
            lines += _write_container("map", peers, f"type {address} : verdict")
            lines += _write_container("map", ranges, f"type {address} . inet_proto : verdict ; flags interval")
            rules[direction] += [f"{ip} {field} vmap @{peers}", f"{ip} {field} . meta l4proto vmap @{ranges}"]
    rules["forward"] += [f"{_IP[family]} daddr @pods{family} goto ingress" for family in Family]
    rules["forward"].append("goto egress")  # what is not for the pod is from it, whatever source it names
    lines += _write_chain("forward", f" {{ type filter hook forward priority {PRIORITY} ; }}")
    for direction in _PEER:
        lines += _write_chain(direction)
        rules[direction].append("counter drop")
    return (*lines, *(f"add rule inet {TABLE} {name} {rule}" for name, texts in rules.items() for rule in texts))


FRAME = _write_frame()
"""Commands that make the table, or empty it: the same for all pods."""
