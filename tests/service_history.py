"""Random Services and EndpointSlices, and what is worth trying with them. Everything follows from the seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

from tests.service_objects import (
    HOST_PORT,
    NODE,
    NODE4,
    NODE6,
    PODS,
    PODS6,
    PORTS,
    make_endpoint,
    make_port,
    make_service,
    make_slice,
)
from vk_provider.jsontypes import Json

ZONES = ("z1", "z2")
SUFFIXES = "acbde"
"""Slices of a Service: a and b for IPv4, c and d for IPv6, e for names."""
RANGES = ("192.168.0.0/17", " 192.168.128.0/17", "10.1.0.0/17", f"{NODE4}/32", "198.18.0.0/15", "fd00:9::/64", "bad")
SHORT_AFFINITY_S, LONG_AFFINITY_S = 2, (60, 10800)
"""Timeouts that end within a test, and that do not."""
Objects = tuple[dict[str, Json], dict[str, Json]]
"""Services and EndpointSlices by namespace/name."""


def generate_history(seed: int, lane: int, steps: int) -> Iterator[Objects]:
    """`steps` states of one namespace; each changes a little of the one before. `lane` keeps addresses and node ports
    apart from those of other histories in the same proxy."""
    chance = random.Random(seed)
    world = _World(chance, lane)
    for number in range(4):
        world.add(number)
    for _ in range(steps):
        yield dict(world.services), {key: made for key, made in world.slices.items() if made is not None}
        for _ in range(chance.choice((1, 1, 2, 4))):
            world.change()


class _World:
    def __init__(self, chance: random.Random, lane: int) -> None:
        self.chance, self.lane = chance, lane
        self.services: dict[str, Json] = {}
        self.slices: dict[str, Json] = {}

    def add(self, number: int) -> None:
        key = f"lane{self.lane}/s{number}"
        self.services[key] = self._service(key, number)
        for suffix in SUFFIXES[: self.chance.choice((0, 1, 2, 3))]:
            self._slice(key, suffix)

    def change(self) -> None:
        """A slice anew (four of six times), a Service anew, or one less."""
        chance, number = self.chance, self.chance.randrange(4)
        key = f"lane{self.lane}/s{number}"
        what = chance.randrange(6)
        if what < 4:
            suffix = chance.choice(SUFFIXES)
            if chance.random() < 0.2:
                self.slices.pop(f"{key}-{suffix}", None)
            else:
                self._slice(key, suffix)
        elif what == 4 or key not in self.services:
            self.services[key] = self._service(key, number)
        else:
            del self.services[key]

    def _service(self, key: str, number: int) -> Json:
        chance, lane = self.chance, self.lane
        kind = chance.choices(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"), (5, 3, 4, 0.3))[0]
        ips = [f"10.96.{lane}.{number + 2}", f"fd00:96::{lane:x}:{number + 2:x}"]
        ips = chance.choice((ips[:1], ips[:1], ips[1:], ips, ips[::-1]))
        spec: Json = {"type": kind}
        if chance.random() < 0.2:
            spec["internalTrafficPolicy"] = "Local"
        if chance.random() < 0.25:
            timeout_s = chance.choice((SHORT_AFFINITY_S, SHORT_AFFINITY_S, *LONG_AFFINITY_S))
            spec |= {
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout_s}},
            }
        if kind != "ExternalName" and chance.random() < 0.3:
            spec["externalIPs"] = [chance.choice((f"203.0.113.{lane * 4 + number}", f"fd00:e::{lane:x}{number}"))]
        if (kind in ("NodePort", "LoadBalancer") or spec.get("externalIPs")) and chance.random() < 0.5:
            spec["externalTrafficPolicy"] = "Local"
        if kind == "LoadBalancer" and chance.random() < 0.5:
            spec["loadBalancerSourceRanges"] = chance.sample(RANGES, chance.choice((1, 2)))
        if chance.random() < 0.05:
            spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
        made = make_service(key, *ips, ports=self._ports(kind, number), ingress=self._ingress(kind, number), **spec)
        if chance.random() < 0.05:
            made["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
        return made

    def _ports(self, kind: str, number: int) -> list[Json]:
        first = 30000 + self.lane * 20 + number * 4
        node_port = first if kind in ("NodePort", "LoadBalancer") else 0
        ports = [make_port(80, "TCP", "web", node_port)]
        if self.chance.random() < 0.4:
            ports.append(make_port(80, "UDP", "dns", node_port and first + self.chance.choice((0, 1))))
        if self.chance.random() < 0.3:
            ports.append(make_port(443, "TCP", "tls", node_port and first + 2))
        if self.chance.random() < 0.25:
            ports.append(make_port(80, "SCTP", "sig", node_port and first + self.chance.choice((0, 3))))
        return ports

    def _ingress(self, kind: str, number: int) -> list[Json]:
        if kind != "LoadBalancer":
            return []
        vip: Json = {
            "ip": self.chance.choice((f"203.0.115.{self.lane * 4 + number}", f"fd00:1b::{self.lane:x}{number}"))
        }
        mode = self.chance.choice((None, "VIP", "VIP", "Proxy"))
        return [vip | ({"ipMode": mode} if mode else {}), *([{"hostname": "lb.example"}] if mode == "VIP" else [])]

    def _slice(self, key: str, suffix: str) -> None:
        """The family is in the name: a slice never changes it (the API forbids that, and kube-proxy relies on it)."""
        chance = self.chance
        family = {"a": "IPv4", "b": "IPv4", "c": "IPv6", "d": "IPv6", "e": "FQDN"}[suffix]
        pods = {"IPv4": PODS, "IPv6": PODS6, "FQDN": ["a.example", "b.example"]}[family]
        self.slices.pop(f"{key}-{suffix}", None)
        hinted, all_terminate = chance.random() < 0.35, chance.random() < 0.15
        endpoints = [
            self._endpoint(key, address, hinted, all_terminate)
            for address in chance.sample(pods, chance.choice((0, 1, 1, 2, 2, min(4, len(pods)))))
        ]
        port = chance.choice(PORTS)
        ports: list[Json] = [
            {"name": "web", "protocol": "TCP", "port": port},
            {"name": "dns", "protocol": "UDP", "port": port},
            {"name": "tls", "protocol": "TCP", "port": chance.choice(PORTS)},
            {"name": "sig", "protocol": "SCTP", "port": chance.choice(PORTS)},
        ]
        if chance.random() < 0.1 and family != "FQDN":
            ports = [{"name": "web", "protocol": "TCP", "port": HOST_PORT}]
            endpoints = [make_endpoint(NODE4 if family == "IPv4" else NODE6)]
        elif chance.random() < 0.1:
            ports = [{"name": "web", "protocol": "TCP"}, {"name": "dns", "protocol": "UDP", "port": port}]
        made = make_slice(key, *endpoints, ports=ports, suffix=suffix, family=family)
        if chance.random() < 0.03:
            made["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
        self.slices[f"{key}-{suffix}"] = made

    def _endpoint(self, key: str, address: str, hinted: bool, all_terminate: bool) -> Json:
        """What the controller writes of a pod; addresses of the Node's own pods are on the Node.

        An address that is in another slice of the Service as well is there in the same words: kube-proxy takes one of
        them by chance, except that one that does not terminate goes before one that does.
        """
        others = [
            endpoint
            for name, item in self.slices.items()
            if name.startswith(f"{key}-")
            for endpoint in item["endpoints"]
            if endpoint["addresses"] == [address]
        ]
        if others:
            return copy.deepcopy(self.chance.choice(others))
        states = [self._state(address, hinted, terminates) for terminates in (False, True)]
        if all_terminate or self.chance.random() < 0.25:
            return states[1]
        return states[0]

    def _state(self, address: str, hinted: bool, terminates: bool) -> Json:
        chance = self.chance
        local = address.startswith(("10.1.0.", "fd00:1:"))
        node = NODE if local else "" if address.startswith("198.") else chance.choice(("n2", "n3"))
        more: dict[str, Any] = {}
        if hinted and chance.random() < 0.95:
            more["zones"] = chance.sample(ZONES, chance.choice((1, 1, 2)))
            if chance.random() < 0.5:
                more["nodes"] = [chance.choice((NODE, "n2"))]
        ready = chance.random() < (0.15 if terminates else 0.85)  # terminating and ready: publishNotReadyAddresses
        serving = ready or (terminates and chance.random() < 0.8)
        return make_endpoint(address, node, ready, serving=serving, terminating=terminates, **more)
