"""Reads a compiled table as the rules of the frame and the counted chains do, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.affinity import write_class
from vk_provider.serviceproxy.chain import LOCAL_OFFSET
from vk_provider.serviceproxy.fragment import HealthCheck
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.table import Table

NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}
_CHAIN = re.compile(r"goto (?:nodeport-)?(cluster|local|external)[46]-(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Reading:
    """What one frontend does. verdict: "refused", "dropped", "nothing" or "cluster", "local", "external" (masqueraded),
    "external-local"; endpoints: for external-local those of the Node's own clients, then `outside`."""

    verdict: str
    endpoints: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    outside_dropped: bool = False
    affinity_s: int = 0


def build_index(services: Iterable[Json], slices: Iterable[Json] = (), node: str = "n1") -> ServiceIndex:
    index = ServiceIndex(node, ("10.255.0.1",))
    for item in services:
        index.apply_service(item)
    for item in slices:
        index.apply_slice(item)
    return index


def contents(table: Table) -> dict[str, dict[str, str]]:
    """Sets and maps by name; AssertionError when an element is there twice."""
    found: dict[str, dict[str, str]] = {}
    for element in table.elements():
        container = found.setdefault(element.container, {})
        assert element.key not in container, f"{element} twice"
        container[element.key] = element.value
    return found


def list_checks(table: Table) -> list[HealthCheck]:
    """What is answered at the healthCheckNodePorts."""
    checks = (fragment.health_check for fragment in table.fragments.values())
    return [check for check in checks if check is not None]


def read(table: Table, address: str, port: int = 80, protocol: str = "TCP") -> Reading:
    """`address` "" or "6": a node port, of IPv4 or IPv6."""
    maps = contents(table)
    family = "6" if ":" in address or address == "6" else "4"
    nodeport = address in ("", "6")
    key = f"{NUMBERS[protocol]} . {port}" if nodeport else f"{address} . {NUMBERS[protocol]} . {port}"
    prefix = "nodeport-" if nodeport else ""
    verdict = maps.get(f"service-{'nodeports' if nodeport else 'ips'}{family}", {}).get(key)
    none = maps.get(f"no-endpoint-{'nodeports' if nodeport else 'services'}{family}", {}).get(key)
    if verdict is None:
        return Reading({None: "nothing", "drop": "dropped", "goto reject-chain": "refused"}[none])
    if "external-local" in verdict:
        cluster = maps[f"{prefix}cluster-policy{family}"][key]
        local = maps.get(f"{prefix}local-policy{family}", {}).get(key)
        affinity_s, inside = _list(maps, prefix, family, key, cluster)
        outside = _list(maps, prefix, family, key, local)[1] if local else []
        return Reading("external-local", inside, outside, none == "drop", affinity_s)
    assert none is None
    affinity_s, endpoints = _list(maps, prefix, family, key, verdict)
    matched = _CHAIN.fullmatch(verdict)
    assert matched
    return Reading(matched[1], endpoints, affinity_s=affinity_s)


def _list(maps: dict[str, dict[str, str]], prefix: str, family: str, key: str, verdict: str) -> tuple[int, list[str]]:
    """(affinity in seconds, endpoints) of a chain: each slot that it may draw has one."""
    matched = _CHAIN.fullmatch(verdict)
    assert matched, verdict
    kind, count, affinity_s = matched[1], int(matched[2]), int(matched[3] or 0)
    first = LOCAL_OFFSET if kind == "local" else 0
    slots = [write_class(slot) for slot in range(first, first + count)]
    if not affinity_s:
        return 0, [maps[f"{prefix}endpoints{family}"][f"{slot} . {key}"] for slot in slots]
    mark = maps[f"{prefix}affinity{family}"][key]
    numbers = [maps[f"affinity-picks{family}"][f"{slot} . {mark}"] for slot in slots]
    known = maps[f"affinity-{'local-' if kind == 'local' else ''}endpoints{family}"]
    return affinity_s, [known[f"{mark} . {number}"] for number in numbers]
