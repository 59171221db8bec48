"""The provider's own metrics are made in many turns of the event loop, and say what the library would say."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vk_provider.aiokit.computed import ComputedGauge
from vk_provider.kubelet.endpoints.metrics import render_metrics


async def test_others_have_their_turns_between_two_metrics() -> None:
    registry, turns, seen = CollectorRegistry(), 0, list[int]()
    Counter("calls", "Calls", ("verb",), registry=registry).labels("get").inc(3)
    Histogram("seconds", "Seconds", registry=registry).observe(0.2)
    Gauge("depth", "Depth", registry=registry).set(2)

    def compute() -> dict[tuple[str, ...], float]:
        seen.append(turns)
        return {("a",): 1.0, ("b",): 2.0}

    for number in range(3):
        ComputedGauge(f"computed_{number}", "Computed", ("name",), compute, registry)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    made = await render_metrics(registry)
    counting.cancel()
    assert len(set(seen)) == 3
    assert made == generate_latest(registry)
