"""Random Services with affinity to their clients, and whether it ends with its timeout."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.integration.serviceproxy.bed import Answer, Attempt, Bed
from tests.service_history import Objects
from tests.service_objects import NODE4, NODE6, PODS, PODS6, make_endpoint, make_port, make_service, make_slice

SHORT_S, LONG_S = 4, (60, 10800)
PAUSE_S = SHORT_S + 1.5
CLIENTS, SERVICES = 16, 12
"""All of a Service's clients choose the endpoint of before, of two, once in 65,000 times."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Of one frontend: each asks for itself."""

    service: str
    timeout_s: int
    attempts: tuple[Attempt, ...]


def make_objects(chance: random.Random) -> Objects:
    services, slices = {}, {}
    for number in range(SERVICES):
        six, protocol = chance.random() < 0.4, chance.choice(("TCP", "TCP", "UDP"))
        family = "IPv6" if six else "IPv4"
        ip = f"fd00:96::{number + 2:x}" if six else f"10.96.0.{number + 2}"
        kind = chance.choice(("ClusterIP", "NodePort"))
        port = make_port(80, protocol, "p", 30100 + number if kind == "NodePort" else 0)
        name = f"sticky/s{number}"
        services[name] = made = make_service(name, ip, ports=[port], type=kind, sessionAffinity="ClientIP")
        # The first two have the two kinds of timeout, whatever chance brings.
        timeout_s = (SHORT_S, LONG_S[1])[number] if number < 2 else chance.choice((SHORT_S, SHORT_S, *LONG_S))
        made["spec"]["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": timeout_s}}
        pods = chance.sample(PODS6 if six else PODS, chance.choice((2, 3, 4)))
        ports = [{"name": "p", "protocol": protocol, "port": 8080}]
        slices[f"{name}-a"] = make_slice(name, *map(make_endpoint, pods), ports=ports, suffix="a", family=family)
    return services, slices


def list_clients(objects: Objects) -> list[Clients]:
    made, numbers = [], itertools.count(1)
    for name, service in objects[0].items():
        spec = service["spec"]
        (port,), (ip,) = spec["ports"], spec["clusterIPs"]
        timeout_s = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        frontends = [(ip, port["port"])]
        if "nodePort" in port:
            frontends.append((NODE6 if ":" in ip else NODE4, port["nodePort"]))
        for address, number in frontends:
            sources = [_source(next(numbers), ":" in ip) for _ in range(CLIENTS)]
            attempts = tuple(Attempt(source, port["protocol"], address, number) for source in sources)
            made.append(Clients(f"{name} {address}:{number}", timeout_s, attempts))
    return made


def _source(number: int, six: bool) -> str:
    high, low = divmod(number, 250)
    return f"fd00:9::{number:x}" if six else f"192.168.{high}.{low + 1}"


def outcomes(bed: Bed, clients: Sequence[Clients]) -> dict[str, str]:
    """By frontend: "stays" when no client was moved after the pause, "ends" when some were, "moved" when some were
    before it already."""
    first, second = _ask(bed, clients), _ask(bed, clients)
    time.sleep(PAUSE_S)
    third = _ask(bed, clients)
    found = {}
    for each in clients:
        before, at_once, later = (answers[each.service] for answers in (first, second, third))
        assert all(answer.kind == "answered" for answer in (*before, *at_once, *later)), (each.service, before, later)
        found[each.service] = "moved" if before != at_once else "stays" if later == before else "ends"
    return found


def _ask(bed: Bed, clients: Sequence[Clients]) -> dict[str, list[Answer]]:
    answers = iter(bed.connect([attempt for each in clients for attempt in each.attempts], 3.0))
    return {each.service: [next(answers) for _ in each.attempts] for each in clients}
