"""Collects what the provider's page shows, a part at a time and not for each reader anew."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from vk_provider import __version__
from vk_provider.errors import VkError
from vk_provider.instances.room import Instances
from vk_provider.instances.shortages import Shortage
from vk_provider.ledger.ledger import Ledger
from vk_provider.ledger.span import NANOS, PREPARED_IMAGES
from vk_provider.node_service import Nodes
from vk_provider.page.document import render_page
from vk_provider.page.facts import (
    CostHistory,
    LatencyFacts,
    NamespaceFacts,
    NodeFacts,
    OfferingFacts,
    PageFacts,
    find_quantile,
)
from vk_provider.page.style import HEADERS
from vk_provider.podmodel.errors import QuantityError
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.pods.controller import PodController
from vk_provider.settings import CloudSettings

FRESH_S = 5.0
"""A page is shown to all who ask within this time."""
HISTORY_FRESH_S = 60.0
HISTORY_S = 24 * 3600.0
HISTORY_STEPS = 96
QUANTILES = (0.5, 0.95, 0.99)
LATENCIES = {
    "launch call": "vk_pod_launch_seconds",
    "agent's session": "vk_pod_agent_ready_seconds",
    "Running": "vk_pod_running_seconds",
}
LAUNCHES = "vk_instance_launches_total"


@dataclass(frozen=True, slots=True)
class Subjects:
    """What the page is about."""

    room: Instances
    ledger: Ledger
    controller: PodController
    nodes: Nodes
    registry: CollectorRegistry


class Overview:
    """kubelet.provider.StatusPage. `clock`: Unix seconds."""

    headers: Mapping[str, str] = HEADERS

    def __init__(self, subjects: Subjects, cloud: CloudSettings, clock: Callable[[], float] = time.time) -> None:
        self._subjects, self._cloud, self._clock = subjects, cloud, clock
        self._started_at = clock()
        self._history: CostHistory | None = None
        self._history_at = self._page_at = float("-inf")
        self._page = b""
        self._rendering = asyncio.Lock()

    async def render(self) -> bytes:
        async with self._rendering:
            if self._clock() - self._page_at >= FRESH_S:
                facts = await self.collect()
                self._page = (await asyncio.to_thread(render_page, facts)).encode()
                self._page_at = self._clock()
            return self._page

    async def collect(self) -> PageFacts:
        subjects, now = self._subjects, self._clock()
        room = subjects.room
        history = await self._read_history(now)
        limits = room.launches.budget.limits()
        return PageFacts(
            version=__version__,
            cloud=self._cloud.backend,
            owner=self._cloud.owner,
            now=now,
            started_at=self._started_at,
            nodes=list(self._nodes()),
            phases=subjects.controller.count_phases(),
            stages=Counter(str(owned.stage) for owned in room.table.owned.values()),
            offerings=self._offerings(),
            namespaces=self._namespaces(),
            limit=limits.get(("", "usd_per_hour"), 0.0),
            held_pods=len(room.launches.allotment.held),
            history=history,
            launches=self._launches(),
            latencies=[self._latency(name, metric) for name, metric in LATENCIES.items()],
            shortages=[(describe_shortage(short), left_s) for short, left_s in room.shortages.current()],
            problems=list(self._problems()),
        )

    async def _read_history(self, now: float) -> CostHistory | None:
        if now - self._history_at >= HISTORY_FRESH_S:
            try:
                found = await self._subjects.ledger.history(now - HISTORY_S, now, HISTORY_STEPS)
            except VkError:
                return None  # the ledger's problem is shown
            self._history, self._history_at = CostHistory(found.since, found.step_s, found.rates), now
        return self._history

    def _nodes(self) -> Iterator[NodeFacts]:
        records = self._subjects.controller.records.values()
        pods = Counter(record.node for record in records if record.exists and record.phase not in TERMINAL_PHASES)
        for service in self._subjects.nodes:
            name, node = service.spec.name, service.object or {}
            status = node.get("status") or {}
            ready = [each for each in status.get("conditions") or [] if each.get("type") == "Ready"]
            problem = "" if ready and ready[0].get("status") == "True" else "not registered yet"
            if ready and problem:
                problem = str(ready[0].get("message") or ready[0].get("reason") or "not Ready")
            yield NodeFacts(
                name, service.spec.zone, problem, pods[name], _count(service.spec.capacity.get("pods", "0"))
            )

    def _offerings(self) -> list[OfferingFacts]:
        found: dict[tuple[str, str, str], tuple[int, int]] = {}
        for span in self._subjects.room.meter.running():
            key = span.instance_type, span.zone, span.capacity_type
            count, nanos = found.get(key, (0, 0))
            found[key] = count + 1, nanos + span.rate_nanos
        return [OfferingFacts(*key, count, nanos / NANOS) for key, (count, nanos) in found.items()]

    def _namespaces(self) -> list[NamespaceFacts]:
        room = self._subjects.room
        limits = room.launches.budget.limits()
        names = room.meter.namespaces()
        facts = []
        for name in names:
            usage = room.meter.usage(name)
            limit = limits.get((name, "usd_per_hour"), limits.get(("*", "usd_per_hour"), 0.0) if name else 0.0)
            is_of_pods = name not in ("", PREPARED_IMAGES)
            facts.append(NamespaceFacts(name, usage.instances, usage.nanos / NANOS, limit if is_of_pods else 0.0))
        return facts

    def _launches(self) -> dict[str, int]:
        samples = [sample for family in self._families(LAUNCHES) for sample in family.samples]
        return {sample.labels["result"]: int(sample.value) for sample in samples}

    def _latency(self, name: str, metric: str) -> LatencyFacts:
        samples = [sample for family in self._families(f"{metric}_bucket") for sample in family.samples]
        buckets = sorted((float(sample.labels["le"]), sample.value) for sample in samples if "le" in sample.labels)
        count = int(buckets[-1][1]) if buckets else 0
        p50, p95, p99 = (find_quantile(buckets, share) for share in QUANTILES)
        return LatencyFacts(name, count, (p50, p95, p99))

    def _families(self, sample: str) -> Iterable[Metric]:
        return self._subjects.registry.restricted_registry([sample]).collect()

    def _problems(self) -> Iterator[str]:
        room, ledger = self._subjects.room, self._subjects.ledger
        if ledger.problem:
            yield ledger.problem
        if stuck := sorted(room.ends.stuck):
            yield f"{len(stuck)} instances cannot be terminated and cost money: {', '.join(stuck[:5])}"
        unpriced = sum(span.price_nanos is None for span in room.meter.running())
        if unpriced:
            yield f"for {unpriced} running instances no price is known: they are missing in all sums"


def describe_shortage(short: Shortage) -> str:
    parts = {"family": short.family, "type": short.instance_type, "zone": short.zone, "capacity": short.capacity_type}
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value) or "everything"


def _count(quantity: str) -> int:
    try:
        return int(parse_quantity(quantity))
    except QuantityError:
        return 0
