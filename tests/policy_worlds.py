"""NetworkPolicies and the clusters around them, made up at random: objects as the API server sends them.

Everybody has one of the addresses that the bed of tests/integration/serviceproxy answers at; the pod `SUBJECT` is the
one whose policies are looked at.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.service_objects import NODE4, NODE6
from vk_provider.jsontypes import Json

SUBJECT = "subject"
SUBJECT4, SUBJECT6 = "10.1.0.1", "fd00:1::1"
PEERS4 = ["10.1.0.2", "10.1.0.3", "10.1.128.1", "10.1.128.2", "10.1.128.3", "198.51.100.1"]
PEERS6 = ["fd00:1::2", "fd00:1::3", "fd00:2::1", "fd00:2::2", "fd00:2::3"]
CLIENTS = ["192.168.0.1", "192.168.7.9", "fd00:9::5"]
"""They ask and do not answer."""
PORTS = (8080, 8081)
LABELS = {"app": ("web", "db", "dns"), "tier": ("front", "back"), "new": ("",)}
BLOCKS = {
    "0.0.0.0/0": ["10.1.0.0/16", "192.168.0.0/17", "198.51.100.1/32", "10.1.128.1/32"],
    "10.1.0.0/16": ["10.1.0.0/17", "10.1.128.0/30", "10.1.0.3/32"],
    "10.1.128.0/17": ["10.1.128.0/31", "10.1.128.3/32"],
    "192.168.0.0/16": ["192.168.7.0/24", "192.168.0.1/32"],
    "198.51.100.1/32": [],
    "::/0": ["fd00:9::/64", "fd00:2::2/128", "fd00:1::/64"],
    "fd00:2::/64": ["fd00:2::/127", "fd00:2::3/128"],
    f"{NODE4}/32": [],
    f"{NODE6}/128": [],
}


@dataclass
class World:
    """namespaces: labels by name; pods by UID; policies by namespace/name."""

    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    policies: dict[str, Json] = field(default_factory=dict)

    def copy(self) -> World:
        return copy.deepcopy(self)


def make_pod(
    name: str, namespace: str, labels: dict[str, str], *ips: str, ports: list[Json] | None = None, **more: Any
) -> Json:
    """more: phase, hostNetwork."""
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1", "labels": labels},
        "spec": {
            "containers": [{"name": "c", "ports": ports or []}],
            **({"hostNetwork": True} if more.get("hostNetwork") else {}),
        },
        "status": {"phase": more.get("phase", "Running"), "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]},
    }


def make_policy(name: str, namespace: str = "a", selector: Json | None = None, **spec: Any) -> Json:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"podSelector": selector or {}, **spec}}


def generate_world(chance: random.Random) -> World:
    world = World({name: _labels(chance) | {"kubernetes.io/metadata.name": name} for name in ("a", "b", "c")})
    world.pods[SUBJECT] = make_pod(
        SUBJECT, "a", {"app": chance.choice(LABELS["app"])}, SUBJECT4, SUBJECT6, ports=_named(chance)
    )
    places4, places6 = chance.sample(PEERS4, len(PEERS4)), chance.sample(PEERS6, len(PEERS6))
    for number in range(chance.randint(2, 6)):
        ips = [places4.pop(), *([places6.pop()] if places6 and chance.random() < 0.6 else [])]
        _add_pod(world, chance, f"p{number}", ips)
    for number in range(chance.choice((0, 1, 2, 2, 3, 3))):
        _add_policy(world, chance, f"np{number}")
    return world


def generate_history(seed: int, steps: int) -> Iterator[World]:
    """A world, and what it becomes by one to three changes at a time."""
    chance = random.Random(seed)
    world = generate_world(chance)
    yield world
    for _ in range(steps - 1):
        world = world.copy()
        for _ in range(chance.randint(1, 3)):
            _change(world, chance)
        yield world


def _change(world: World, chance: random.Random) -> None:
    """Policies seldom: a table whose policies stay is the one that is brought up to date."""
    pods = [uid for uid in world.pods if uid != SUBJECT]
    match chance.choice(
        ("policy", "no policy", "labels", "labels", "labels", "namespace", "namespace", "pod", "no pod")
    ):
        case "policy":
            _add_policy(world, chance, f"np{chance.randrange(4)}")
        case "no policy" if world.policies:
            del world.policies[chance.choice(list(world.policies))]
        case "labels" if pods:
            world.pods[chance.choice(pods)]["metadata"]["labels"] = _labels(chance)
        case "namespace":
            name = chance.choice(list(world.namespaces))
            world.namespaces[name] = _labels(chance) | {"kubernetes.io/metadata.name": name}
        case "pod":
            taken = {entry["ip"] for pod in world.pods.values() for entry in pod["status"]["podIPs"]}
            free = [ip for ip in (*PEERS4, *PEERS6) if ip not in taken]
            if free:
                _add_pod(world, chance, f"p{chance.randrange(100, 110)}", [chance.choice(free)])
        case "no pod" if pods:
            del world.pods[chance.choice(pods)]


def _add_pod(world: World, chance: random.Random, name: str, ips: list[str]) -> None:
    unusual = chance.random()
    world.pods[name] = make_pod(
        name,
        chance.choice("aabc"),
        _labels(chance),
        *ips,
        ports=_named(chance),
        phase="Succeeded" if unusual < 0.1 else "Running",
        hostNetwork=0.1 <= unusual < 0.2,
    )


def _add_policy(world: World, chance: random.Random, name: str) -> None:
    namespace = chance.choice("aaaaab")
    spec: Json = {"podSelector": _selector(chance, small=True)}
    types = chance.choice((None, ["Ingress"], ["Egress"], ["Ingress", "Egress"], ["Ingress", "Egress"]))
    if types is not None:
        spec["policyTypes"] = types
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        rules = [_rule(chance, peers) for _ in range(chance.choice((0, 1, 1, 2)))]
        if rules:
            spec[direction] = rules
    world.policies[f"{namespace}/{name}"] = make_policy(name, namespace) | {"spec": spec}


def _rule(chance: random.Random, peers: str) -> Json:
    rule: Json = {}
    if chance.random() < 0.85:
        rule[peers] = [_peer(chance) for _ in range(chance.choice((1, 1, 2)))]
    if chance.random() < 0.6:
        rule["ports"] = [_port(chance) for _ in range(chance.choice((1, 1, 2)))]
    return rule


def _peer(chance: random.Random) -> Json:
    kind = chance.randrange(4)
    if kind == 0:
        cidr = chance.choice(list(BLOCKS))
        excluded = chance.sample(BLOCKS[cidr], chance.randint(0, min(2, len(BLOCKS[cidr]))))
        return {"ipBlock": {"cidr": cidr, **({"except": excluded} if excluded else {})}}
    peer: Json = {}
    if kind in (1, 3):
        peer["podSelector"] = _selector(chance)
    if kind in (2, 3):
        peer["namespaceSelector"] = _selector(chance)
    return peer


def _port(chance: random.Random) -> Json:
    kind, port = chance.randrange(5), {}
    if chance.random() < 0.7:
        port["protocol"] = chance.choice(("TCP", "TCP", "UDP", "SCTP"))
    if kind == 0:
        port["port"] = chance.choice(("web", "metrics", "dns"))
    elif kind == 1:
        port |= {"port": chance.choice((1, 8080, 8081)), "endPort": chance.choice((8081, 8082, 65535))}
    elif kind < 4:
        port["port"] = chance.choice(PORTS)
    return port


def _named(chance: random.Random) -> list[Json]:
    found = []
    for name in ("web", "metrics", "dns"):
        if chance.random() < 0.5:
            protocol = chance.choice(("TCP", "TCP", "UDP"))
            found.append({"name": name, "containerPort": chance.choice(PORTS), "protocol": protocol})
    return found


def _labels(chance: random.Random) -> dict[str, str]:
    return {key: chance.choice(values) for key, values in LABELS.items() if chance.random() < 0.6}


def _selector(chance: random.Random, small: bool = False) -> Json:
    """small: mostly one that selects many."""
    if chance.random() < (0.6 if small else 0.25):
        return {}
    key = chance.choice(list(LABELS))
    if chance.random() < 0.5:
        return {"matchLabels": {key: chance.choice(LABELS[key])}}
    operator = chance.choice(("In", "NotIn", "Exists", "DoesNotExist"))
    expression: Json = {"key": key, "operator": operator}
    if operator in ("In", "NotIn"):
        expression["values"] = list(chance.sample(LABELS[key], chance.randint(1, len(LABELS[key]))))
    return {"matchExpressions": [expression]}
