"""What policies say of one new connection, and why: from the compiled table, and by the rules it was made of. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vk_provider.netpolicy.direction import NamespaceLabels
from vk_provider.netpolicy.nft import peer_map, range_key
from vk_provider.netpolicy.peer import Place, Traits
from vk_provider.netpolicy.policy import Direction, Policy, Rule
from vk_provider.netpolicy.ports import NamedPort, Ports, resolve_ports
from vk_provider.netpolicy.table import Table
from vk_provider.serviceproxy.address import parse_address


class Connection(NamedTuple):
    """direction: as the pod sees it whose policies are asked; address: of the other end, canonical; protocol: IP
    protocol number; port: of the one who answers."""

    direction: Direction
    address: str
    protocol: int
    port: int


class RuleName(NamedTuple):
    """policy: namespace/name; number: of the rule in spec.ingress or spec.egress, from 1."""

    policy: str
    number: int


class Judgement(NamedTuple):
    """isolated_by: the policies (namespace/name) that restrict this direction, none when everything is allowed
    allowed:   by the compiled table
    rule:      the first one that allows it; None without isolation, or when it is not allowed
    too_large: the rules of this direction are more than can be compiled, so that nothing is allowed
    """

    isolated_by: tuple[str, ...]
    allowed: bool
    rule: RuleName | None
    too_large: bool


def find_place(address: str) -> Place:
    """Raises ValueError for what is no address."""
    parsed = parse_address(address)
    if parsed is None:
        raise ValueError(f"not an address: {address}")
    return Place(parsed[0], int(ipaddress.ip_address(parsed[1])), parsed[1])


def accepts(table: Table, connection: Connection) -> bool:
    """Whether the rules of the table accept it (nft.FRAME): the element of the address, then the range around it."""
    place = find_place(connection.address)
    verdict = table.verdicts.get((peer_map(connection.direction, place.family), place.text))
    if verdict is not None and _is_accepted(table.chains, verdict, connection):
        return True
    name, _ = range_key(connection.direction, place.family, "")
    spans = (
        verdict
        for (container, key), verdict in table.verdicts.items()
        if container == name and _holds(key.partition(" ")[0], place)
    )
    return any(_is_accepted(table.chains, verdict, connection) for verdict in spans)


def _is_accepted(chains: Mapping[str, Ports], verdict: str, connection: Connection) -> bool:
    return verdict == "accept" or _covers(chains[verdict.removeprefix("jump ")], connection)


def _holds(span: str, place: Place) -> bool:
    """span: as blocks.write_range writes it."""
    first, dash, last = span.partition("-")
    if dash:
        return int(ipaddress.ip_address(first)) <= place.number <= int(ipaddress.ip_address(last))
    network = ipaddress.ip_network(span)
    return int(network.network_address) <= place.number <= int(network.broadcast_address)


def find_rule(
    policies: Iterable[Policy],
    connection: Connection,
    own: Sequence[NamedPort],
    pods: Sequence[Traits],
    namespace_labels: NamespaceLabels,
) -> RuleName | None:
    """The first rule that allows the connection. own: ports that the pod itself has named; pods: those at the address,
    as far as rules can find them."""
    place = find_place(connection.address)
    for policy in policies:
        for number, rule in enumerate(policy.rules.get(connection.direction, ()), 1):
            named = _answering(rule, connection.direction, place, own, pods, namespace_labels)
            if any(_covers(resolve_ports(rule.ports, ports), connection) for ports in named):
                return RuleName(policy.key, number)
    return None


def _answering(
    rule: Rule,
    direction: Direction,
    place: Place,
    own: Sequence[NamedPort],
    pods: Sequence[Traits],
    namespace_labels: NamespaceLabels,
) -> Iterator[Sequence[NamedPort]]:
    """What the names of ports mean for each peer that the rule is about: nothing when it is about none."""
    in_block = any(first <= place.number <= last for first, last in rule.ranges.get(place.family, ()))
    if in_block:
        yield own if direction == "ingress" else ()
    for pod in pods:
        labels = dict(pod.labels)
        if in_block or any(peer.matches(pod.namespace, labels, namespace_labels(pod.namespace)) for peer in rule.pods):
            yield own if direction == "ingress" else pod.ports


def _covers(ports: Ports, connection: Connection) -> bool:
    return any(
        part.protocol in (0, connection.protocol) and part.first <= connection.port <= part.last for part in ports
    )
