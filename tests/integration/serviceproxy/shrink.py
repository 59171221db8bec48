"""Makes a failing state small: objects and fields go as long as the two sides still differ."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence

from tests.integration.serviceproxy.sides import Sides, list_questions
from tests.service_history import Objects

MOST_TRIES = 60


def shrink(sides: Sides, states: Sequence[Objects], found: Sequence[str]) -> str:
    """The smallest state that still differs, as JSON with the difference; says so if the state alone does not."""
    for state in states:
        differing = _differences(sides, state)
        if differing:
            break
    else:
        return "(no single history differs when it is applied at once: it takes the changes, or all of them together)"
    tries, smaller = 0, True
    while smaller and tries < MOST_TRIES:
        smaller = False
        for candidate in _candidates(state):
            tries += 1
            now = _differences(sides, candidate)
            if now:
                state, differing, smaller = candidate, now, True
                break
            if tries >= MOST_TRIES:
                break
    return json.dumps({"services": state[0], "slices": state[1]}, indent=1) + "\n" + "\n".join(differing)


def _differences(sides: Sides, state: Objects) -> list[str]:
    sides.set(state)
    return sides.differences(list_questions(state, random.Random(1)))


def _candidates(state: Objects) -> Iterator[Objects]:
    for kind in (0, 1):
        for key in state[kind]:
            made = copy.deepcopy(state)
            del made[kind][key]
            yield made
    for key, item in state[1].items():
        for place in range(len(item["endpoints"])):
            made = copy.deepcopy(state)
            del made[1][key]["endpoints"][place]
            yield made
    removable = ("externalIPs", "loadBalancerSourceRanges", "externalTrafficPolicy", "internalTrafficPolicy")
    for key, item in state[0].items():
        for field in (*removable, "sessionAffinity"):
            if field in item["spec"] and item["spec"][field] not in ("Cluster", "None"):
                made = copy.deepcopy(state)
                del made[0][key]["spec"][field]
                yield made
        if len(item["spec"]["ports"]) > 1:
            made = copy.deepcopy(state)
            del made[0][key]["spec"]["ports"][-1]
            yield made
