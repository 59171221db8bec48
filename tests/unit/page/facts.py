"""Facts of a provider, for pages."""

from __future__ import annotations

import math
from typing import Any

from vk_provider.page.facts import (
    CostHistory,
    LatencyFacts,
    NamespaceFacts,
    NodeFacts,
    OfferingFacts,
    PageFacts,
)

NOW = 1_800_000_000.0


def make_history(names: list[str], steps: int = 96) -> CostHistory:
    def rate(number: int, step: int) -> float:
        """A day that is busy in its middle, and a batch that runs twice."""
        if number % 4 == 2:
            return 0.6 if step % (steps // 2) in range(20, 30) or step >= steps - 4 else 0.05
        daily = 1 + 0.45 * math.sin(2 * math.pi * (step - steps * 0.25 - 4 * number) / steps)
        wave = 1 + 0.03 * math.sin(step * (number + 2))
        return round((2.0, 1.3, 0.5, 0.3)[number % 4] * daily * wave, 4)

    rates = {name: [rate(number, step) for step in range(steps)] for number, name in enumerate(names)}
    return CostHistory(NOW - 86400, 86400 / steps, rates)


def make(**changed: Any) -> PageFacts:
    given: dict[str, Any] = {
        "version": "0.1.0",
        "cloud": "local",
        "owner": "demo",
        "now": NOW,
        "started_at": NOW - 5 * 86400,
        "nodes": [NodeFacts("nodeless-a", "z1", "", 61, 500), NodeFacts("nodeless-b", "z2", "", 23, 500)],
        "phases": {"Running": 84, "Pending": 3, "Succeeded": 12, "Failed": 0},
        "stages": {"assigned": 84, "booting": 3, "idle": 2},
        "offerings": [
            OfferingFacts("m7i.large", "z1", "on-demand", 31, 3.125),
            OfferingFacts("c7i.large", "z2", "spot", 38, 1.292),
            OfferingFacts("m7g.medium", "z1", "spot", 20, 0.372),
        ],
        "namespaces": [
            NamespaceFacts("shop", 40, 2.4, 3.0),
            NamespaceFacts("search", 25, 1.5, 1.6),
            NamespaceFacts("batch", 14, 0.6, 0.0),
            NamespaceFacts("ci", 10, 0.289, 0.0),
        ],
        "limit": 10.0,
        "history": make_history(["shop", "search", "batch", "ci"]),
        "launches": {"ok": 1240, "no-capacity": 9, "failed": 2},
        "latencies": [
            LatencyFacts("launch call", 1240, (0.012, 0.034, 0.081)),
            LatencyFacts("agent's session", 1238, (4.1, 6.9, 9.8)),
            LatencyFacts("Running", 1236, (5.3, 8.2, 12.4)),
        ],
        "shortages": [("type c7i.large, zone z1, capacity spot", 142.0)],
    }
    return PageFacts(**{**given, **changed})
