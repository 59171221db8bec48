"""Builds the documents of a sample from figures. Pure: figures in, /stats/summary and cAdvisor shapes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vk_provider.agent.stats.cgroup import UNLIMITED, CgroupFigures, CpuFigures, MemoryFigures
from vk_provider.agent.stats.machine import InterfaceCounters
from vk_provider.jsontypes import Json

NANOSECONDS = 1_000_000_000


@dataclass(slots=True)
class ContainerSample:
    """One running container (or, with an empty name, the pod sandbox)."""

    name: str
    container_id: str
    image: str
    started_at: str
    figures: CgroupFigures
    nano_cores: int
    cgroup_path: str = ""
    rootfs_used: int | None = None
    rootfs_inodes: int | None = None
    log_bytes: int = 0
    started_s: float = 0.0


@dataclass(slots=True)
class VolumeSample:
    """One volume. `in_memory`: it does not count as ephemeral storage."""

    name: str
    used_bytes: int
    inodes_used: int
    file_system: Json = field(default_factory=dict)
    in_memory: bool = False


@dataclass(frozen=True, slots=True)
class PodSample:
    """Everything that was measured of the pod.

    sandbox:    None while it has no process
    figures:    of the pod's own cgroup when there is one, else the parts are added up
    nano_cores: the pod's CPU
    interfaces: the pod's own first
    file_system: FsStats of the instance's storage
    """

    containers: list[ContainerSample]
    sandbox: ContainerSample | None
    figures: CgroupFigures | None
    nano_cores: int
    interfaces: list[InterfaceCounters]
    volumes: list[VolumeSample]
    file_system: Json


def build_cpu(moment: str, cpu_ns: int, nano_cores: int) -> Json:
    return {"time": moment, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": cpu_ns}


def build_memory(moment: str, figures: CgroupFigures) -> Json:
    """MemoryStats; availableBytes only under a limit."""
    memory: Json = {
        "time": moment,
        "usageBytes": figures.memory.usage,
        "workingSetBytes": figures.working_set,
        "rssBytes": figures.memory.rss,
        "pageFaults": figures.memory.page_faults,
        "majorPageFaults": figures.memory.major_page_faults,
    }
    if figures.memory.limit is not None and figures.memory.limit < UNLIMITED:
        memory["availableBytes"] = max(0, figures.memory.limit - figures.working_set)
    return memory


def build_container(moment: str, sample: ContainerSample, file_system: Json) -> Json:
    """ContainerStats."""
    shared: Json = {
        name: file_system[name]
        for name in ("availableBytes", "capacityBytes", "inodesFree", "inodes")
        if name in file_system
    }
    document: Json = {
        "name": sample.name,
        "startTime": sample.started_at,
        "cpu": build_cpu(moment, sample.figures.cpu.total_ns, sample.nano_cores),
        "memory": build_memory(moment, sample.figures),
        "swap": {"time": moment, "swapUsageBytes": sample.figures.memory.swap},
        "logs": {"time": moment, **shared, "usedBytes": sample.log_bytes, "inodesUsed": 1},
    }
    if sample.rootfs_used is not None:
        rootfs = {"time": moment, **shared, "usedBytes": sample.rootfs_used}
        document["rootfs"] = {**rootfs, "inodesUsed": sample.rootfs_inodes or 0}
    return document


def build_network(moment: str, interfaces: list[InterfaceCounters]) -> Json:
    """NetworkStats; the first interface is the pod's own."""
    documents = [
        {
            "name": item.name,
            "rxBytes": item.rx_bytes,
            "rxErrors": item.rx_errors,
            "txBytes": item.tx_bytes,
            "txErrors": item.tx_errors,
        }
        for item in interfaces
    ]
    return {"time": moment, **(documents[0] if documents else {}), "interfaces": documents}


def build_pod(
    moment: str,
    pod: Json,
    sample: PodSample,
) -> Json:
    """PodStats."""
    metadata, containers, sandbox = pod["metadata"], sample.containers, sample.sandbox
    total = sample.figures or add_figures([item.figures for item in (*containers, *([sandbox] if sandbox else ()))])
    ephemeral: int = sum((item.rootfs_used or 0) + item.log_bytes for item in containers)
    ephemeral += sum(volume.used_bytes for volume in sample.volumes if not volume.in_memory)
    return {
        "podRef": {key: metadata.get(key, "") for key in ("name", "namespace", "uid")},
        "startTime": (pod.get("status") or {}).get("startTime") or metadata.get("creationTimestamp"),
        "containers": [build_container(moment, item, sample.file_system) for item in containers],
        "cpu": build_cpu(moment, total.cpu.total_ns, sample.nano_cores),
        "memory": build_memory(moment, total),
        "swap": {"time": moment, "swapUsageBytes": total.memory.swap},
        "network": build_network(moment, sample.interfaces),
        "volume": [
            {
                **item.file_system,
                "time": moment,
                "name": item.name,
                "usedBytes": item.used_bytes,
                "inodesUsed": item.inodes_used,
            }
            for item in sample.volumes
        ],
        "ephemeral-storage": {**sample.file_system, "time": moment, "usedBytes": ephemeral},
        "process_stats": {"process_count": sum(len(item.figures.pids) for item in containers)},
    }


def add_figures(parts: list[CgroupFigures]) -> CgroupFigures:
    """The sum of several cgroups; limits do not add up and are left out."""
    cpu = {name: sum(getattr(part.cpu, name) for part in parts) for name in _ADDED_CPU}
    memory = {name: sum(getattr(part.memory, name) for part in parts) for name in _ADDED_MEMORY}
    return CgroupFigures(
        CpuFigures(**cpu),
        MemoryFigures(**memory),
        threads=sum(part.threads for part in parts),
        pids=tuple(pid for part in parts for pid in part.pids),
        read_bytes=sum(part.read_bytes for part in parts),
        write_bytes=sum(part.write_bytes for part in parts),
    )


_ADDED_CPU = ("total_ns", "user_ns", "system_ns")
_ADDED_MEMORY = (
    "usage",
    "inactive_file",
    "rss",
    "cache",
    "mapped_file",
    "swap",
    "page_faults",
    "major_page_faults",
)


def build_cadvisor(
    now: float, containers: list[ContainerSample], sandbox: ContainerSample | None, interfaces: list[InterfaceCounters]
) -> list[Json]:
    """What /metrics/cadvisor shows of every container, and of the sandbox with the network."""
    documents = [_cadvisor_container(now, item, _container_samples(item)) for item in containers]
    if sandbox is not None:
        documents.append(_cadvisor_container(now, sandbox, _network_samples(interfaces)))
    return documents


def _cadvisor_container(now: float, item: ContainerSample, own: list[list[Any]]) -> Json:
    samples = [*own, ["container_last_seen", {}, int(now)]]
    if item.started_s:
        samples.append(["container_start_time_seconds", {}, item.started_s])
    return {
        "container": item.name,
        "id": "/" + item.cgroup_path,
        "name": item.container_id,
        "image": item.image,
        "samples": samples,
    }


def _container_samples(item: ContainerSample) -> list[list[Any]]:
    figures = item.figures
    samples: list[list[Any]] = [
        ["container_cpu_usage_seconds_total", {"cpu": "total"}, figures.cpu.total_ns / NANOSECONDS],
        ["container_cpu_user_seconds_total", {}, figures.cpu.user_ns / NANOSECONDS],
        ["container_cpu_system_seconds_total", {}, figures.cpu.system_ns / NANOSECONDS],
        ["container_memory_working_set_bytes", {}, figures.working_set],
        ["container_memory_usage_bytes", {}, figures.memory.usage],
        ["container_memory_rss", {}, figures.memory.rss],
        ["container_memory_cache", {}, figures.memory.cache],
        ["container_memory_mapped_file", {}, figures.memory.mapped_file],
        ["container_memory_swap", {}, figures.memory.swap],
        ["container_memory_failcnt", {}, figures.memory.failures],
        ["container_oom_events_total", {}, figures.memory.oom_kills],
        ["container_processes", {}, len(figures.pids)],
        ["container_threads", {}, figures.threads],
        ["container_fs_reads_bytes_total", {"device": ""}, figures.read_bytes],
        ["container_fs_writes_bytes_total", {"device": ""}, figures.write_bytes],
    ]
    for kind, count in (("pgfault", figures.memory.page_faults), ("pgmajfault", figures.memory.major_page_faults)):
        for scope in ("container", "hierarchy"):
            samples.append(["container_memory_failures_total", {"failure_type": kind, "scope": scope}, count])
    if item.rootfs_used is not None:
        samples.append(["container_fs_usage_bytes", {"device": ""}, item.rootfs_used])
    samples.extend(_limit_samples(figures))
    return samples


def _limit_samples(figures: CgroupFigures) -> list[list[Any]]:
    limit = figures.memory.limit
    samples: list[list[Any]] = [
        # cAdvisor writes 0 for "no limit".
        ["container_spec_memory_limit_bytes", {}, limit if limit is not None and limit < UNLIMITED else 0]
    ]
    if figures.memory.max_usage is not None:
        samples.append(["container_memory_max_usage_bytes", {}, figures.memory.max_usage])
    if figures.cpu.shares is not None:
        samples.append(["container_spec_cpu_shares", {}, figures.cpu.shares])
    if figures.cpu.period_us is not None:
        samples.append(["container_spec_cpu_period", {}, figures.cpu.period_us])
    if figures.cpu.quota_us is not None and figures.cpu.quota_us > 0:
        samples += [
            ["container_spec_cpu_quota", {}, figures.cpu.quota_us],
            ["container_cpu_cfs_periods_total", {}, figures.cpu.periods],
            ["container_cpu_cfs_throttled_periods_total", {}, figures.cpu.throttled_periods],
            ["container_cpu_cfs_throttled_seconds_total", {}, figures.cpu.throttled_ns / NANOSECONDS],
        ]
    return samples


def _network_samples(interfaces: list[InterfaceCounters]) -> list[list[Any]]:
    samples: list[list[Any]] = []
    for item in interfaces:
        label = {"interface": item.name}
        for direction, counts in (
            ("receive", (item.rx_bytes, item.rx_packets, item.rx_errors, item.rx_dropped)),
            ("transmit", (item.tx_bytes, item.tx_packets, item.tx_errors, item.tx_dropped)),
        ):
            for what, count in zip(("bytes", "packets", "errors", "packets_dropped"), counts, strict=True):
                samples.append([f"container_network_{direction}_{what}_total", label, count])
    return samples
