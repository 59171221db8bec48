"""How long clients stay with their endpoint, followed through a history: the waits pass while the rest is asked."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.integration.serviceproxy.clients import Answer, Attempt
from tests.integration.serviceproxy.ours import LOCAL
from tests.integration.serviceproxy.sides import BEYOND, OUTSIDE, POD, Sides, list_places
from tests.service_history import LONG_AFFINITY_S, SHORT_AFFINITY_S, Objects
from tests.service_objects import NODE, PODS, PODS6, make_endpoint, make_port, make_service, make_slice
from vk_provider.jsontypes import Json

CLIENTS = 16
"""All clients of a Service choose the endpoint of before, of two, once in 65,000 times."""
SPARE_S = 0.5
LANE = 60
"""Of make_lasting: beyond those of the histories."""


def make_lasting() -> Objects:
    """Services of both families with each timeout, to stay through a history that is too short or too wild for many of
    its own to do so."""
    services, slices = {}, {}
    timeouts = (SHORT_AFFINITY_S, *LONG_AFFINITY_S)
    for number, (pods, timeout_s) in enumerate(itertools.product((PODS, PODS6), timeouts), start=2):
        six = ":" in pods[0]
        name, ip = f"lane{LANE}/s{number}", f"fd00:96::{LANE:x}:{number}" if six else f"10.96.{LANE}.{number}"
        config = {"clientIP": {"timeoutSeconds": timeout_s}}
        port = make_port(80, "TCP", "web", 30000 + 20 * LANE + number)
        services[name] = make_service(
            name, ip, ports=[port], type="NodePort", sessionAffinity="ClientIP", sessionAffinityConfig=config
        )
        ports = [{"name": "web", "protocol": "TCP", "port": 8080}]
        endpoints = [make_endpoint(pod, NODE if pod in LOCAL else "n2") for pod in pods[2:5]]
        suffix, family = ("c", "IPv6") if six else ("a", "IPv4")
        slices[f"{name}-{suffix}"] = make_slice(name, *endpoints, ports=ports, suffix=suffix, family=family)
    return services, slices


@dataclass(frozen=True, slots=True)
class _Remembered:
    """Clients of one frontend, which endpoint each has found on either side, and when its timeout is over."""

    objects: list[Json]
    timeout_s: int
    attempts: list[Attempt]
    endpoints: tuple[list[Answer], list[Answer]]
    over: float


class AffinityWatch:
    """`follow` after each change, when both sides have taken it up.

    outcomes: how often clients of kube-proxy were found to stay or not any more, by timeout
    """

    def __init__(self, sides: Sides, chance: random.Random) -> None:
        self._sides, self._chance = sides, chance
        self._remembered: dict[str, _Remembered] = {}
        self.outcomes: Counter[tuple[int, str]] = Counter()

    def follow(self, objects: Objects) -> list[str]:
        """What the two sides do differently with clients of before whose Service is still the same and with new ones,
        in words."""
        self._remembered = {
            key: item for key, item in self._remembered.items() if item.objects == _list_objects(objects, key)
        }
        return [*self._ask_again(), *self._remember(objects)]

    def end(self) -> list[str]:
        """Wait for the last timeouts."""
        time.sleep(max(0.0, max((item.over for item in self._remembered.values()), default=0.0) - time.monotonic()))
        return self._ask_again()

    def _ask_again(self) -> list[str]:
        """Those whose timeout is over, and those who have long to go."""
        now = time.monotonic()
        due = [key for key, item in self._remembered.items() if item.over <= now]
        asked = [self._remembered.pop(key) for key in due]
        found = []
        answers = self._connect([item.attempts for item in asked])
        for key, item, *later in zip(due, asked, *answers, strict=True):
            ours, theirs = (_compare(before, after) for before, after in zip(item.endpoints, later, strict=True))
            self.outcomes[item.timeout_s, theirs] += 1
            if ours != theirs:
                place = item.attempts[0]
                found.append(
                    f"{key} {place.protocol} {place.target}:{place.port}, affinity of {item.timeout_s} s, clients of "
                    f"before: ours {ours}, theirs {theirs}"
                )
        return found

    def _remember(self, objects: Objects) -> list[str]:
        """New clients of the Services in which there is a choice; those of whom some get no answer here alone."""
        keys = [key for key in objects[0] if key not in self._remembered and _list_choices(objects, key)]
        batches = [list(self._list_attempts(_list_choices(objects, key))) for key in keys]
        answers, failing = self._connect(batches), []
        for key, attempts, ours, theirs in zip(keys, batches, *answers, strict=True):
            if _is_choice(ours) and _is_choice(theirs):
                timeout_s = objects[0][key]["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
                over = time.monotonic() + (timeout_s + SPARE_S if timeout_s == SHORT_AFFINITY_S else 0)
                self._remembered[key] = _Remembered(
                    _list_objects(objects, key), timeout_s, attempts, (ours, theirs), over
                )
            elif _are_answered(theirs) and not _are_answered(ours):
                kinds = Counter(answer.kind for answer in ours)
                failing.append(f"{key}, {attempts[0]} and the like: ours {dict(kinds)}, theirs all answered")
        return failing

    def _list_attempts(self, places: list[tuple[str, str, int]]) -> Iterator[Attempt]:
        address, protocol, port = self._chance.choice(places)
        client = self._chance.choice((OUTSIDE, BEYOND, POD))
        for _ in range(CLIENTS):
            source = self._sides.find_source(client, ":" in address, self._sides.new_client())
            yield Attempt(source, protocol, address, port)

    def _connect(self, batches: list[list[Attempt]]) -> tuple[list[list[Answer]], list[list[Answer]]]:
        """The answers of both sides by batch."""
        sides = self._sides.connect([attempt for batch in batches for attempt in batch])
        ours, theirs = ([[next(answers) for _ in batch] for batch in batches] for answers in map(iter, sides))
        return ours, theirs


def _compare(before: list[Answer], after: list[Answer]) -> str:
    if not _are_answered(after):
        return "no longer answered"
    return "stay" if before == after else "are free"


def _are_answered(answers: list[Answer]) -> bool:
    return all(answer.kind == "answered" for answer in answers)


def _is_choice(answers: list[Answer]) -> bool:
    return _are_answered(answers) and len({answer.endpoint for answer in answers}) > 1


def _list_choices(objects: Objects, key: str) -> list[tuple[str, str, int]]:
    """The frontends of a Service with affinity whose slices have more than one endpoint for them."""
    service, *slices = _list_objects(objects, key)
    if service["spec"].get("sessionAffinity") != "ClientIP":
        return []
    ready = {
        (item["addressType"], endpoint["addresses"][0])
        for item in slices
        for endpoint in item["endpoints"]
        if endpoint["conditions"]["ready"]
    }
    count = Counter(family for family, _ in ready)
    return [place for place in list_places(service) if count["IPv6" if ":" in place[0] else "IPv4"] > 1]


def _list_objects(objects: Objects, key: str) -> list[Json]:
    """A Service and its slices."""
    return [objects[0].get(key, {}), *(item for name, item in sorted(objects[1].items()) if name.startswith(f"{key}-"))]
