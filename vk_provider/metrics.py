"""Prometheus metrics of the process: API and cloud calls by verb and result, event-loop stalls, own resources."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from vk_provider.aiokit.metrics import Registry
from vk_provider.cloud.base import (
    Cloud,
    Instance,
    InstanceRuntime,
    LaunchRequest,
    LaunchResult,
    Offering,
    TerminateResult,
)
from vk_provider.errors import CloudError

ResultT = TypeVar("ResultT")

LOOP_TICK_S = 0.05
STALL_S = 0.1


class ProcessMetrics:
    """Metrics of the whole process."""

    def __init__(self, registry: Registry) -> None:
        self._api = registry.counter(
            "vk_api_requests_total", "API server requests", labels=("verb", "resource", "code")
        )
        self._api_seconds = registry.histogram(
            "vk_api_request_seconds", "Seconds of API server requests, watches left out", labels=("verb",)
        )
        self._cloud = registry.counter("vk_cloud_calls_total", "Cloud calls", labels=("verb", "result"))
        self._stalls = registry.counter("vk_event_loop_stalls_total", "Event loop stalls above 100 ms")
        self._longest = registry.gauge("vk_event_loop_longest_stall_seconds", "Longest event loop stall so far")
        registry.gauge("process_resident_memory_bytes", "Resident memory", collect=lambda: {(): resident_bytes()})
        registry.gauge("process_cpu_seconds_total", "CPU time", collect=lambda: {(): cpu_seconds()})

    def observe_api_call(self, verb: str, resource_name: str, status: int, seconds: float) -> None:
        """KubeClient.metrics_hook."""
        self._api.inc(verb, resource_name, str(status))
        if verb != "watch":
            self._api_seconds.observe(seconds, verb)

    def measure_cloud(self, cloud: Cloud) -> Cloud:
        """Wrap the cloud so that its calls are counted."""
        return MeasuredCloud(cloud, self._cloud.inc)

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


def resident_bytes() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_queue_seconds() -> float:
    """Total time that this thread has waited for a CPU; 0 when the kernel does not count it."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class MeasuredCloud:
    """A Cloud that counts its calls by verb and result."""

    def __init__(self, cloud: Cloud, count: Callable[..., Any]) -> None:
        self._inner = cloud
        self._count = count
        self.name, self.shares_host_paths = cloud.name, cloud.shares_host_paths

    async def start(self) -> None:
        await self._inner.start()

    async def close(self) -> None:
        await self._inner.close()

    async def launch(self, requests: Sequence[LaunchRequest]) -> list[LaunchResult]:
        return await self._measure("launch", self._inner.launch(requests))

    async def list_owned(self) -> list[Instance]:
        return await self._measure("list", self._inner.list_owned())

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return await self._measure("describe", self._inner.describe(instance_ids))

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        return await self._measure("terminate", self._inner.terminate(instance_ids))

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
