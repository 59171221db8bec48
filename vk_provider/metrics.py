"""Prometheus metrics of the process: API and cloud calls by verb and result, event-loop stalls, own resources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from vk_provider.cloud.base import (
    Cloud,
    Instance,
    InstancePage,
    InstanceRuntime,
    LaunchAnswer,
    LaunchRequest,
    Notice,
    Offering,
    TerminateResult,
)
from vk_provider.errors import CloudError

ResultT = TypeVar("ResultT")

LOOP_TICK_S = 0.05
STALL_S = 0.1
REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class ProcessMetrics:
    """Metrics of the whole process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._api = Counter(
            "vk_api_requests_total", "API server requests", ("verb", "resource", "code"), registry=registry
        )
        self._api_seconds = Histogram(
            "vk_api_request_seconds",
            "Seconds of API server requests, watches left out",
            ("verb",),
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        self._cloud = Counter("vk_cloud_calls_total", "Cloud calls", ("verb", "result"), registry=registry)
        self._stalls = Counter("vk_event_loop_stalls_total", "Event loop stalls above 100 ms", registry=registry)
        self._longest = Gauge(
            "vk_event_loop_longest_stall_seconds", "Longest event loop stall so far", registry=registry
        )
        ProcessCollector(registry=registry)

    def observe_api_call(self, verb: str, resource_name: str, status: int, seconds: float) -> None:
        """KubeClient.metrics_hook."""
        self._api.labels(verb, resource_name, str(status)).inc()
        if verb != "watch":
            self._api_seconds.labels(verb).observe(seconds)

    def measure_cloud(self, cloud: Cloud) -> Cloud:
        """Wrap the cloud so that its calls are counted."""
        return MeasuredCloud(cloud, lambda verb, result: self._cloud.labels(verb, result).inc())

    async def watch_loop(self) -> None:
        """Root task: measures when the event loop was blocked for longer than 100 ms, without the time in which other
        processes had the CPU."""
        longest = 0.0
        while True:
            due, waited_s = time.monotonic() + LOOP_TICK_S, run_queue_seconds()
            await asyncio.sleep(LOOP_TICK_S)
            late_s = time.monotonic() - due - (run_queue_seconds() - waited_s)
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


class MeasuredCloud:
    """A Cloud that counts its calls by verb and result."""

    def __init__(self, cloud: Cloud, count: Callable[[str, str], None]) -> None:
        self._inner = cloud
        self._count = count
        self.name, self.shares_host_paths = cloud.name, cloud.shares_host_paths
        self.group_limit, self.listing_lag_s = cloud.group_limit, cloud.listing_lag_s

    async def start(self) -> None:
        await self._inner.start()

    async def close(self) -> None:
        await self._inner.close()

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        return await self._measure("launch", self._inner.launch(request))

    async def list_page(self, page: str = "") -> InstancePage:
        return await self._measure("list", self._inner.list_page(page))

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return await self._measure("describe", self._inner.describe(instance_ids))

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        return await self._measure("terminate", self._inner.terminate(instance_ids))

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        await self._measure("tags", self._inner.create_tags(instance_ids, tags))

    def notices(self) -> AsyncIterator[Notice]:
        return self._inner.notices()

    async def describe_offerings(self) -> list[Offering]:
        return await self._measure("offerings", self._inner.describe_offerings())

    async def describe_runtime(self) -> InstanceRuntime:
        return await self._measure("runtime", self._inner.describe_runtime())

    async def _measure(self, verb: str, call: Awaitable[ResultT]) -> ResultT:
        try:
            result = await call
        except CloudError as error:
            self._count(verb, type(error).__name__)
            raise
        self._count(verb, "ok")
        return result
