"""Prometheus metrics of the process: API and cloud calls by verb and result, event-loop stalls, own resources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from vk_provider.cloud.base import Cloud
from vk_provider.cloud.wrapped import ResultT, Verb, WrappedCloud
from vk_provider.errors import CloudError

LOOP_TICK_S = 0.05
STALL_S = 0.1
REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class ProcessMetrics:
    """Metrics of the whole process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "vk_api_requests_total", "API server requests", ("verb", "resource", "code"), registry=registry
        )
        seconds = Histogram(
            "vk_api_request_seconds",
            "Seconds of API server requests, watches left out",
            ("verb",),
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        # To look a child up by its labels costs more than to count.
        self._api, self._api_seconds = cache(requests.labels), cache(seconds.labels)
        self._cloud = Counter("vk_cloud_calls_total", "Cloud calls", ("verb", "result"), registry=registry)
        self._stalls = Counter("vk_event_loop_stalls_total", "Event loop stalls above 100 ms", registry=registry)
        self._longest = Gauge(
            "vk_event_loop_longest_stall_seconds", "Longest event loop stall so far", registry=registry
        )
        ProcessCollector(registry=registry)

    def observe_api_call(self, verb: str, resource_name: str, status: int, seconds: float) -> None:
        """KubeClient.metrics_hook."""
        self._api(verb, resource_name, str(status)).inc()
        if verb != "watch":
            self._api_seconds(verb).observe(seconds)

    def measure_cloud(self, cloud: Cloud) -> Cloud:
        """Wrap the cloud so that its calls are counted."""
        return MeasuredCloud(cloud, lambda verb, result: self._cloud.labels(verb, result).inc())

    async def watch_loop(self) -> None:
        """Root task: measures when the event loop was blocked for longer than 100 ms, without the time in which other
        processes had the CPU."""
        longest, waited_s = 0.0, run_queue_seconds()
        while True:
            due, waited_before_s = time.monotonic() + LOOP_TICK_S, waited_s
            await asyncio.sleep(LOOP_TICK_S)
            waited_s = run_queue_seconds()
            late_s = time.monotonic() - due - (waited_s - waited_before_s)
            if late_s > STALL_S:
                self._stalls.inc()
            if late_s > longest:
                longest = late_s
                self._longest.set(round(longest, 4))


def run_queue_seconds() -> float:
    """Total time that this thread has waited for a CPU; 0 when the kernel does not count it."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


class MeasuredCloud(WrappedCloud):
    """Counts its calls by verb and result."""

    def __init__(self, cloud: Cloud, count: Callable[[str, str], None]) -> None:
        super().__init__(cloud)
        self._count = count

    async def _around(self, verb: Verb, call: Awaitable[ResultT]) -> ResultT:
        try:
            result = await call
        except CloudError as error:
            self._count(verb, type(error).__name__)
            raise
        self._count(verb, "ok")
        return result
