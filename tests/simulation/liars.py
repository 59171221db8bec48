"""Pods that break out of their containers: from then on, the agent of their instance greets with lies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.simulation.agents import Agent
from vk_provider.jsontypes import Json

SERVICE_ACCOUNT = "hostile"
"""By which such a pod is known here; its labels and its size are those of others."""


def is_hostile(pod: Json) -> bool:
    return bool(pod["spec"].get("serviceAccountName") == SERVICE_ACCOUNT)


class Liars:
    """pods: those that exist now."""

    def __init__(self, rng: random.Random, pods: Callable[[], Sequence[Json]]) -> None:
        self._rng, self._pods = rng, pods

    def greet(self, agent: Agent, messages: list[Json]) -> list[Json]:
        """What the agent sends at first, instead of `messages`, where a hostile pod has run on its instance."""
        pod = agent.core.pod
        if pod is None or not is_hostile(pod) or not agent.core.has_run:
            return messages
        greeting, *others = messages
        uid = self._choose(agent)
        grant = {"grant": greeting["grant"]} if "grant" in greeting and self._rng.random() < 0.5 else {}
        kept = {name: value for name, value in greeting.items() if name != "grant"}
        return [{**kept, **grant, "podUID": uid}, *(others if uid == agent.core.uid else [])]

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
