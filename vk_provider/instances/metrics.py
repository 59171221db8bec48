"""Metrics of instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vk_provider.aiokit.computed import ComputedGauge
from vk_provider.instances.shortages import Shortage

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
GROUP_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class InstanceMetrics:
    """Durations are measured from the watch event of the pod's bind."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.launch_seconds = Histogram(
            "vk_pod_launch_seconds", "Seconds from bind seen to the launch call", buckets=SECONDS, registry=registry
        )
        self.launches = Counter("vk_instance_launches_total", "Launch results", ("result",), registry=registry)
        self.group_size = Histogram(
            "vk_launch_group_size", "Instances asked for in one launch call", buckets=GROUP_SIZES, registry=registry
        )
        self.terminations = Counter(
            "vk_instance_terminations_total", "Terminated instances", ("why",), registry=registry
        )
        self.violations = Counter(
            "vk_agent_protocol_errors_total",
            "Sessions closed because an agent broke the protocol",
            registry=registry,
        )
        self.mass_missing = Counter(
            "vk_mass_missing_total",
            "Answers that lacked so many instances or pods at once that nothing was concluded from them",
            ("where",),
            registry=registry,
        )
        self.orphans = Counter(
            "vk_orphan_instances_total", "Instances without a pod that were terminated", registry=registry
        )
        self.interruptions = Counter(
            "vk_instance_interruptions_total", "Interruptions that the cloud has announced", registry=registry
        )

        self.pool_hits = Counter(
            "vk_pool_hits_total", "Pods that got an instance of a pool", ("pool",), registry=registry
        )
        self.pool_misses = Counter(
            "vk_pool_misses_total",
            "Pods that an instance of the pool would have fitted while none was ready",
            ("pool",),
            registry=registry,
        )

    def follow_pools(
        self,
        states: Callable[[], Mapping[tuple[str, ...], float]],
        idle_cost: Callable[[], Mapping[tuple[str, ...], float]],
    ) -> None:
        """Register the gauges of the pools."""
        ComputedGauge(
            "vk_pool_instances",
            "Instances of pools by state; wanted is the size of the pool now",
            ("pool", "state"),
            states,
            self._registry,
        )
        ComputedGauge(
            "vk_pool_idle_usd_per_hour",
            "Price in USD an hour of the instances of pools that no pod has, with their disks, without stopped ones",
            ("pool",),
            idle_cost,
            self._registry,
        )

    def follow_shortages(self, current: Callable[[], Iterable[tuple[Shortage, float]]]) -> None:
        """Register the gauge of what is short."""
        ComputedGauge(
            "vk_offering_shortage_seconds",
            "Seconds for which offerings are avoided, as the cloud was short of them; an empty label is any",
            ("instance_type", "zone", "capacity_type", "family"),
            lambda: {
                (short.instance_type, short.zone, short.capacity_type, short.family): seconds
                for short, seconds in current()
            },
            self._registry,
        )

    def follow_budget(self, limits: Callable[[], Mapping[tuple[str, str], float]], held: Callable[[], int]) -> None:
        """Register the gauges of the budget."""
        ComputedGauge(
            "vk_budget_limit",
            "Limits of the budget, in USD an hour or in instances; no namespace: of all together",
            ("namespace", "kind"),
            limits,
            self._registry,
        )
        Gauge("vk_budget_held_pods", "Pods that wait for room in the budget", registry=self._registry).set_function(
            held
        )

    def follow(
        self, stages: Callable[[], Mapping[str, int]], sessions: Callable[[], int], stuck: Callable[[], int]
    ) -> None:
        """Register gauges that are computed at scrape time. stages: instances by stage; stuck: see ends.Ends."""
        ComputedGauge(
            "vk_instances",
            "Instances by stage",
            ("stage",),
            lambda: {(stage,): float(count) for stage, count in stages().items()},
            self._registry,
        )
        Gauge("vk_agent_sessions", "Open sessions to agents", registry=self._registry).set_function(sessions)
        Gauge(
            "vk_instances_not_terminated",
            "Instances that could not be terminated for more than five minutes",
            registry=self._registry,
        ).set_function(stuck)
