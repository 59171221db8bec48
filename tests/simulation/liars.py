"""Pods that break out of their containers: from then on, the agent of their instance greets with lies, and says others
after its greeting, on which its session may end."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence

from tests.hostile.templates import HONEST_IP, HOSTILE_NUMBERS, HOSTILE_TEXTS, TEMPLATES, fill, find_paths
from tests.simulation.agents import Agent
from vk_provider.jsontypes import Json

TIME = "2026-01-01T00:00:00Z"
SERVICE_ACCOUNT = "hostile"
"""By which such a pod is known here; its labels and its size are those of others."""


def is_hostile(pod: Json) -> bool:
    return bool(pod["spec"].get("serviceAccountName") == SERVICE_ACCOUNT)


LIES = 12
"""Of one agent: what it says is delayed for ever longer once its session has ended on some."""


class Liars:
    """pods: those that exist now. seed: of the run; lies are drawn for themselves, so that greetings are as without."""

    def __init__(self, seed: int, pods: Callable[[], Sequence[Json]]) -> None:
        self._rng, self._lies = random.Random(f"liars of {seed}"), random.Random(f"lies of {seed}")
        self._pods = pods
        self._said: Counter[str] = Counter()

    def greet(self, agent: Agent, messages: list[Json]) -> list[Json | bytes]:
        """What the agent sends at first, instead of `messages`, where a hostile pod has run on its instance."""
        pod = agent.core.pod
        if pod is None or not is_hostile(pod) or not agent.core.has_run:
            return [*messages]
        greeting, *others = messages
        uid = self._choose(agent)
        grant = {"grant": greeting["grant"]} if "grant" in greeting and self._rng.random() < 0.5 else {}
        kept = {name: value for name, value in greeting.items() if name != "grant"}
        greeted = {**kept, **grant, "podUID": uid}
        # A session that ends on a lie would hide what the provider makes of a false greeting.
        return [greeted, *others, *self._lie(agent)] if uid == agent.core.uid else [greeted]

    def _lie(self, agent: Agent) -> list[Json | bytes]:
        """A few: statuses, stats and events of others and its own, changed messages of every kind, and no messages."""
        if self._said[agent.instance.instance_id] >= LIES:
            return []
        count = self._lies.randint(1, 4)
        self._said[agent.instance.instance_id] += count
        return [self._draw_lie(agent) for _ in range(count)]

    def _draw_lie(self, agent: Agent) -> Json | bytes:
        rng, own = self._lies, agent.core.uid
        uid = rng.choice([own, *(pod["metadata"]["uid"] for pod in self._pods())])
        match rng.randrange(4):
            case 0:
                # Rarely the end of its own pod: that ends its lies, too.
                is_end = rng.random() < (0.1 if uid == own else 0.7)
                status = {"phase": rng.choice(("Succeeded", "Failed")) if is_end else "Running", "podIP": HONEST_IP}
                return {"type": "status", "podUID": uid, "status": status, "finished": is_end}
            case 1:
                sample = agent.core.stats(TIME)
                figures = sample[rng.choice(("node", "pod"))]
                figures["cpu"] = {"time": TIME, "usageCoreNanoSeconds": rng.choice((0, 2**40, 2**63 - 1))}
                figures["network"] = {"time": TIME, "rxBytes": 2**63 - 1}
                return {**sample, "podUID": uid}
        document = copy.deepcopy(rng.choice(TEMPLATES))
        path = rng.choice(find_paths(document))
        target = document
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = rng.choice((*HOSTILE_TEXTS, *HOSTILE_NUMBERS, None, [], {}))
        data = fill(json.dumps(document).encode(), own, uid, HONEST_IP)
        return data if rng.random() < 0.8 else data[: rng.randrange(len(data))]

    def _choose(self, agent: Agent) -> str:
        """Rather a pod that waits for an instance than one that has one."""
        drawn = self._rng.random()
        others = [pod for pod in self._pods() if pod["metadata"]["uid"] != agent.core.uid]
        waiting = [pod for pod in others if pod["status"].get("phase") == "Pending"]
        if drawn < 0.15:
            return agent.core.uid
        if drawn < 0.4 or not others:
            return ""
        return str(self._rng.choice(waiting or others)["metadata"]["uid"])
