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
        daily = 1 + 0.6 * math.sin(2 * math.pi * (step - 20 - 7 * number) / steps)
        return round((0.9 - 0.1 * min(number, 7)) * daily * (1 + 0.3 * ((step * (number + 3)) % 5 == 0)), 4)

    return CostHistory(
        NOW - 86400, 86400 / steps, {name: [rate(n, s) for s in range(steps)] for n, name in enumerate(names)}
    )


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
