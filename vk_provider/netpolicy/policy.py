"""What a NetworkPolicy says (k8s.io/api networking/v1). Pure.

What cannot be read (the API server would not have accepted it) allows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vk_provider.jsontypes import Json
from vk_provider.netpolicy.blocks import EVERYWHERE, Range, merge_ranges, parse_block
from vk_provider.netpolicy.ports import MAX_PORT, PortMatch
from vk_provider.podmodel.labels import matches_selector
from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.service import PROTOCOLS

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
_PEERS: dict[Direction, str] = {"ingress": "from", "egress": "to"}


@dataclass(frozen=True, slots=True)
class PodPeer:
    """Pods by selectors. pods, namespaces: metav1.LabelSelectors, None where the peer has none: all pods of the
    namespaces, and the pods of the policy's own namespace `namespace`."""

    namespace: str
    pods: Json | None
    namespaces: Json | None

    def matches(self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str] | None) -> bool:
        """namespace_labels: None while nothing is known of the pod's namespace."""
        if self.namespaces is None:
            if namespace != self.namespace:
                return False
        elif namespace_labels is None or not matches_selector(self.namespaces, namespace_labels):
            return False
        return self.pods is None or matches_selector(self.pods, labels)


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of spec.ingress or spec.egress.

    ports:  None for all, of every protocol
    ranges: addresses of its ipBlocks by family; everything, when it names no peers
    pods:   peers that are pods
    """

    ports: tuple[PortMatch, ...] | None
    ranges: Mapping[Family, tuple[Range, ...]]
    pods: tuple[PodPeer, ...]

    @property
    def has_named_ports(self) -> bool:
        return any(port.name for port in self.ports or ())


@dataclass(frozen=True, slots=True)
class Policy:
    """rules: by direction; a direction that the policy does not isolate is not there."""

    namespace: str
    name: str
    selector: Json
    rules: Mapping[Direction, tuple[Rule, ...]]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return namespace == self.namespace and matches_selector(self.selector, labels)

    @property
    def names_namespaces(self) -> bool:
        """Whether the labels of the cluster's namespaces must be known."""
        rules = (rule for rules in self.rules.values() for rule in rules)
        return any(peer.namespaces is not None for rule in rules for peer in rule.pods)


def parse_policy(item: Json) -> Policy:
    metadata, spec = item.get("metadata") or {}, item.get("spec") or {}
    namespace = str(metadata.get("namespace") or "")
    written: dict[Direction, list[Json]] = {name: spec.get(name) or [] for name in DIRECTIONS}
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if written["egress"] else [])]
    return Policy(
        namespace=namespace,
        name=str(metadata.get("name") or ""),
        selector=spec.get("podSelector") or {},
        rules={
            name: tuple(_parse_rule(rule, _PEERS[name], namespace) for rule in written[name])
            for name in DIRECTIONS
            if name.capitalize() in types
        },
    )


def _parse_rule(rule: Json, peers: str, namespace: str) -> Rule:
    """A list that is empty or missing does not restrict; one whose entries all cannot be read allows nothing."""
    written = rule.get("ports") or []
    ports = tuple(port for item in written if (port := _parse_port(item))) if written else None
    if not rule.get(peers):
        return Rule(ports, EVERYWHERE, ())
    pods: list[PodPeer] = []
    ranges: dict[Family, list[Range]] = {}
    for peer in rule[peers]:
        if peer.get("ipBlock") is not None:
            parsed = parse_block(peer["ipBlock"])
            if parsed is not None:
                ranges.setdefault(parsed[0], []).extend(parsed[1])
        elif peer.get("podSelector") is not None or peer.get("namespaceSelector") is not None:
            pods.append(PodPeer(namespace, peer.get("podSelector"), peer.get("namespaceSelector")))
    return Rule(ports, {family: merge_ranges(items) for family, items in ranges.items()}, tuple(pods))


def _parse_port(item: Json) -> PortMatch | None:
    protocol = PROTOCOLS.get(item.get("protocol") or "TCP")
    port, end = item.get("port"), item.get("endPort")
    if protocol is None:
        return None
    if port is None:
        return PortMatch(protocol, "", 0, MAX_PORT) if end is None else None
    if isinstance(port, str):
        return PortMatch(protocol, port, 0, 0) if port and end is None else None
    last = port if end is None else end
    return PortMatch(protocol, "", port, last) if _is_port(port) and _is_port(last) and port <= last else None


def _is_port(written: Any) -> bool:
    return type(written) is int and 0 < written <= MAX_PORT
