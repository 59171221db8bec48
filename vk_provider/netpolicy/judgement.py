"""What policies say of one new connection, and why: from the compiled table, and by the rules it was made of. Pure."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from vk_provider.netpolicy.direction import NamespaceLabels
from vk_provider.netpolicy.nft import peer_map, range_key
from vk_provider.netpolicy.peer import Place, Traits
from vk_provider.netpolicy.policy import DIRECTIONS, Direction, Policy, Rule
from vk_provider.netpolicy.ports import NamedPort, Ports, resolve_ports
from vk_provider.netpolicy.table import Table
from vk_provider.serviceproxy.address import Family, parse_address


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


class TableReader:
    """A compiled table, read once for many connections: that costs a look at each element."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._spans: dict[str, list[tuple[int, int, str]]] = {name: [] for name in _RANGE_MAPS}
        for (container, key), verdict in table.verdicts.items():
            if container in _RANGE_MAPS:
                self._spans[container].append((*_parse_span(key.partition(" ")[0]), verdict))
        for spans in self._spans.values():
            spans.sort()

    def accepts(self, connection: Connection) -> bool:
        """Whether the rules of the table accept it (nft.FRAME): the element of the address, then the range around it.
        Raises ValueError for what is no address."""
        place = find_place(connection.address)
        verdict = self.table.verdicts.get((peer_map(connection.direction, place.family), place.text))
        if verdict is not None and self._is_accepted(verdict, connection):
            return True
        spans = self._spans[range_key(connection.direction, place.family, "")[0]]  # they do not overlap
        before = bisect_right(spans, place.number, key=itemgetter(0))
        if not before:
            return False
        _, last, verdict = spans[before - 1]
        return place.number <= last and self._is_accepted(verdict, connection)

    def _is_accepted(self, verdict: str, connection: Connection) -> bool:
        return verdict == "accept" or _covers(self.table.chains[verdict.removeprefix("jump ")], connection)


_RANGE_MAPS = frozenset(range_key(direction, family, "")[0] for direction in DIRECTIONS for family in Family)


def _parse_span(span: str) -> tuple[int, int]:
    """First and last address of what blocks.write_range writes."""
    first, dash, last = span.partition("-")
    if dash:
        return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))
    network = ipaddress.ip_network(span)
    return int(network.network_address), int(network.broadcast_address)


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
