"""Rules of network policies in words, as `kubectl describe` has them in lists. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from vk_provider.jsontypes import Json
from vk_provider.netpolicy.blocks import EVERYWHERE, write_range
from vk_provider.netpolicy.policy import Direction, PodPeer, Rule
from vk_provider.netpolicy.ports import MAX_PORT, PortMatch
from vk_provider.serviceproxy.service import PROTOCOLS

MAX_NAMED = 3
"""Peers, ranges and ports that are named; of the others the number is."""
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_OPERATORS = {"In": "in", "NotIn": "notin"}


def describe_rule(direction: Direction, rule: Rule) -> str:
    """Such as `from pods app=web in namespaces team=x; TCP web, 8080-8090`."""
    return f"{'from' if direction == 'ingress' else 'to'} {_describe_peers(rule)}; {_describe_ports(rule)}"


def _describe_peers(rule: Rule) -> str:
    if not rule.pods and rule.ranges == EVERYWHERE:
        return "anybody"
    ranges = (write_range(family, span) for family, spans in rule.ranges.items() for span in spans)
    return _list((*map(_describe_peer, rule.pods), *ranges)) or "nobody"


def _describe_peer(peer: PodPeer) -> str:
    pods = f"pods {describe_selector(peer.pods)}" if peer.pods else "all pods"
    if peer.namespaces is None:
        return f"{pods} in {peer.namespace}"
    return f"{pods} in {f'namespaces {describe_selector(peer.namespaces)}' if peer.namespaces else 'all namespaces'}"


def _describe_ports(rule: Rule) -> str:
    return "all ports" if rule.ports is None else _list(map(_describe_port, rule.ports)) or "no port"


def _describe_port(port: PortMatch) -> str:
    protocol = name_protocol(port.protocol)
    if port.name:
        return f"{protocol} {port.name}"
    if (port.first, port.last) == (0, MAX_PORT):
        return f"{protocol} all ports"
    return f"{protocol} {port.first}" if port.first == port.last else f"{protocol} {port.first}-{port.last}"


def describe_selector(selector: Json) -> str:
    """A metav1.LabelSelector as kubectl's -l takes it."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression.get("key"), expression.get("operator")
        values = ",".join(expression.get("values") or [])
        if operator in _OPERATORS:
            parts.append(f"{key} {_OPERATORS[operator]} ({values})")
        else:
            parts.append(f"{key}" if operator == "Exists" else f"!{key}")
    return ",".join(parts)


def name_protocol(number: int) -> str:
    return _NAMES.get(number, str(number))


def _list(words: Iterable[str]) -> str:
    found = list(words)
    more = len(found) - MAX_NAMED
    return ", ".join([*found[:MAX_NAMED], *([f"{more} more"] if more > 0 else [])])
