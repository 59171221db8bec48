"""One direction of one pod's traffic: which peers may use which ports. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from vk_provider.netpolicy.blocks import EVERYWHERE, Cover, Range, TooLargeError, write_range
from vk_provider.netpolicy.peer import Place, Traits
from vk_provider.netpolicy.policy import Direction, Rule
from vk_provider.netpolicy.ports import ALL_PORTS, NamedPort, Ports, merge_ports, resolve_ports
from vk_provider.serviceproxy.address import Family

MAX_REMEMBERED = 4096
"""Answers for kinds of pods that are remembered: pods of a Job or a StatefulSet each have labels of their own."""

MAX_WEIGHT = 200_000
"""Of the rules and ports at all places where an ipBlock begins or ends. Policies that people write have some hundreds;
rules that are all about everything but one address each would cost their number squared."""

NamespaceLabels = Callable[[str], Mapping[str, str] | None]
"""Labels of a namespace; None while it is not known."""


class DirectionRules:
    """The rules of all policies that isolate a pod in this direction.

    rules: None when no policy does
    own:   ports that the pod itself has named: what ingress rules mean by a name
    names_pods: whether what an address may use depends on the pods that have it
    too_large:  the rules cannot be compiled (MAX_WEIGHT): nothing is allowed

    Names in egress rules are those of the pod that answers, so a rule may mean other ports for each peer; this is so
    for peers of an ipBlock, too, when a pod has the address.
    """

    def __init__(self, direction: Direction, rules: Sequence[Rule] | None, own: Iterable[NamedPort]) -> None:
        self.direction = direction
        self._open = rules is None
        self.too_large = False
        fixed = tuple(own) if direction == "ingress" else ()
        try:
            self._take(rules or (), fixed)
        except TooLargeError:
            self.too_large = True
            self._take((), fixed)
        self.names_pods = any(rule.pods for rule in self._rules) or any(self._named)
        self._by_cover: dict[frozenset[int], Ports] = {}
        self._by_traits: dict[tuple[Traits, frozenset[int]], Ports] = {}

    def _take(self, rules: Sequence[Rule], own: Iterable[NamedPort]) -> None:
        """Raises TooLargeError."""
        self._rules = rules
        self._named = [self.direction == "egress" and rule.has_named_ports for rule in rules]
        self._ports = [resolve_ports(rule.ports, own) for rule in rules]
        weights = [len(ports) + 1 for ports in self._ports]
        self._covers = {
            family: Cover(
                {number: rule.ranges.get(family, ()) for number, rule in enumerate(rules)}, weights, MAX_WEIGHT
            )
            for family in Family
        }

    def forget_matches(self) -> None:
        """The labels of a namespace have changed."""
        self._by_traits.clear()

    def ranges(self) -> Iterator[tuple[Family, str, Ports]]:
        """What addresses may use whoever has them: ranges without overlaps, as nft writes them."""
        for family in Family:
            if self._open:
                yield family, write_range(family, EVERYWHERE[family][0]), ALL_PORTS
                continue
            last: tuple[Range, Ports] | None = None
            for span, covering in self._covers[family].ranges():
                ports = self._covered(covering)
                if last is not None and last[1] == ports and last[0][1] + 1 == span[0]:
                    last = (last[0][0], span[1]), ports
                    continue
                if last is not None and last[1]:
                    yield family, write_range(family, last[0]), last[1]
                last = span, ports
            if last is not None and last[1]:
                yield family, write_range(family, last[0]), last[1]

    def more_for(self, place: Place, pods: Sequence[Traits], namespace_labels: NamespaceLabels) -> Ports:
        """What the address may use because of the pods that have it; empty when `ranges` says the same."""
        if not self.names_pods:
            return ()
        covering = self._covers[place.family].at(place.number)
        if len(pods) == 1:
            return self._more(pods[0], covering, namespace_labels)
        found = merge_ports(part for pod in pods for part in self._more(pod, covering, namespace_labels))
        return merge_ports([*found, *self._covered(covering)]) if found else ()

    def _covered(self, covering: frozenset[int]) -> Ports:
        known = self._by_cover.get(covering)
        if known is None:
            known = self._by_cover[covering] = merge_ports(part for n in covering for part in self._ports[n])
        return known

    def _more(self, pod: Traits, covering: frozenset[int], namespace_labels: NamespaceLabels) -> Ports:
        known = self._by_traits.get((pod, covering))
        if known is None:
            if len(self._by_traits) >= MAX_REMEMBERED:
                self._by_traits.clear()
            known = self._by_traits[pod, covering] = self._compute(pod, covering, namespace_labels(pod.namespace))
        return known

    def _compute(self, pod: Traits, covering: frozenset[int], namespace_labels: Mapping[str, str] | None) -> Ports:
        labels, covered = dict(pod.labels), self._covered(covering)
        found = merge_ports(
            [
                *covered,
                *(
                    part
                    for number, rule in enumerate(self._rules)
                    if number in covering
                    or any(peer.matches(pod.namespace, labels, namespace_labels) for peer in rule.pods)
                    for part in (resolve_ports(rule.ports, pod.ports) if self._named[number] else self._ports[number])
                ),
            ]
        )
        return () if found == covered else found
