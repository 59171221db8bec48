"""The policies of one pod, compiled, and kept up with pods that come and go. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence

from vk_provider.netpolicy.direction import DirectionRules, NamespaceLabels
from vk_provider.netpolicy.nft import FRAME, peer_map, range_key, write_verdict
from vk_provider.netpolicy.peer import Place, Traits
from vk_provider.netpolicy.policy import DIRECTIONS, Policy
from vk_provider.netpolicy.ports import ALL_PORTS, NamedPort, Ports, name_ports
from vk_provider.netpolicy.table import Key, Table
from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.fragment import digest_text

_FRAME_DIGEST = digest_text("\n".join(FRAME))


class CompiledPolicies:
    """What several policies together say to each pod that all of them select.

    own:    ports that the pod has named, as far as ingress rules name them
    names_pods: whether the table depends on the pods of the cluster
    too_large:  directions in which there are too many rules: nothing is allowed there
    newest: the table that `freeze` gave last
    """

    def __init__(self, policies: Sequence[Policy], own: Iterable[NamedPort]) -> None:
        own = tuple(own)
        self._directions = []
        for name in DIRECTIONS:
            isolating = [policy.rules[name] for policy in policies if name in policy.rules]
            rules = [rule for rules in isolating for rule in rules] if isolating else None
            self._directions.append(DirectionRules(name, rules, own))
        self.names_pods = any(direction.names_pods for direction in self._directions)
        self.too_large = frozenset(item.direction for item in self._directions if item.too_large)
        self._verdicts: dict[Key, str] = {}
        self._ports: dict[str, Ports] = {}
        self._uses: Counter[str] = Counter()
        self._digest = _FRAME_DIGEST
        self._changed: set[Key] = set()
        self.newest: Table | None = None
        for direction in self._directions:
            for family, span, ports in direction.ranges():
                self._set(range_key(direction.direction, family, span), ports)
        self._peer_maps = [
            (direction, {family: peer_map(direction.direction, family) for family in Family})
            for direction in self._directions
        ]

    def forget_matches(self) -> None:
        """The labels of a namespace have changed; `update` for the addresses of its pods must follow."""
        for direction in self._directions:
            direction.forget_matches()

    def update(self, place: Place, pods: Sequence[Traits], namespace_labels: NamespaceLabels) -> None:
        """The pods at an address have changed; none: nobody has it."""
        for direction, names in self._peer_maps:
            ports = direction.more_for(place, pods, namespace_labels) if pods else ()
            self._set((names[place.family], place.text), ports)

    def freeze(self) -> Table:
        revision = str(ipaddress.IPv6Address(self._digest % (1 << 128)))
        if self.newest is not None and self.newest.revision == revision:
            return self.newest
        base = self.newest.revision if self.newest else ""
        changed, self._changed = frozenset(self._changed), set()
        self.newest = Table(revision, dict(self._verdicts), dict(self._ports), base, changed)
        return self.newest

    def _set(self, key: Key, ports: Ports) -> None:
        """Ports () take the element away."""
        before = self._verdicts.get(key)
        after = write_verdict(ports) if ports else None
        if before == after:
            return
        self._changed.add(key)
        if before is not None:
            del self._verdicts[key]
            self._digest -= _digest(key, before)
            self._release(before)
        if after is not None:
            self._verdicts[key] = after
            self._digest += _digest(key, after)
            if ports != ALL_PORTS:
                name = name_ports(ports)
                self._uses[name] += 1
                self._ports[name] = ports

    def _release(self, verdict: str) -> None:
        name = verdict.removeprefix("jump ")
        if name in self._uses:
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name], self._ports[name]


def _digest(key: Key, verdict: str) -> int:
    return digest_text("\t".join((*key, verdict)))
