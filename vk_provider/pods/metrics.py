"""The pod controller's own Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vk_provider.aiokit.metrics import Registry

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class PodMetrics:
    """Durations are measured from the watch event of the bind."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.launch_seconds = registry.histogram(
            "vk_pod_launch_seconds", "Seconds from bind seen to the launch call", buckets=SECONDS
        )
        self.agent_ready_seconds = registry.histogram(
            "vk_pod_agent_ready_seconds", "Seconds from bind seen to the agent's session", buckets=SECONDS
        )
        self.running_seconds = registry.histogram(
            "vk_pod_running_seconds", "Seconds from bind seen to Running accepted by the API server", buckets=SECONDS
        )
        self.launches = registry.counter("vk_instance_launches_total", "Launch results", labels=("result",))
        self.terminations = registry.counter("vk_instance_terminations_total", "Terminated instances", labels=("why",))
        self.status_patches = registry.counter(
            "vk_pod_status_patches_total", "Status PATCHes by result", labels=("result",)
        )
        self.violations = registry.counter(
            "vk_agent_protocol_errors_total", "Sessions closed because an agent broke the protocol"
        )
        self.mass_missing = registry.counter(
            "vk_mass_missing_total",
            "Answers that lacked so many instances or pods at once that nothing was concluded from them",
            labels=("where",),
        )
        self.orphans = registry.counter("vk_orphan_instances_total", "Instances without a pod that were terminated")

    def follow_stuck(self, stuck: Callable[[], int]) -> None:
        self._registry.gauge(
            "vk_instances_not_terminated",
            "Instances that could not be terminated for more than five minutes",
            (),
            lambda: {(): stuck()},
        )

    def follow(
        self, phases: Callable[[], Mapping[str, int]], sessions: Callable[[], int], depth: Callable[[], int]
    ) -> None:
        """Register gauges that are computed at scrape time."""
        self._registry.gauge(
            "vk_pods",
            "Pods by phase",
            ("phase",),
            lambda: {(phase,): float(count) for phase, count in phases().items()},
        )
        self._registry.gauge("vk_agent_sessions", "Open sessions to agents", (), lambda: {(): sessions()})
        self._registry.gauge("vk_work_queue_depth", "Pods being worked on", (), lambda: {(): depth()})
