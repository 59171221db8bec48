"""The stats of one Node, aggregated from the samples that agents pushed. Instances are not queried.

The Node's figures are the sums over its instances and the provider itself, which does the kubelet's work: so they are
never zero (metrics-server drops a Node whose CPU or memory is), and its CPU time does not decrease when an instance is
terminated.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from vk_provider.aiokit.guard import contained
from vk_provider.jsontypes import Json
from vk_provider.kubelet.provider import PodSource
from vk_provider.rfc3339 import format_milli_time
from vk_provider.wire.values import as_counter

_TERMINAL = ("Succeeded", "Failed")
_OF_LIMITS = frozenset({"availableBytes"})
"""Of a pod: what is left of its own limit, if it has one, which may be more than all instances have."""
NANOSECONDS = 1_000_000_000
BATCH = 250
"""Pods handled before the loop gets a turn: a few milliseconds."""


@dataclass(slots=True)
class CpuTotal:
    """Adds up CPU counters of instances that come and go.

    A counter seen first with less than `adopt_s` of life adds all of it; an older one (adopted after a restart of the
    provider) starts from where it is, so that the sum makes no jump.
    """

    total_ns: int = 0
    _last: dict[str, int] = field(default_factory=dict)

    def update(self, counters: Iterable[tuple[str, int, bool]]) -> int:
        """counters: (key, nanoseconds, is new). Returns the sum since the provider started."""
        seen: dict[str, int] = {}
        for key, value, is_new in counters:
            before = self._last.get(key, 0 if is_new else value)
            # A counter that went back counts again from its highest value on: one that jumps to and fro would else add
            # more to the Node than its instance can have used.
            highest = max(before, value)
            self.total_ns += highest - before
            seen[key] = highest
        self._last = seen
        return self.total_ns


def name_of(sample: object) -> object:
    """What a log calls the pod of a sample, whatever it is."""
    return sample.get("podUID") if isinstance(sample, dict) else "?"


@lru_cache(maxsize=16_384)
def parse_datetime(text: str | None) -> datetime | None:
    """RFC 3339 -> aware datetime; None when absent or malformed."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Resource usage of the provider's own process."""

    cpu_ns: int
    memory_bytes: int


def read_process_usage() -> ProcessUsage:
    """CPU time and resident memory of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return ProcessUsage(int((usage.ru_utime + usage.ru_stime) * NANOSECONDS), pages * resource.getpagesize())


class NodeSamples:
    """Collects the samples of one Node and keeps the state between scrapes (CPU total, rates)."""

    def __init__(self, node: str, source: PodSource, started_at: float) -> None:
        self._node, self._source, self._started_at = node, source, started_at
        self._cpu = CpuTotal()
        self._previous: tuple[float, int] | None = None

    async def collect(self) -> list[Json]:
        """Newest samples of the pods that have an instance and are not terminal. Yields to the loop in between."""
        found = []
        for number, pod in enumerate(list(self._source.pods(self._node))):
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)
            with contained(f"sample {number}"):
                sample = self._find(pod)
                if sample is not None:
                    found.append(sample)
        return found

    def _find(self, pod: Json) -> Json | None:
        if (pod.get("status") or {}).get("phase") in _TERMINAL:
            return None
        metadata = pod["metadata"]
        handle = self._source.find(metadata["namespace"], metadata["name"], metadata.get("uid"))
        return handle.stats if handle is not None and handle.instance is not None else None

    async def build_node(self, samples: list[Json], now: float, own: ProcessUsage) -> Json:
        """The `node` part of /stats/summary."""
        counters = [("provider", own.cpu_ns, True)]
        node_sum, pods_sum = _Sum(), _Sum(except_for=_OF_LIMITS)
        for number, sample in enumerate(samples):
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)
            with contained(f"the sample of pod {name_of(sample)}"):
                cpu_ns = int((sample["node"].get("cpu") or {}).get("usageCoreNanoSeconds") or 0)
                counters.append((str(sample["podUID"]), cpu_ns, self._is_new(sample)))
                for part in ("memory", "network", "fs", "rlimit"):
                    node_sum.add(part, sample["node"].get(part))
                for part in ("cpu", "memory"):
                    pods_sum.add(part, sample["pod"].get(part))
        total_ns = self._cpu.update(counters)
        moment = format_milli_time(now)
        memory = node_sum.part("memory", moment)
        for name in ("usageBytes", "workingSetBytes", "rssBytes"):
            memory[name] = memory.get(name, 0) + own.memory_bytes
        file_system = node_sum.part("fs", moment)
        return {
            "nodeName": self._node,
            "startTime": format_milli_time(self._started_at),
            "cpu": {"time": moment, "usageNanoCores": self._rate(now, total_ns), "usageCoreNanoSeconds": total_ns},
            "memory": memory,
            "systemContainers": [
                self._own_container(moment, own),
                {"name": "pods", "cpu": pods_sum.part("cpu", moment), "memory": pods_sum.part("memory", moment)},
            ],
            "network": node_sum.part("network", moment),
            "fs": file_system,
            "runtime": {"imageFs": file_system, "containerFs": file_system},
            "rlimit": node_sum.part("rlimit", moment),
        }

    def _is_new(self, sample: Json) -> bool:
        started = parse_datetime(sample["pod"].get("startTime"))
        return started is not None and started.timestamp() >= self._started_at

    def _rate(self, now: float, total_ns: int) -> int:
        before, self._previous = self._previous, (now, total_ns)
        if before is None or now <= before[0]:
            return 0
        return int((total_ns - before[1]) / (now - before[0]))

    def _own_container(self, moment: str, own: ProcessUsage) -> Json:
        return {
            "name": "kubelet",
            "startTime": format_milli_time(self._started_at),
            "cpu": {"time": moment, "usageCoreNanoSeconds": own.cpu_ns},
            "memory": {
                "time": moment,
                "usageBytes": own.memory_bytes,
                "workingSetBytes": own.memory_bytes,
                "rssBytes": own.memory_bytes,
            },
        }

    async def build_summary(self, only_cpu_and_memory: bool = False) -> Json:
        """The document of /stats/summary."""
        samples = await self.collect()
        node = await self.build_node(samples, time.time(), read_process_usage())
        if only_cpu_and_memory:
            node = {key: node[key] for key in ("nodeName", "startTime", "cpu", "memory", "systemContainers")}
        pods = []
        for sample in samples:
            with contained(f"the sample of pod {name_of(sample)}"):
                pod = sample["pod"]
                if pod["podRef"]:
                    pods.append(_only_cpu_and_memory(pod) if only_cpu_and_memory else pod)
        return {"node": node, "pods": pods}


class _Sum:
    """Adds up the numbers of parts of many documents; names, times and lists are left out. A sum stays an int64.

    except_for: figures that do not add up
    """

    def __init__(self, except_for: frozenset[str] = frozenset()) -> None:
        self._parts: dict[str, dict[str, int]] = {}
        self._except_for = except_for

    def add(self, name: str, document: Json | None) -> None:
        total = self._parts.setdefault(name, {})
        for figure, value in (document or {}).items():
            if type(value) is int and figure not in self._except_for:
                total[figure] = as_counter(total.get(figure, 0) + value)

    def part(self, name: str, moment: str) -> Json:
        return {"time": moment, **self._parts.get(name, {})}


def _only_cpu_and_memory(pod: Json) -> Json:
    kept: Json = {
        key: pod[key] for key in ("podRef", "startTime", "cpu", "memory", "swap", "process_stats") if key in pod
    }
    kept["containers"] = [
        {key: item[key] for key in ("name", "startTime", "cpu", "memory", "swap") if key in item}
        for item in pod.get("containers") or ()
    ]
    return kept
