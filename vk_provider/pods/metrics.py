"""The pod controller's own Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vk_provider.aiokit.computed import ComputedGauge, LabelValues

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class PodMetrics:
    """Durations are measured from the watch event of the bind."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.tables = TableMetrics(registry)
        self.agent_ready_seconds = Histogram(
            "vk_pod_agent_ready_seconds",
            "Seconds from bind seen to the agent's session",
            buckets=SECONDS,
            registry=registry,
        )
        self.running_seconds = Histogram(
            "vk_pod_running_seconds",
            "Seconds from bind seen to Running accepted by the API server",
            buckets=SECONDS,
            registry=registry,
        )
        self.status_patches = Counter(
            "vk_pod_status_patches_total", "Status PATCHes by result", ("result",), registry=registry
        )

    def follow(self, phases: Callable[[], Mapping[str, int]], depth: Callable[[], int]) -> None:
        """Register gauges that are computed at scrape time."""
        ComputedGauge(
            "vk_pods",
            "Pods by phase",
            ("phase",),
            lambda: {(phase,): float(count) for phase, count in phases().items()},
            self._registry,
        )
        Gauge("vk_work_queue_depth", "Pods being worked on", registry=self._registry).set_function(depth)


class TableMetrics:
    """Of the tables that instances are sent (pods.tables)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        sent = Counter(
            "vk_table_sent_bytes_total", "Bytes of tables sent to agents", ("table", "kind"), registry=registry
        )
        applied = Histogram(
            "vk_table_applied_seconds",
            "Seconds from a change of a table to an agent's word that it is in force",
            ("table",),
            buckets=SECONDS,
            registry=registry,
        )
        # Several for each pod: to look a child up by its labels costs more than to count.
        self.sent_bytes, self.applied_seconds = cache(sent.labels), cache(applied.labels)
        self.failures = Counter(
            "vk_table_failures_total", "Tables that an agent did not apply", ("table",), registry=registry
        )

    def follow(self, behind_s: Callable[[], Iterable[tuple[str, float]]]) -> None:
        """Register gauges that are computed at scrape time. behind_s: for each table of each open session, its name and
        for how long it has been out of date."""

        def count() -> dict[LabelValues, float]:
            found: dict[LabelValues, float] = {}
            for name, seconds in behind_s():
                found[(name,)] = found.get((name,), 0.0) + (seconds > 0)
            return found

        def oldest() -> dict[LabelValues, float]:
            found: dict[LabelValues, float] = {}
            for name, seconds in behind_s():
                found[(name,)] = max(found.get((name,), 0.0), seconds)
            return found

        ComputedGauge("vk_tables_behind", "Agents whose table is not the newest", ("table",), count, self._registry)
        ComputedGauge(
            "vk_table_oldest_seconds",
            "Age of the newest table that some agent lacks longest",
            ("table",),
            oldest,
            self._registry,
        )
