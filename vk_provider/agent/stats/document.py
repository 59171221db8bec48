"""Builds the documents of a sample from figures. Pure: figures in, /stats/summary and cAdvisor shapes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vk_provider.agent.stats.cgroup import UNLIMITED, CgroupFigures
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
        "usageBytes": figures.memory_usage,
        "workingSetBytes": figures.working_set,
        "rssBytes": figures.rss,
        "pageFaults": figures.page_faults,
        "majorPageFaults": figures.major_page_faults,
    }
    if figures.memory_limit is not None and figures.memory_limit < UNLIMITED:
        memory["availableBytes"] = max(0, figures.memory_limit - figures.working_set)
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
        "cpu": build_cpu(moment, sample.figures.cpu_ns, sample.nano_cores),
        "memory": build_memory(moment, sample.figures),
        "swap": {"time": moment, "swapUsageBytes": sample.figures.swap},
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
        "cpu": build_cpu(moment, total.cpu_ns, sample.nano_cores),
        "memory": build_memory(moment, total),
        "swap": {"time": moment, "swapUsageBytes": total.swap},
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
    total = CgroupFigures()
    for part in parts:
        for name in (
            "cpu_ns",
            "cpu_user_ns",
            "cpu_system_ns",
            "memory_usage",
            "inactive_file",
            "rss",
            "cache",
            "mapped_file",
            "swap",
            "page_faults",
            "major_page_faults",
            "threads",
            "read_bytes",
            "write_bytes",
        ):
            setattr(total, name, getattr(total, name) + getattr(part, name))
        total.pids.extend(part.pids)
    return total


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
        ["container_cpu_usage_seconds_total", {"cpu": "total"}, figures.cpu_ns / NANOSECONDS],
        ["container_cpu_user_seconds_total", {}, figures.cpu_user_ns / NANOSECONDS],
        ["container_cpu_system_seconds_total", {}, figures.cpu_system_ns / NANOSECONDS],
        ["container_memory_working_set_bytes", {}, figures.working_set],
        ["container_memory_usage_bytes", {}, figures.memory_usage],
        ["container_memory_rss", {}, figures.rss],
        ["container_memory_cache", {}, figures.cache],
        ["container_memory_mapped_file", {}, figures.mapped_file],
        ["container_memory_swap", {}, figures.swap],
        ["container_memory_failcnt", {}, figures.memory_failures],
        ["container_oom_events_total", {}, figures.oom_kills],
        ["container_processes", {}, len(figures.pids)],
        ["container_threads", {}, figures.threads],
        ["container_fs_reads_bytes_total", {"device": ""}, figures.read_bytes],
        ["container_fs_writes_bytes_total", {"device": ""}, figures.write_bytes],
    ]
    for kind, count in (("pgfault", figures.page_faults), ("pgmajfault", figures.major_page_faults)):
        for scope in ("container", "hierarchy"):
            samples.append(["container_memory_failures_total", {"failure_type": kind, "scope": scope}, count])
    if item.rootfs_used is not None:
        samples.append(["container_fs_usage_bytes", {"device": ""}, item.rootfs_used])
    samples.extend(_limit_samples(figures))
    return samples


def _limit_samples(figures: CgroupFigures) -> list[list[Any]]:
    limit = figures.memory_limit
    samples: list[list[Any]] = [
        # cAdvisor writes 0 for "no limit".
        ["container_spec_memory_limit_bytes", {}, limit if limit is not None and limit < UNLIMITED else 0]
    ]
    if figures.memory_max_usage is not None:
        samples.append(["container_memory_max_usage_bytes", {}, figures.memory_max_usage])
    if figures.cpu_shares is not None:
        samples.append(["container_spec_cpu_shares", {}, figures.cpu_shares])
    if figures.cpu_period_us is not None:
        samples.append(["container_spec_cpu_period", {}, figures.cpu_period_us])
    if figures.cpu_quota_us is not None and figures.cpu_quota_us > 0:
        samples += [
            ["container_spec_cpu_quota", {}, figures.cpu_quota_us],
            ["container_cpu_cfs_periods_total", {}, figures.periods],
            ["container_cpu_cfs_throttled_periods_total", {}, figures.throttled_periods],
            ["container_cpu_cfs_throttled_seconds_total", {}, figures.throttled_ns / NANOSECONDS],
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
