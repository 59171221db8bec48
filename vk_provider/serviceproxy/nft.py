"""Tables and deltas as nft text: each is one transaction. Pure. Grammar of nft 1.0.6.

The frame (maps, base chains) follows pkg/proxy/nftables/README.md: destination NAT in prerouting for what comes in and
in output for the node's own processes, masquerading in postrouting, refusals in input, forward and output.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vk_provider.serviceproxy.address import parse_address, parse_network
from vk_provider.serviceproxy.chain import write_chains
from vk_provider.serviceproxy.fragment import Element
from vk_provider.serviceproxy.frame import TABLE, write_frame
from vk_provider.serviceproxy.instance import is_loopback, list_own
from vk_provider.serviceproxy.packed import pack_elements
from vk_provider.serviceproxy.table import Delta, Table

REMOVE = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"


@dataclass(frozen=True, slots=True)
class Vantage:
    """What differs between the network namespaces of a Node.

    pods:               addresses or networks of the pods behind this namespace: an instance's own pod, none on the
                        machine with the Node's address. Their connections keep their source; what comes from elsewhere
                        to a ClusterIP is masqueraded
    nodeport_addresses: where node ports are answered: the Node's addresses, and the instance's own
    sees_replies:       what the endpoints of the Node answer passes here. If not, what comes from outside under the
                        policy Local is masqueraded, or its answers would go another way: the endpoint then does not see
                        the client's address
    is_instance:        of the Node, whose address is another machine's (instance.py)
    own_addresses:      the primary addresses of an instance on which processes other than the agent run: they have the
                        host ports of the Node at loopback addresses, too, and the Node's addresses as their source
    """

    pods: tuple[str, ...] = ()
    nodeport_addresses: tuple[str, ...] = ()
    sees_replies: bool = True
    is_instance: bool = False
    own_addresses: tuple[str, ...] = ()


def render_table(table: Table, vantage: Vantage, name: str = TABLE) -> str:
    """The whole table in one transaction, whatever was in it. Clients keep the endpoints that they have by affinity.

    It fails as a whole on the table of another version with other types: apply REMOVE + this text then."""
    lines = _write_empty(table, vantage, name) + write_elements("add", table.elements(), name)
    return _join([*lines, _write_revision(table, name)])


def render_packed(table: Table, vantage: Vantage) -> tuple[str, list[bytes]]:
    """The same in two parts: the text has few elements, the others are bodies of messages to the kernel (packed)."""
    lines = _write_empty(table, vantage, TABLE)
    bodies, others = pack_elements("\n".join(lines), table.elements())
    lines += write_elements("add", others)
    return _join([*lines, _write_revision(table, TABLE)]), bodies


def _write_empty(table: Table, vantage: Vantage, name: str) -> list[str]:
    lines = write_frame(vantage.sees_replies, vantage.is_instance, name) + write_chains(table.chains, name)
    return lines + write_elements("add", vantage_elements(vantage), name)


def _write_revision(table: Table, name: str) -> str:
    return f"add element inet {name} revision {{ {table.revision} }}"


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def render_delta(delta: Delta, name: str = TABLE) -> str:
    """One transaction, the same for every instance of the Node. It fails as a whole on a table that is not of
    delta.base: the base's revision is an element that it deletes."""
    lines = write_chains(delta.chains, name)
    lines += write_elements("delete", delta.removed, name)
    lines += write_elements("add", delta.added, name)
    lines.append(f"delete element inet {name} revision {{ {delta.base} }}")
    lines.append(f"add element inet {name} revision {{ {delta.revision} }}")
    return _join(lines)


def vantage_elements(vantage: Vantage) -> list[Element]:
    """What cannot be read is left out; loopback addresses never answer node ports."""
    found: list[Element] = []
    own = {parsed for written in vantage.own_addresses if (parsed := parse_address(written)) is not None}
    for _, address in sorted(own):
        found += [Element(*parts) for parts in list_own(address)]
    for written in vantage.pods:
        network = parse_network(written if "/" in written else f"{written}/{128 if ':' in written else 32}")
        if network is None:
            continue
        found.append(Element(f"pods{network.version}", _shortest(str(network))))
        if network.num_addresses == 1:
            address = str(network.network_address)
            found.append(Element(f"hairpin-connections{network.version}", f"{address} . {address}"))
    for written in vantage.nodeport_addresses:
        parsed = parse_address(written)
        if parsed is not None and not is_loopback(parsed[1]):
            found.append(Element(f"nodeport-ips{parsed[0]}", parsed[1]))
            if own and parsed not in own:
                found.append(Element(f"node-ips{parsed[0]}", parsed[1]))
    return list(dict.fromkeys(found))


def _shortest(network: str) -> str:
    return network.removesuffix("/128") if ":" in network else network.removesuffix("/32")


def write_elements(verb: str, elements: Iterable[Element], table: str = TABLE) -> list[str]:
    """nft commands, one for each set or map; `verb` is add or delete. What is deleted is named by its key alone."""
    by_container: dict[str, list[str]] = {}
    for element in elements:
        text = f"{element.key} : {element.value}" if element.value and verb == "add" else element.key
        by_container.setdefault(element.container, []).append(text)
    return [f"{verb} element inet {table} {name} {{ {', '.join(texts)} }}" for name, texts in by_container.items()]
