"""The pod controller's own Prometheus metrics."""

from __future__ import annotations

from vk_provider.aiokit.metrics import Registry

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class PodMetrics:
    """Durations count from the moment the bind was seen."""

    def __init__(self, registry: Registry) -> None:
        self.launch_seconds = registry.histogram(
            "vk_pod_launch_seconds", "Seconds from bind seen to the launch call", buckets=SECONDS
        )
        self.agent_ready_seconds = registry.histogram(
            "vk_pod_agent_ready_seconds", "Seconds from bind seen to the agent's session", buckets=SECONDS
        )
        self.running_seconds = registry.histogram(
            "vk_pod_running_seconds", "Seconds from bind seen to Running accepted by the API server", buckets=SECONDS
        )
        self.pods = registry.gauge("vk_pods", "Pods by phase", labels=("phase",))
        self.sessions = registry.gauge("vk_agent_sessions", "Open sessions to agents")
        self.queue_depth = registry.gauge("vk_work_queue_depth", "Pods being worked on")
        self.launches = registry.counter("vk_instance_launches_total", "Launch results", labels=("result",))
        self.terminations = registry.counter("vk_instance_terminations_total", "Terminated instances", labels=("why",))
        self.status_patches = registry.counter("vk_pod_status_patches_total", "Status PATCHes by result",
                                               labels=("result",))  # fmt: skip
        self.orphans = registry.counter("vk_orphan_instances_total", "Instances without a pod that were terminated")
