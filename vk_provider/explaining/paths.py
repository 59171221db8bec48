"""Where a connection may arrive, and what the policies at both ends say of each of these ways."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from vk_provider.explain.facts import Path, PodFacts, Source, choose_address
from vk_provider.explaining.pods import describe
from vk_provider.explaining.sources import Policies
from vk_provider.netpolicy.judgement import Connection, Judgement
from vk_provider.netpolicy.policy import Direction
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.address import family_of
from vk_provider.serviceproxy.lookup import Destination

RuleKey = tuple[str, str, int]
"""(policy, direction, number of the rule)."""


class PathFinder:
    """source: the pod that asks. own: the provider's pods by address."""

    def __init__(self, source: Source, own: Mapping[str, PodRecord], policies: Policies) -> None:
        self._source, self._own, self._policies = source, own, policies
        self._foreign: dict[str, PodFacts] = {}

    def note_pods(self, pods: Mapping[str, PodFacts]) -> None:
        """Pods by address that are known from objects of the API."""
        self._foreign.update(pods)

    async def find_all(self, places: Iterable[Destination], protocol: int, *, masqueraded: bool) -> tuple[Path, ...]:
        """Each is a look at two tables of policies, which may have thousands of peers: others get their turn between
        them."""
        paths: list[Path] = []
        for place in places:
            paths.append(self.find(place, protocol, masqueraded=masqueraded))
            await asyncio.sleep(0)
        return tuple(paths)

    def find(self, place: Destination, protocol: int, *, masqueraded: bool) -> Path:
        source = self._source.pod
        if place.address in source.addresses:
            return Path(place, source, None, None, place.address)
        record = self._own.get(place.address)
        pod = describe(record) if record is not None else self._foreign.get(place.address)
        judge = self._policies.judge
        judged: dict[Direction, tuple[PodFacts, Judgement | None]] = {}
        if not source.host_network and place.address not in self._source.instance_addresses:
            judged["egress"] = source, judge(source.uid, Connection("egress", place.address, protocol, place.port))
        family = family_of(place.address)
        own = source.address_in(family)
        seen_as = (choose_address(self._source.instance_addresses, family) or own) if masqueraded else own
        if pod is not None and pod.is_ours and not pod.host_network:
            judged["ingress"] = pod, judge(pod.uid, Connection("ingress", seen_as, protocol, place.port))
        said = {direction: judgement for direction, (_, judgement) in judged.items()}
        unjudged = frozenset(asked.key for asked, judgement in judged.values() if judgement is None)
        return Path(place, pod, said.get("egress"), said.get("ingress"), seen_as, unjudged)

    def describe_rules(self, paths: Iterable[Path]) -> dict[RuleKey, str]:
        """The rules that have let them through, in words."""
        return {
            (said.rule.policy, direction, said.rule.number): self._policies.describe_rule(direction, said.rule)
            for path in paths
            for direction, said in _directions(path)
            if said is not None and said.rule is not None
        }


def _directions(path: Path) -> tuple[tuple[Direction, Judgement | None], ...]:
    return ("egress", path.egress), ("ingress", path.ingress)
